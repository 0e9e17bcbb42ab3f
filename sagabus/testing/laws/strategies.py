"""Hypothesis strategies for the states of a saga, derived from the class of the state."""

from __future__ import annotations

import datetime
import decimal
import importlib
import sys
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import attrs
import msgspec
import msgspec.inspect as shapes

from sagabus.codec import StateCodec, check_codable, check_fields
from sagabus.errors import ConfigurationError, DefinitionError
from sagabus.hints import resolve_hints
from sagabus.messages import enclosing_names
from sagabus.secrecy.encrypted import Encrypted
from sagabus.secrecy.seating import is_secret
from sagabus.testing.keys import fall_back_on_test_keys
from sagabus.testing.laws.constraints import Constraint, opened, read_limits, read_validator

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

S = TypeVar("S")

# Few values, so that siblings often say the same, or say different things under one key. The first are the simplest.
_WHOLE: Final = (0, 1, 2, 3, -1)
_SPREAD: Final = (5, 10, 18, 50, 100, 300, 500, 700, 1000, 10_000, 1_000_000)
_WORDS: Final = ("a", "b", "c")
_SECRET: Final = {"encrypted": True}
NESTED: Final = 2
"""How deep a class that holds itself is nested."""
_EPOCH: Final = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
_STEPS: Final = tuple(datetime.timedelta(seconds=s) for s in (0, 1, 60, 86_400))
_PLAIN: Final[Mapping[type, tuple[Any, ...]]] = {
    shapes.NoneType: (None,),
    shapes.BoolType: (False, True),
    shapes.TimeDeltaType: _STEPS,
    shapes.DateType: tuple((_EPOCH + step).date() for step in (_STEPS[0], _STEPS[3])),
    shapes.DecimalType: tuple(map(decimal.Decimal, ("0", "1", "0.5", "-1"))),
    shapes.UUIDType: tuple(uuid.UUID(int=number) for number in (0, 1, 2)),
    shapes.AnyType: (None, False, True, 0, 1, "a", "b"),
}


def strategies() -> Any:
    """Return `hypothesis.strategies`, imported on first use: only tests need it.

    Raises:
        ConfigurationError: Hypothesis is not installed.
    """
    try:
        return importlib.import_module("hypothesis.strategies")
    except ImportError as error:
        raise ConfigurationError(
            f"generated states need Hypothesis, which cannot be imported ({error}); pip install 'sagabus[testing]'"
        ) from error


def states_of(state_class: type[S]) -> SearchStrategy[S]:
    """Return a strategy for states of *state_class*, each as it comes back from the store.

    Values are drawn from small alphabets, so that siblings often touch the same things; limits that are written as
    `attrs.validators` or `msgspec.Meta` are tried from both sides. What a validator refuses is not drawn. Floats are
    finite, and times with a zone are UTC.

    Raises:
        DefinitionError: the class could not be the state of a saga.
        ConfigurationError: it holds a type of which no values are known, or Hypothesis is not installed.
    """
    fall_back_on_test_keys()
    codec = codec_of(state_class, enclosing_names(sys._getframe(1)))
    return stored_states(codec)


def stored_states(codec: StateCodec[S]) -> SearchStrategy[S]:
    """Return a strategy for the states that *codec* writes and reads."""

    def stored(state: S) -> S | None:
        try:
            return codec.decode(codec.encode(state))
        except Exception:  # validators are the user's, and may raise anything
            return None

    made = _Values(strategies()).of(shapes.type_info(codec.state_type), Constraint())
    kept: SearchStrategy[S] = made.map(stored).filter(lambda state: state is not None)
    return kept


def is_strategy(value: Any) -> bool:
    """Return whether *value* is a Hypothesis strategy; where Hypothesis was never imported, nothing is."""
    hypothesis = sys.modules.get("hypothesis.strategies")
    return hypothesis is not None and isinstance(value, hypothesis.SearchStrategy)


def codec_of(state_class: type[S], names: Mapping[str, Any]) -> StateCodec[S]:
    """Return a codec for *state_class*, of which no saga says how to write it.

    Raises:
        DefinitionError: the class could not be the state of a saga.
    """
    subject = f"{state_class.__module__}.{state_class.__qualname__}"
    if not attrs.has(state_class):
        raise DefinitionError(subject, "is no attrs class", "Decorate it with @define")
    check_fields(state_class, subject, names)
    codecs: list[StateCodec[Any]] = []
    check_codable(lambda: codecs.append(StateCodec(state_class, 1)), state_class, subject)
    return codecs[0]


class _Values:
    """Makes strategies from what msgspec says of a type: exactly the types that a state may hold."""

    def __init__(self, st: Any) -> None:
        self._st = st
        self._within: list[type] = []

    def of(self, info: Any, constraint: Constraint) -> Any:
        """Return a strategy for values of the type *info* that meet *constraint*, as far as it can be read."""
        known = constraint.and_(read_limits(info))
        values = self._values(info, known)
        return values.filter(known.takes) if known.checks else values

    def _values(self, info: Any, known: Constraint) -> Any:
        if known.options is not None and not isinstance(info, shapes.UnionType | shapes.NoneType):
            return self._st.sampled_from(known.options)
        if type(info) in _PLAIN:
            return self._st.sampled_from(_PLAIN[type(info)])
        maker = getattr(self, f"_{type(info).__name__.removesuffix('Type').lower()}", None)
        if maker is None:
            raise ConfigurationError(
                f"no values are known for {type(info).__name__.removesuffix('Type')} in a state; "
                f"pass a Hypothesis strategy of states instead of the class"
            )
        return maker(info, known)

    # Single values.

    def _int(self, info: Any, known: Constraint) -> Any:
        numbers = {number for number in self._numbers(known) if -(2**63) <= number < 2**64}
        return self._st.sampled_from(_fitting(info, numbers))

    def _float(self, info: Any, known: Constraint) -> Any:
        numbers = {float(number) for number in (*self._numbers(known), 0.5)}
        return self._st.sampled_from(_fitting(info, numbers))

    def _str(self, info: Any, known: Constraint) -> Any:
        if known.pattern is not None:
            return self._st.from_regex(known.pattern, fullmatch=True)
        return self._st.sampled_from([word for word in (*_sized(_WORDS, known), "") if len(word) >= known.min_size])

    def _bytes(self, info: Any, known: Constraint) -> Any:
        return self._str(info, known).map(str.encode)

    def _bytearray(self, info: Any, known: Constraint) -> Any:
        return self._bytes(info, known).map(bytearray)

    def _datetime(self, info: Any, known: Constraint) -> Any:
        aware = [_EPOCH + step for step in _STEPS]
        return self._st.sampled_from([when.replace(tzinfo=None) for when in aware] if info.tz is False else aware)

    def _time(self, info: Any, known: Constraint) -> Any:
        zone = datetime.UTC if info.tz else None
        return self._st.sampled_from([datetime.time(hour, tzinfo=zone) for hour in (0, 1, 23)])

    def _enum(self, info: Any, known: Constraint) -> Any:
        return self._st.sampled_from(list(info.cls))

    def _literal(self, info: Any, known: Constraint) -> Any:
        return self._st.sampled_from(info.values)

    def _union(self, info: Any, known: Constraint) -> Any:
        members = sorted(info.types, key=lambda member: not isinstance(member, shapes.NoneType))
        return self._st.one_of([self.of(member, known) for member in members])

    # Containers.

    def _list(self, info: Any, known: Constraint) -> Any:
        return self._st.lists(self.of(info.item_type, opened(known.members)), **_sizes(known))

    def _set(self, info: Any, known: Constraint) -> Any:
        return self._st.sets(self.of(info.item_type, opened(known.members)), **_sizes(known))

    def _frozenset(self, info: Any, known: Constraint) -> Any:
        return self._set(info, known).map(frozenset)

    def _vartuple(self, info: Any, known: Constraint) -> Any:
        return self._list(info, known).map(tuple)

    _collection = _list

    def _tuple(self, info: Any, known: Constraint) -> Any:
        return self._st.tuples(*(self.of(item, opened(known.members)) for item in info.item_types))

    def _dict(self, info: Any, known: Constraint) -> Any:
        key_type = shapes.StrType() if isinstance(info.key_type, shapes.AnyType) else info.key_type
        keys = self.of(key_type, opened(known.keys))
        return self._st.dictionaries(keys, self.of(info.value_type, opened(known.members)), **_sizes(known))

    def _metadata(self, info: Any, known: Constraint) -> Any:
        values = self.of(info.type, Constraint())
        return values.map(Encrypted) if info.extra == _SECRET else values

    # Objects.

    def _dataclass(self, info: Any, known: Constraint) -> Any:
        return self._object(info, info.cls)

    _struct = _namedtuple = _typeddict = _dataclass

    def _object(self, info: Any, cls: type) -> Any:
        if self._within.count(cls) > NESTED:
            return self._st.nothing()
        self._within.append(cls)
        try:
            return self._made(info, cls)
        finally:
            self._within.pop()

    def _made(self, info: Any, cls: Callable[..., Any]) -> Any:
        own = {a.name: a for a in attrs.fields(cls)} if attrs.has(cls) else {}  # type: ignore[arg-type]
        values = {
            own[each.name].alias if each.name in own else each.name: self._field(each, own.get(each.name))
            for each in _unveiled_fields(info)
        }

        def make(arguments: dict[str, Any]) -> Any:
            try:
                return cls(**arguments)
            except Exception:  # validators are the user's, and may raise anything
                return None

        return self._st.fixed_dictionaries(values).map(make).filter(lambda made: made is not None)

    def _field(self, each: Any, attribute: attrs.Attribute[Any] | None) -> Any:
        if attribute is None or attribute.validator is None:
            return self.of(each.type, Constraint())
        constraint = read_validator(attribute.validator, attribute)
        values = self.of(each.type, constraint)
        default: Any = attribute.default
        if not constraint.opaque or default is attrs.NOTHING:
            return values
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, for all that its stub says
            return self._st.builds(default.factory) | values
        return self._st.just(default) | values

    def _numbers(self, known: Constraint) -> tuple[int, ...]:
        return (*_WHOLE, *known.numbers, *(_SPREAD if known.opaque else ()))


def _unveiled_fields(info: Any) -> list[Any]:
    """Return the fields of a class with what is `Encrypted` in them described, of which msgspec says nothing."""
    if not is_secret(info.cls):
        return list(info.fields)
    hints = resolve_hints(info.cls)
    return [
        msgspec.structs.replace(each, type=shapes.type_info(_unveiled(hints[each.name])))
        if is_secret(hints[each.name])
        else each
        for each in info.fields
    ]


def _unveiled(hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), tuple(map(_unveiled, typing.get_args(hint)))
    if origin is Encrypted:
        return Annotated[arguments[0], msgspec.Meta(extra=_SECRET)]
    if origin is Annotated:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[arguments]  # noqa: UP007 - there is no other way to make one of many
    return origin[arguments] if origin is not None and arguments else hint


def _fitting(info: Any, numbers: set[Any]) -> list[Any]:
    """Return those of *numbers* that the annotation allows, the simplest first."""
    fitting = [
        number
        for number in numbers
        if (info.gt is None or number > info.gt)
        and (info.ge is None or number >= info.ge)
        and (info.lt is None or number < info.lt)
        and (info.le is None or number <= info.le)
        and (info.multiple_of is None or number % info.multiple_of == 0)
    ]
    return sorted(fitting, key=lambda number: (number < 0, abs(number)))


def _sized(words: tuple[str, ...], known: Constraint) -> list[str]:
    """Return *words* made long enough, or cut; longer than the limit only where that contradicts itself."""
    longest = max(known.min_size, 1) if known.max_size is None else known.max_size
    return [(word * max(known.min_size, 1))[:longest] for word in words]


def _sizes(known: Constraint) -> dict[str, int]:
    most = known.min_size + 3
    return {"min_size": known.min_size, "max_size": most if known.max_size is None else min(most, known.max_size)}
