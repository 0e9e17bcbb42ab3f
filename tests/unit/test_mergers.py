"""Ready-made mergers keep the laws of merging, refuse what they cannot merge, and say how to mend it."""

from __future__ import annotations

import copy
import datetime
import enum
import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mergers
from mergers import (
    MergerDefinitionError,
    Rule,
    UnmergeableError,
    all_equal,
    all_true,
    any_true,
    by_key,
    either,
    fieldwise,
    first_of,
    highest,
    latest,
    lowest,
    nested,
    rule,
    union,
)

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

Cents = NewType("Cents", int)


class Stage(enum.Enum):
    OPEN = "open"
    PAID = "paid"
    CANCELLED = "cancelled"


@attrs.frozen
class Quote:
    amount: int
    at: int


@attrs.define
class Address:
    city: Annotated[str | None, first_of] = None
    floors: Annotated[set[int], union] = attrs.field(factory=set)


@attrs.define
class Node:
    """A class that nests itself."""

    weight: Annotated[int, highest] = 0
    child: Annotated[Node | None, nested] = None


@attrs.define
class Order:
    """One field for each rule, as a user writes them."""

    best: Annotated[int | None, highest] = None
    worst: Annotated[float, lowest] | None = None
    tags: Annotated[set[str], union] = attrs.field(factory=set)
    frozen_tags: Annotated[frozenset[int], union] = frozenset()
    scores: Annotated[dict[str, int | None], by_key(highest)] = attrs.field(factory=dict)
    starter: Annotated[list[int] | None, first_of] = None
    quote: Annotated[Quote | None, latest(by=lambda quote: quote.at)] = None
    note: Annotated[str | None, latest(by="noted_at")] = None
    noted_at: Annotated[int | None, highest] = None
    flagged: Annotated[bool, any_true] = False
    clean: Annotated[bool, all_true] = True
    address: Annotated[Address | None, nested] = None
    addresses: Annotated[dict[str, Address], by_key(nested)] = attrs.field(factory=dict)
    stage: Annotated[Stage, either(priority=[Stage.CANCELLED, Stage.PAID, Stage.OPEN])] = Stage.OPEN
    node: Annotated[Node, nested] = attrs.field(factory=Node)
    _private: Annotated[int, highest] = 0


merge_orders = fieldwise(Order)

small = st.integers(-3, 3)
names = st.sampled_from(["a", "b", "c"])
addresses = st.builds(Address, city=st.none() | names, floors=st.sets(small, max_size=3))
nodes = st.builds(Node, weight=small, child=st.none() | st.builds(Node, weight=small))
orders = st.builds(
    Order,
    best=st.none() | small,
    worst=st.none() | st.floats(allow_nan=False),
    tags=st.sets(names),
    frozen_tags=st.frozensets(small, max_size=3),
    scores=st.dictionaries(names, st.none() | small),
    starter=st.none() | st.lists(small, max_size=2),
    quote=st.none() | st.builds(Quote, small, small),
    note=st.none() | names,
    noted_at=st.none() | small,
    flagged=st.booleans(),
    clean=st.booleans(),
    address=st.none() | addresses,
    addresses=st.dictionaries(names, addresses, max_size=2),
    stage=st.sampled_from(Stage),
    node=nodes,
    private=small,
)


def folding(wanted: Rule, hint: Any = Any) -> Callable[..., Any]:
    """Return a function that merges single values by *wanted*, through a state with that one field."""
    state = attrs.make_class("State", {"value": attrs.field(type=hint)})
    merge: Callable[[Sequence[Any]], Any] = fieldwise(state, value=wanted)
    return lambda *values: merge([state(value) for value in values]).value


def outcome(fold: Callable[..., Any], *values: Any) -> Any:
    """Return what *fold* makes of *values*, or that it refuses them."""
    try:
        return fold(*values)
    except UnmergeableError:
        return UnmergeableError


@rule
def longest(values: Sequence[str]) -> str:
    return max(values, key=lambda value: (len(value), value))


mixed = (
    st.none()
    | small
    | names
    | st.tuples(st.none() | small)
    | st.frozensets(small, max_size=2)
    | st.dictionaries(names, small)
)

LAWFUL = {
    "highest": (highest, st.none() | small),
    "highest, dates": (highest, st.none() | st.dates()),
    "lowest": (lowest, st.none() | names),
    "union": (union, st.none() | st.sets(small)),
    "by_key(highest)": (by_key(highest), st.none() | st.dictionaries(names, st.none() | small)),
    "by_key(by_key(union))": (by_key(by_key(union)), st.dictionaries(names, st.dictionaries(names, st.sets(small)))),
    "first_of": (first_of, mixed),
    "latest": (latest(by=lambda quote: quote.at), st.none() | st.builds(Quote, small, small)),
    "latest, time unknown": (latest(by=lambda said: said[0]), st.tuples(st.none() | small, mixed)),
    "all_equal": (all_equal, st.none() | st.integers(0, 1)),
    "any_true": (any_true, st.none() | st.booleans()),
    "all_true": (all_true, st.none() | st.booleans()),
    "either": (either(priority=["c", "a"]), st.none() | names),
    "a user's rule": (longest, st.none() | st.text(max_size=3)),
}


@pytest.mark.parametrize("subject", LAWFUL)
@given(data=st.data())
def test_rule_over_any_values_keeps_the_laws(subject: str, data: st.DataObject) -> None:
    """Order, grouping and repetition of what siblings say never change what a rule makes of it."""
    wanted, values = LAWFUL[subject]
    a, b, c = data.draw(values), data.draw(values), data.draw(values)
    fold = folding(wanted)
    together = outcome(fold, a, b, c)
    for x, y, z in [(a, c, b), (b, a, c), (b, c, a), (c, a, b), (c, b, a)]:
        assert outcome(fold, x, y, z) == together
    if (left := outcome(fold, a, b)) is not UnmergeableError:
        assert outcome(fold, left, c) == together
    else:
        assert together is UnmergeableError
    if (alone := outcome(fold, a, a)) is not UnmergeableError:
        assert alone == a
    if (pair := outcome(fold, a, b)) is not UnmergeableError:
        assert outcome(fold, pair, a) == outcome(fold, pair, b) == outcome(fold, a, a, b) == pair


@pytest.mark.parametrize("subject", LAWFUL)
@given(data=st.data())
def test_rule_where_all_but_one_are_silent_keeps_what_was_said(subject: str, data: st.DataObject) -> None:
    """None says nothing: the one value that was said stands."""
    wanted, values = LAWFUL[subject]
    value = data.draw(values)
    fold = folding(wanted)
    assert outcome(fold, None, value, None) == outcome(fold, value)
    assert fold(None, None) is None


@given(orders, orders, orders)
def test_fieldwise_over_any_siblings_keeps_the_laws(a: Order, b: Order, c: Order) -> None:
    """Order, grouping and repetition of siblings never change the merged state."""
    together = merge_orders([a, b, c])
    assert merge_orders([c, a, b]) == merge_orders([b, a, c]) == together
    assert merge_orders([merge_orders([a, b]), c]) == merge_orders([a, merge_orders([b, c])]) == together
    assert merge_orders([together, a]) == together
    assert merge_orders([a, a]) == a


@given(orders, orders)
def test_fieldwise_after_merging_leaves_siblings_as_they_were(a: Order, b: Order) -> None:
    """A merger mutates no sibling, and what happens to the merged state later reaches none either."""
    before = copy.deepcopy((a, b))
    merged = merge_orders([a, b])
    merged.tags.add("later")
    merged.scores["later"] = 9
    (merged.starter or []).append(9)
    merged.node.weight = 9
    for address in [merged.address, *merged.addresses.values()]:
        if address is not None:
            address.floors.add(9)
    assert (a, b) == before


def test_fieldwise_of_a_race_keeps_what_each_sibling_learned() -> None:
    """Two replies handled at once are both in the merged state."""
    first = Order(best=3, tags={"x"}, scores={"equifax": 640}, stage=Stage.PAID, private=1)
    second = Order(best=5, tags={"y"}, scores={"experian": 700, "equifax": None}, flagged=True, clean=False)
    assert merge_orders([first, second]) == Order(
        best=5,
        tags={"x", "y"},
        scores={"equifax": 640, "experian": 700},
        flagged=True,
        clean=False,
        stage=Stage.PAID,
        private=1,
    )


def test_fieldwise_merger_names_its_state_and_rules() -> None:
    """A merger says which class it merges and by which rules, as they were written; it takes the siblings alone."""
    assert merge_orders.state_type is Order
    assert len(inspect.signature(merge_orders).parameters) == 1
    assert [repr(merge_orders.rules[name]) for name in ("scores", "note", "stage")] == [
        "by_key(highest)",
        "latest(by='noted_at')",
        f"either(priority={[Stage.CANCELLED, Stage.PAID, Stage.OPEN]!r})",
    ]


def test_latest_beside_a_time_keeps_the_value_of_that_time() -> None:
    """With a field as its time the later word wins, also where it takes the value back."""
    said, taken_back = Order(note="call", noted_at=1), Order(note=None, noted_at=2)
    assert merge_orders([said, taken_back]).note is None
    assert merge_orders([said, Order()]).note == "call"
    assert merge_orders([said, Order(note="mail", noted_at=1)]).note == "mail"


def test_merger_of_local_classes_resolves_their_names() -> None:
    """Annotations are strings here; classes made in this function are found, also from within a class body."""

    @attrs.define
    class Line:
        quantity: Annotated[Cents, highest] = Cents(0)

    @attrs.define
    class Basket:
        lines: Annotated[dict[str, Line], by_key(nested)] = attrs.field(factory=dict)

    class Holder:
        merge = staticmethod(fieldwise(Basket))

    for merge in (fieldwise(Basket), Holder.merge):
        merged = merge([Basket({"a": Line(Cents(1))}), Basket({"a": Line(Cents(2)), "b": Line()})])
        assert merged == Basket({"a": Line(Cents(2)), "b": Line()})


def test_merger_of_a_subclass_uses_the_rules_of_its_base() -> None:
    """An inherited field keeps its rule, and its annotation is read where it was written."""

    @attrs.define
    class Express(Address):
        hours: Annotated[int, lowest] = 24

    Stage = None  # noqa: F841, N806  a local name must not hide what the base's module means by it
    merged = fieldwise(Express)([Express("Kyoto", {1}, 12), Express(None, {2}, 20)])
    assert merged == Express("Kyoto", {1, 2}, 12)


def test_keyword_before_annotation_decides() -> None:
    """A rule given by keyword takes the place of the annotated one, and of one that cannot be read."""

    @attrs.define
    class Loan:
        amount: Annotated[int, highest] = 0
        limit: OnlyForTypeCheckers | int = 0

    assert fieldwise(Loan, amount=lowest, limit=highest)([Loan(1, 5), Loan(2, 6)]) == Loan(1, 6)


@pytest.mark.parametrize(
    ("wanted", "values", "path"),
    [
        (all_equal, (1, 2), "value"),
        (highest, (1, "a"), "value"),
        (highest, ({1}, {2}), "value"),
        (lowest, (1.0, float("nan")), "value"),
        (first_of, (object(), object()), "value"),
        (latest(by=lambda value: value), (1, "a"), "value"),
        (either(priority=["a"]), ("a", "z"), "value"),
        (any_true, (True, "yes"), "value"),
        (union, ({1}, [1]), "value"),
        (by_key(highest), ({1: 1}, [1]), "value"),
        (by_key(by_key(all_equal)), ({"a": {1: 1}}, {"a": {1: 2}}), "value['a'][1]"),
    ],
)
def test_rule_where_no_value_can_stand_for_all_says_where_and_why(
    wanted: Rule, values: tuple[Any, ...], path: str
) -> None:
    """The error carries the path to the values and the values themselves, and survives a process boundary."""
    with pytest.raises(UnmergeableError, match="siblings say") as caught:
        folding(wanted)(*values)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.field == path
    assert error.values == ((1, 2) if path.endswith("[1]") else values)
    assert str(error).startswith(f"{path}: siblings say {error.values[0]!r}, ")
    if wanted is not first_of:
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_nested_where_siblings_contradict_names_the_whole_path() -> None:
    """A contradiction deep inside is named from the state down."""

    @attrs.define
    class Person:
        email: Annotated[str | None, all_equal] = None

    @attrs.define
    class Account:
        owners: Annotated[dict[str, Person], by_key(nested)]
        holder: Annotated[Person, nested] = attrs.field(factory=Person)

    merge = fieldwise(Account)
    with pytest.raises(UnmergeableError, match="all_equal") as caught:
        merge([Account({"x": Person("a@b.c")}), Account({"x": Person("d@e.f")})])
    assert caught.value.field == "owners['x'].email"
    with pytest.raises(UnmergeableError, match="all_equal") as caught:
        merge([Account({}, Person("a@b.c")), Account({}, Person("d@e.f"))])
    assert caught.value.field == "holder.email"


def test_latest_beside_a_time_that_has_no_order_is_unmergeable() -> None:
    """Times of different types cannot say which word is the latest."""

    @attrs.define
    class Memo:
        text: Annotated[str, latest(by="at")]
        at: Annotated[Any, highest]

    with pytest.raises(UnmergeableError, match="cannot compare") as caught:
        fieldwise(Memo)([Memo("a", 1), Memo("b", "two")])
    assert caught.value.field == "text"
    assert caught.value.values == ("a", "b")


def test_merger_of_foreign_siblings_refuses_them() -> None:
    """Siblings of another class, also of a subclass whose fields would be lost, and no siblings at all are errors."""

    @attrs.define
    class Sub(Address):
        extra: int = 0

    merge = fieldwise(Address)
    with pytest.raises(TypeError, match=r"a merger of Address was given .*Sub; make one"):
        merge([Address(), Sub()])
    with pytest.raises(ValueError, match="no siblings of Address"):
        merge([])


def defining(hint: Any, **keywords: Any) -> MergerDefinitionError:
    """Return the error that a state with one field annotated *hint* meets."""
    state = attrs.make_class("State", {"value": attrs.field(type=hint)})
    with pytest.raises(MergerDefinitionError) as caught:
        fieldwise(state, **keywords)
    assert caught.value.state_type is state
    return caught.value


@pytest.mark.parametrize(
    ("hint", "mend"),
    [
        (int, "State.value: it has no rule; annotate it, as in Annotated[int, highest], or give one by keyword"),
        (Annotated[int, highest, lowest], "it has 2 rules, highest and lowest; keep one"),
        (Annotated[dict[str, int], by_key], "by_key stands there without its arguments; write by_key(…)"),
        (Annotated[dict[str, int], union], "its values are dict; union is for sets; by_key(rule) is for mappings"),
        (Annotated[set[int] | None, by_key(highest)], "its values are set; by_key is for mappings"),
        (Annotated[dict[str, int], by_key(max)], "no rule; write by_key(highest)"),  # type: ignore[arg-type]
        (Annotated[dict[str, list[int]], by_key(union)], "its values are list; union is for sets"),
        (Annotated[dict[str, int], by_key(latest(by="other"))], "reads the field 'other' of the state"),
        (Annotated[set[int], highest], "its values are set, which have no highest; use union or by_key(highest)"),
        (Annotated[int, any_true], "its values are int; any_true is for bool"),
        (Annotated[int, nested], "nested is for one attrs class"),
        (Annotated[Address | Quote, nested], "nested is for one attrs class"),
        (Annotated[str, latest(by="other")], "names no field of the class; it has only: value"),
        (Annotated[str, latest(by="value")], "needs value to be merged by highest, not latest"),
        (Annotated[str, either(priority=[])], "either needs at least one value"),
        (Annotated[str, either(priority=["a", "b", "a"])], "'a' stands twice"),
        (Annotated[Literal["a", "b"], either(priority=["a"])], "'b' has no place in either(priority=['a']); add it"),
        (Annotated[Stage, either(priority=[Stage.OPEN])], "<Stage.PAID: 'paid'> has no place"),
        ("Annotated[Nowhere, highest]", "its annotation names 'Nowhere', which cannot be found"),
    ],
)
def test_fieldwise_of_a_field_that_cannot_be_merged_says_what_to_write(hint: Any, mend: str) -> None:
    """Each definition error names the class, the field and the mend."""
    error = defining(hint)
    assert isinstance(error, TypeError)
    assert error.field == "value"
    assert str(error).startswith("State.value: ")
    assert mend in str(error)


def test_fieldwise_with_a_wrong_keyword_says_what_to_write() -> None:
    """A keyword that names no field, or brings no rule, is an error with the class, the field and the mend."""
    assert str(defining(int, vlaue=highest)) == "State.vlaue: a rule was given for it, but the class has only: value"
    assert "is no rule; name one of mergers" in str(defining(int, value=max))


def test_fieldwise_of_a_class_it_cannot_make_says_why() -> None:
    """No attrs class, an instance, a field outside `__init__`, a nested class without rules: each is named."""

    class Plain:
        pass

    @attrs.define
    class Counted:
        total: Annotated[int, highest] = attrs.field(default=0, init=False)

    @attrs.define
    class Holder:
        quote: Annotated[Quote, nested]

    for subject, message in [
        (Plain, "Plain: fieldwise merges attrs classes"),
        (Address(), "Address: fieldwise merges attrs classes"),
        (Counted, "Counted.total: a merger cannot set a field that __init__ does not take; drop init=False"),
        (Holder, "Quote.amount: it has no rule"),
    ]:
        with pytest.raises(MergerDefinitionError) as caught:
            fieldwise(subject)  # type: ignore[arg-type]
        assert message in str(caught.value)


def test_latest_by_aware_times_compares_instants() -> None:
    """Times of different zones are compared as instants."""
    utc = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    tokyo = utc.astimezone(datetime.timezone(datetime.timedelta(hours=9))) + datetime.timedelta(minutes=1)
    assert folding(latest(by=lambda said: said[0]))((utc, "first"), (tokyo, "second")) == (tokyo, "second")


def test_package_offers_what_it_names() -> None:
    """Every public name is there."""
    assert all(hasattr(mergers, name) for name in mergers.__all__)
