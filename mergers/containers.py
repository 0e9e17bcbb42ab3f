"""Rules that keep something of every sibling: sets, mappings, and objects with rules of their own."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence, Set
from typing import Any

import attrs

from mergers.annotations import bare, class_of
from mergers.binding import Fold, Place, Rule
from mergers.errors import UnmergeableError
from mergers.order import owned


def _bind_union(place: Place) -> Fold:
    place.require(Set, mend="union is for sets; by_key(rule) is for mappings")

    def united(values: Sequence[Any]) -> Any:
        if not all(isinstance(value, Set) for value in values):
            raise UnmergeableError(tuple(values), "union is for sets")
        result = values[0]
        for value in values[1:]:
            result = result | value
        return owned(result)

    return united


union = Rule("union", _bind_union)
"""Keep the members of every sibling's set. What one sibling removed comes back from another that still has it."""


def by_key(rule: Rule) -> Rule:
    """Keep every key that any sibling has, and merge the values under one key by *rule*.

    A key that one sibling removed comes back from another that still has it. Keys stand in the order in which the
    siblings first name them.
    """

    def bind(place: Place) -> Fold:
        if not isinstance(rule, Rule):
            raise place.error(f"by_key was given {rule!r}, which is no rule; write by_key(highest), by_key(nested), …")
        place.require(Mapping, mend="by_key is for mappings; union is for sets")
        arguments = typing.get_args(bare(place.hint))
        fold = place.within(arguments[1] if len(arguments) == 2 else Any, rule)

        def merged(values: Sequence[Any]) -> Any:
            if not all(isinstance(value, Mapping) for value in values):
                raise UnmergeableError(tuple(values), "by_key is for mappings")
            said: dict[Any, list[Any]] = {}
            for value in values:
                for key, item in value.items():
                    said.setdefault(key, []).append(item)
            result = {}
            for key, items in said.items():
                try:
                    result[key] = fold(items)
                except UnmergeableError as error:
                    raise error.under(f"[{key!r}]") from error.__cause__
            return result

        return merged

    return Rule(f"by_key({rule!r})", bind)


def _bind_nested(place: Place) -> Fold:
    found = class_of(place.hint)
    if found is None or not attrs.has(found):
        raise place.error(f"nested is for one attrs class, and its annotation is {place.hint!r}; annotate that class")
    return place.merger_of(found)


nested = Rule("nested", _bind_nested)
"""Merge an attrs object field by field, by the rules in the annotations of its own class."""
