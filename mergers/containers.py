"""Rules for what holds values of its own: mappings, and objects with rules of their own."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cmp_to_key
from typing import Any, Final, TypeVar

import attrs

from mergers.annotations import bare, class_of
from mergers.binding import Place, Rule, compared
from mergers.bound import Bound
from mergers.errors import UnmergeableError

V = TypeVar("V")


def by_key(rule: Rule) -> Rule:
    """Keep every key that any sibling has, and merge the values under one key by *rule*.

    A key that one sibling removed comes back from another that still has it. Keys stand in the order in which the
    siblings first name them.
    """

    def bind(place: Place) -> Bound:
        if not isinstance(rule, Rule):
            raise place.error(f"by_key was given {rule!r}, which is no rule; write by_key(highest), by_key(nested), …")
        place.require(Mapping, mend="by_key is for mappings; union is for sets")
        arguments = typing.get_args(bare(place.hint))
        return _ByKey(place.within(arguments[1] if len(arguments) == 2 else Any, rule))

    return Rule(f"by_key({rule!r})", bind)


@attrs.frozen
class _ByKey(Bound):
    """Mappings, whose values under one key are merged by one rule."""

    values: Bound

    @property
    def needs_ancestor(self) -> bool:  # type: ignore[override]
        return self.values.needs_ancestor

    def fold(self, values: Sequence[Any]) -> Any:
        _require_mappings(values)
        said: dict[Any, list[Any]] = {}
        for value in values:
            for key, item in value.items():
                said.setdefault(key, []).append(item)
        return {key: items[0] if _agree(items) else _under(key, self.values.fold, items) for key, items in said.items()}

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        before = {} if ancestor is None else ancestor
        _require_mappings((onto, changed, before))
        return {
            key: _under(key, self.values.replay, onto.get(key), changed.get(key), before.get(key))
            for key in [*onto, *(key for key in changed if key not in onto)]
        }

    def order(self, a: Any, b: Any, ancestor: Any) -> int:
        before = {} if ancestor is None else ancestor
        _require_mappings((a, b, before))
        found = {key: _under(key, self.values.order, a.get(key), b.get(key), before.get(key)) for key in {**a, **b}}
        sides = {key: side for key, side in found.items() if side}
        if len(set(sides.values())) < 2:
            return next(iter(sides.values()), 0)
        return sides[min(sides, key=cmp_to_key(lambda one, other: compared(one, other, a, b)))]


# Whose equal values are the same bytes, unlike 0.0 and -0.0.
_PLAIN: Final = frozenset({str, int, bool, bytes})


def _agree(items: Sequence[Any]) -> bool:
    """Return whether all siblings say the same, so that any rule, being idempotent, would say it too.

    That is what most keys of a large mapping come to: they were there before the siblings parted.
    """
    first = items[0]
    if len(items) < 2 or type(first) not in _PLAIN or items.count(first) < len(items):
        return False
    return len(set(map(type, items))) == 1  # 1 and True are equal, and not the same


def _require_mappings(values: Sequence[Any]) -> None:
    for value in values:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise UnmergeableError(tuple(values), "by_key is for mappings")


def _under(key: Any, merge: Callable[..., V], *values: Any) -> V:
    try:
        return merge(*values)
    except UnmergeableError as error:
        raise error.under(f"[{key!r}]") from error.__cause__


def _bind_nested(place: Place) -> Bound:
    found = class_of(place.hint)
    if found is None or not attrs.has(found):
        raise place.error(f"nested is for one attrs class, and its annotation is {place.hint!r}; annotate that class")
    return place.merger_of(found)


nested = Rule("nested", _bind_nested)
"""Merge an attrs object field by field, by the rules in the annotations of its own class."""
