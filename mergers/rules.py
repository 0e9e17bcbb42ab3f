"""Rules that choose one of the values that siblings say."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Sequence, Set
from typing import Any, Final, Literal

from mergers.annotations import bare, class_of
from mergers.binding import Beside, Place, Rule, comparing
from mergers.bound import Fold
from mergers.errors import UnmergeableError
from mergers.order import owned, rank

_ALWAYS_ORDERED: Final = frozenset({str, int, bool, bytes})


def _extreme(name: str, choose: Callable[[Sequence[Any]], Any]) -> Rule:
    def ordered(values: Sequence[Any]) -> Any:
        if _ALWAYS_ORDERED.issuperset(map(type, values)):
            return choose(values)
        if any(isinstance(value, Set) for value in values):
            raise UnmergeableError(tuple(values), "sets have no highest or lowest; use union")
        if any(value != value for value in values):  # NaN, which alone differs from itself
            raise UnmergeableError(tuple(values), "NaN is neither higher nor lower than anything; store None instead")
        return choose(values)

    def bind(place: Place) -> Fold:
        found = class_of(place.hint)
        if found is not None and issubclass(found, Set | dict):
            raise place.error(f"its values are {found.__name__}, which have no {name}; use union or by_key({name})")
        return comparing(name, ordered)

    return Rule(name, bind)


highest = _extreme("highest", max)
"""Keep the greatest value."""

lowest = _extreme("lowest", min)
"""Keep the least value."""


def _first_of(values: Sequence[Any]) -> Any:
    return min(values, key=rank)


first_of = Rule("first_of", lambda place: comparing("first_of", _first_of))
"""Keep one of the values that were said, for fields that are written once.

Where siblings say different ones it is the first in sort order, so that every worker keeps the same.
"""


def _all_equal(values: Sequence[Any]) -> Any:
    if any(value != values[0] for value in values):
        raise UnmergeableError(tuple(values), "all_equal allows one value; choose a rule that says which of them wins")
    return values[0]


all_equal = Rule("all_equal", lambda place: comparing("all_equal", _all_equal))
"""Keep the value that all siblings say; `UnmergeableError` where they differ."""


def _of_booleans(name: str, choose: Callable[[Sequence[Any]], bool]) -> Rule:
    def bind(place: Place) -> Fold:
        place.require(bool, mend=f"{name} is for bool")

        def of_booleans(values: Sequence[Any]) -> bool:
            if not all(isinstance(value, bool) for value in values):
                raise UnmergeableError(tuple(values), f"{name} is for bool")
            return choose(values)

        return of_booleans

    return Rule(name, bind)


any_true = _of_booleans("any_true", any)
"""True once any sibling says True."""

all_true = _of_booleans("all_true", all)
"""True only while no sibling says False."""


def latest(*, by: str | Callable[[Any], Any]) -> Rule:
    """Keep the value that was said last.

    Args:
        by: when it was said. A function of the value (`lambda quote: quote.at`), or the name of another field of the
            state, which must itself be merged by `highest`, or grouping the siblings otherwise would change the
            result. With a field, its time is what counts: a None said later wins over a value said earlier.

    Equal times are decided by the values' own order, the same in every process.
    """
    if callable(by):
        own_name = f"latest(by={getattr(by, '__name__', repr(by))})"

        def of_value(values: Sequence[Any]) -> Any:
            return max(values, key=lambda value: (_said(by(value)), rank(value)))

        return Rule(own_name, lambda place: comparing(own_name, of_value))

    name = f"latest(by={by!r})"

    def of_pair(pairs: Sequence[tuple[Any, Any]]) -> Any:
        try:
            return owned(max(pairs, key=lambda pair: (_said(pair[0]), rank(pair[1])))[1])
        except TypeError as error:
            raise UnmergeableError(
                tuple(value for _, value in pairs), f"{name} cannot compare them: {error}"
            ) from error

    within = "give a function of the value, as in latest(by=lambda value: value.at)"
    return Rule(name, lambda place: of_pair, Beside(by, highest, within))


def _said(when: Any) -> tuple[Any, ...]:
    return () if when is None else (when,)


def either(*, priority: Sequence[Any]) -> Rule:
    """Keep the value that stands first in *priority*; for lifecycles, such as `["cancelled", "paid", "open"]`.

    Where the field is an enum or a `Literal`, each of its members must have a place in *priority*.
    """
    order = list(priority)
    name = f"either(priority={order!r})"

    def by_priority(values: Sequence[Any]) -> Any:
        if strange := [value for value in values if value not in order]:
            raise UnmergeableError(tuple(values), f"{strange[0]!r} has no place in {name}; add it")
        return min(values, key=order.index)

    def bind(place: Place) -> Fold:
        if not order:
            raise place.error("either needs at least one value in its priority")
        if repeated := [value for index, value in enumerate(order) if value in order[:index]]:
            raise place.error(f"{repeated[0]!r} stands twice in {name}; name it once")
        if missing := [value for value in _members(place.hint) if value not in order]:
            raise place.error(f"{missing[0]!r} has no place in {name}; add it")
        return comparing(name, by_priority)

    return Rule(name, bind)


def _members(hint: Any) -> list[Any]:
    plain = bare(hint)
    if typing.get_origin(plain) is Literal:
        return list(typing.get_args(plain))
    found = class_of(plain)
    return list(found) if found is not None and issubclass(found, enum.Enum) else []
