"""Generated states are what the store gives back, within the validators of their class, and siblings share a past."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import re
import sys
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict

import attrs
import msgspec
import pytest
from attrs import define, field, frozen
from attrs import validators as v
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from sagabus.errors import ConfigurationError, DefinitionError
from sagabus.testing.laws.constraints import Constraint, read_limits, read_validator
from sagabus.testing.laws.siblings import forks_of, siblings_of
from sagabus.testing.laws.strategies import codec_of, is_strategy, states_of

Cents = NewType("Cents", int)


class Stage(enum.Enum):
    OPEN = "open"
    PAID = "paid"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@frozen
class Quote:
    amount: int
    at: datetime.datetime


@dataclasses.dataclass
class Plain:
    text: str = ""


class Packed(msgspec.Struct):
    text: str = ""


class Pair(NamedTuple):
    left: int
    right: str


class Open(TypedDict):
    word: str


@define
class Node:
    """A class that holds itself."""

    weight: int = 0
    child: Node | None = None
    children: dict[str, Node] = field(factory=dict)


@define
class Wide:
    """One field for each type that a state may hold."""

    nothing: None = None
    flag: bool = False
    whole: int = 0
    cents: Cents = Cents(0)
    real: float = 0.0
    text: str = ""
    data: bytes = b""
    buffer: bytearray = field(factory=bytearray)
    zoned: datetime.datetime = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    naive: Annotated[datetime.datetime, msgspec.Meta(tz=False)] = datetime.datetime(2024, 1, 1)  # noqa: DTZ001
    day: datetime.date = datetime.date(2024, 1, 1)
    hour: datetime.time = datetime.time()
    zoned_hour: Annotated[datetime.time, msgspec.Meta(tz=True)] = datetime.time(tzinfo=datetime.UTC)
    span: datetime.timedelta = datetime.timedelta()
    price: decimal.Decimal = decimal.Decimal(0)
    id: uuid.UUID = field(factory=lambda: uuid.UUID(int=0))
    stage: Stage = Stage.OPEN
    level: Level = Level.LOW
    word: Literal["yes", "no"] = "yes"
    maybe: Optional[int] = None  # noqa: UP045 - the old spelling too
    either: int | str | None = None
    anything: Any = None
    listed: list[int] = field(factory=list)
    sequence: Sequence[str] = field(factory=list)
    unique: set[str] = field(factory=set)
    any_set: Set[int] = field(factory=frozenset)
    fixed: frozenset[int] = frozenset()
    two: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    scores: dict[str, int] = field(factory=dict)
    mapping: Mapping[str, list[int]] = field(factory=dict)
    bare_list: list = field(factory=list)  # type: ignore[type-arg]
    bare_dict: dict = field(factory=dict)  # type: ignore[type-arg]
    quote: Quote | None = None
    quotes: dict[str, Quote] = field(factory=dict)
    plain: Plain = field(factory=Plain)
    packed: Packed = field(factory=Packed)
    pair: Pair = field(factory=lambda: Pair(0, ""))
    open: Open = field(factory=lambda: Open(word=""))
    node: Node = field(factory=Node)
    noted: Annotated[int, "a rule stands here"] = 0


@define
class Narrow:
    """Some of the fields of `Wide`, so few that a few states show every value."""

    nothing: None = None
    flag: bool = False
    whole: int = 0
    real: float = 0.0
    text: str = ""
    data: bytes = b""
    stage: Stage = Stage.OPEN
    level: Level = Level.LOW
    word: Literal["yes", "no"] = "yes"
    maybe: Optional[int] = None  # noqa: UP045 - the old spelling too
    either: int | str | None = None
    anything: Any = None


def even(instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if value % 2:
        raise ValueError("odd")


@define
class Limited:
    """One field for each validator that can be read, and some that cannot."""

    score: int = field(default=300, validator=[v.instance_of(int), v.ge(300), v.le(850)])
    ratio: float = field(default=0.25, validator=v.and_(v.gt(0), v.lt(1)))
    kind: str = field(default="x", validator=v.in_(["x", "y"]))
    unsaid: str | None = field(default=None, validator=v.optional(v.in_(["x", "y"])))
    name: str = field(default="abc", validator=[v.min_len(3), v.max_len(5)])
    code: str = field(default="A1", validator=v.matches_re(r"[A-C]\d"))
    two: list[int] = field(factory=lambda: [7, 7], validator=[v.min_len(2), v.deep_iterable(v.ge(7), v.max_len(2))])
    keyed: dict[str, int] = field(
        factory=dict, validator=v.deep_mapping(v.min_len(2), v.gt(20), mapping_validator=v.max_len(2))
    )
    far: int = field(default=5, validator=v.or_(v.lt(-900), v.gt(900), v.in_([5])))
    not_small: int = field(default=9, validator=v.not_(v.lt(9)))
    own: int = field(default=1234, validator=lambda i, a, value: even(i, a, value))
    own_list: list[int] = field(factory=lambda: [40], validator=lambda i, a, value: even(i, a, sum(value)))
    meta: Annotated[int, msgspec.Meta(ge=100, lt=110, multiple_of=5)] = 100
    step: Annotated[float, msgspec.Meta(gt=0, le=1.5, multiple_of=0.5)] = 0.5
    short: Annotated[str, msgspec.Meta(min_length=2, max_length=2)] = "aa"
    shaped: Annotated[str, msgspec.Meta(pattern="^x+$")] = "x"
    unfit: Annotated[int, msgspec.Meta(ge=1)] = field(default=0, validator=even)
    blob: Annotated[bytes, msgspec.Meta(min_length=2)] = b"aa"


@define
class Ordered:
    """Its validator compares two fields."""

    low: int = 0
    high: int = field(default=0)

    @high.validator
    def _above(self, attribute: attrs.Attribute[int], value: int) -> None:
        if value < self.low:
            raise ValueError("high is below low")


@define
class Part:
    """Has no default, so that it is no saga's state, but a part of one."""

    n: int = field(validator=even)


@define
class Small:
    part: Part = field(factory=lambda: Part(2))
    flag: bool = False
    names: set[str] = field(factory=set)


@define
class Empty:
    pass


WIDE = codec_of(Wide, {})
LIMITED = codec_of(Limited, {})


def drawn(state_class: type, number: int) -> list[Any]:
    """Return many generated states."""
    found: list[Any] = []

    @settings(max_examples=number, database=None, derandomize=True)
    @given(states_of(state_class))
    def draw(state: Any) -> None:
        found.append(state)

    draw()
    return found


@pytest.fixture(scope="module")
def wide_states() -> list[Wide]:
    return drawn(Wide, 60)


@pytest.fixture(scope="module")
def narrow_states() -> list[Narrow]:
    return drawn(Narrow, 200)


@pytest.fixture(scope="module")
def limited_states() -> list[Limited]:
    return drawn(Limited, 200)


def test_states_of_a_wide_class_survive_the_store(wide_states: list[Wide]) -> None:
    """What is generated is what the store gives back, for every type that a state may hold."""
    assert [WIDE.decode(WIDE.encode(state)) for state in wide_states] == wide_states


def test_states_of_a_limited_class_keep_its_validators(limited_states: list[Limited]) -> None:
    """Nothing is generated that a validator or msgspec.Meta would refuse."""
    for state in limited_states:
        attrs.validate(state)  # type: ignore[arg-type]
    assert [LIMITED.decode(LIMITED.encode(state)) for state in limited_states] == limited_states


@given(states_of(Ordered))
def test_states_whose_fields_limit_each_other_keep_to_it(state: Ordered) -> None:
    """A validator may read other fields."""
    assert state.low <= state.high


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", {None}),
        ("flag", {False, True}),
        ("whole", {0, 1, 2, 3, -1}),
        ("real", {0.0, 0.5, 1.0, 2.0, 3.0, -1.0}),
        ("text", {"", "a", "b", "c"}),
        ("data", {b"", b"a", b"b", b"c"}),
        ("stage", set(Stage)),
        ("level", set(Level)),
        ("word", {"yes", "no"}),
        ("maybe", {None, 0, 1, 2, 3, -1}),
        ("either", {None, 0, 1, 2, 3, -1, "", "a", "b", "c"}),
        ("anything", {None, 0, 1, "a", "b"}),
    ],
)
def test_states_draw_from_small_alphabets(narrow_states: list[Narrow], name: str, expected: set[Any]) -> None:
    """Few values, all of them drawn, so that siblings often meet."""
    assert {getattr(state, name) for state in narrow_states} == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("score", {300, 301, 849, 850}),
        ("kind", {"x", "y"}),
        ("unsaid", {None, "x", "y"}),
        ("name", {"aaa", "bbb", "ccc"}),
        ("far", {5, -901, 901}),
        ("own", {1234, 0, 2}),
        ("not_small", {9, 10}),
        ("meta", {100, 105}),
        ("unfit", {2}),
        ("step", {0.5, 1.0, 1.5}),
        ("short", {"aa", "bb", "cc"}),
        ("blob", {b"aa", b"bb", b"cc"}),
    ],
)
def test_states_try_the_limits_of_validators(limited_states: list[Limited], name: str, expected: set[Any]) -> None:
    """Values stand at the limits that validators name; where one cannot be read, the default is among them."""
    assert expected <= {getattr(state, name) for state in limited_states}


def test_states_hold_collections_of_the_sizes_that_validators_want(limited_states: list[Limited]) -> None:
    """Lists are long enough, mappings have the keys and values that deep validators take."""
    assert {len(state.two) for state in limited_states} == {2}
    assert {len(state.keyed) for state in limited_states} == {0, 1, 2}


def test_states_of_a_class_that_holds_itself_nest() -> None:
    """Recursion ends, and happens."""
    nested = find(
        states_of(Node),
        lambda node: node.child is not None and node.child.child is not None,
        settings=settings(database=None, phases=[Phase.generate]),
    )
    assert nested.child.child.child is None


def test_states_of_a_class_inside_a_function_know_its_names() -> None:
    """Annotations may name what only the function knows."""

    @define
    class Inner:
        n: int = 0

    @define
    class Outer:
        inner: Inner = field(factory=Inner)

    simplest = find(states_of(Outer), lambda state: True, settings=settings(database=None))
    assert simplest == Outer(Inner(0))


@define
class Holding:
    raw: msgspec.Raw = field(factory=lambda: msgspec.Raw(b"\x01"))


@pytest.mark.parametrize(
    ("error", "match", "ask"),
    [
        (DefinitionError, "Decorate it with @define", lambda: states_of(int)),
        (ConfigurationError, "no values are known for Raw", lambda: states_of(Holding)),
    ],
)
def test_states_of_what_is_no_state_says_what_to_do(
    error: type[Exception], match: str, ask: Callable[[], object]
) -> None:
    """A class that cannot be generated is refused with the next step."""
    with pytest.raises(error, match=match):
        ask()


def test_states_without_hypothesis_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis is needed by tests alone, and asked for where it is missing."""
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'sagabus[testing]'")):
        states_of(Wide)
    monkeypatch.delitem(sys.modules, "hypothesis.strategies")
    assert not is_strategy(3)


# -- siblings --------------------------------------------------------------------------------------------------------


def test_siblings_share_equal_differ_in_one_field_and_stand_alone() -> None:
    """Every way in which siblings can be related is drawn."""
    seen: collections.Counter[str] = collections.Counter()

    @settings(max_examples=150, database=None, derandomize=True)
    @given(siblings_of(states_of(Small)))
    def draw(siblings: tuple[Small, ...]) -> None:
        a, b = (attrs.asdict(state) for state in siblings[:2])
        different = sum(a[name] != b[name] for name in a)
        seen["equal" if not different else "one field" if different == 1 else "many"] += 1
        seen[f"{len(siblings)} siblings"] += 1

    draw()
    assert min(seen[kind] for kind in ("equal", "one field", "many", "2 siblings", "3 siblings", "4 siblings")) >= 5


@given(siblings_of(states_of(Ordered)))
def test_siblings_with_one_field_changed_keep_their_validators(siblings: tuple[Ordered, ...]) -> None:
    """A change that a validator refuses is not made."""
    assert all(state.low <= state.high for state in siblings)


@given(siblings_of(states_of(Empty), most=2))
def test_siblings_of_a_class_without_fields_are_equal(siblings: tuple[Empty, ...]) -> None:
    """Where there is nothing to say, siblings say the same."""
    assert siblings == (Empty(), Empty())


@given(forks_of(states_of(Ordered), st.just(Ordered(1, 2))))
def test_forks_come_from_the_ancestor(fork: tuple[Ordered, Ordered, Ordered]) -> None:
    """Siblings come with the ancestor that they were made from."""
    assert fork[2] == Ordered(1, 2)


def test_forks_have_sides_that_did_not_change() -> None:
    """One side unchanged is what an ancestor is for."""
    one_sided = find(
        forks_of(states_of(Small), states_of(Small)),
        lambda fork: fork[0] == fork[2] != fork[1],
        settings=settings(database=None, phases=[Phase.generate]),
    )
    assert one_sided[0] == one_sided[2]


# -- what validators say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (None, Constraint()),
        (v.ge(3), Constraint(numbers=(2, 3, 4))),
        (v.gt("a"), Constraint()),
        (v.in_([1, 2]), Constraint(options=(1, 2))),
        (v.min_len(2), Constraint(min_size=2)),
        (v.max_len(2), Constraint(max_size=2)),
        (v.and_(v.min_len(1), v.max_len(4), v.max_len(2)), Constraint(min_size=1, max_size=2)),
        (v.optional(v.lt(1)), Constraint(numbers=(0, 1, 2))),
        (v.or_(v.lt(1), v.min_len(3)), Constraint(numbers=(0, 1, 2), opaque=True)),
        (v.not_(v.lt(1)), Constraint(numbers=(0, 1, 2), opaque=True)),
        (v.instance_of(int), Constraint()),
        (even, Constraint(opaque=True)),
        (v.deep_iterable(v.lt(1)), Constraint(members=Constraint(numbers=(0, 1, 2)))),
        (
            v.and_(v.deep_iterable(v.lt(1)), v.deep_iterable(v.max_len(1))),
            Constraint(members=Constraint(numbers=(0, 1, 2), max_size=1)),
        ),
        (
            v.deep_mapping(v.min_len(1), v.in_([1]), v.max_len(2)),
            Constraint(keys=Constraint(min_size=1), members=Constraint(options=(1,)), max_size=2),
        ),
    ],
)
def test_validator_is_read_as_far_as_it_can_be(validator: Any, expected: Constraint) -> None:
    """What attrs's own validators say is known; any other is opaque."""
    assert read_validator(validator, attrs.fields(Part).n) == expected


def test_limits_of_an_annotation_are_read() -> None:
    """msgspec.Meta says its limits in the description of the type."""
    info = msgspec.inspect.type_info(typing.cast(Any, Annotated[int, msgspec.Meta(ge=10, multiple_of=5)]))
    known = read_limits(info)
    assert {9, 10, 11, 5, 15, 0} <= set(known.numbers)
    assert read_limits(msgspec.inspect.type_info(bool)) == Constraint()
