"""`additions`: numbers and lists that are merged as what they were, and what each side has added to it since."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import math
import typing
from collections.abc import Sequence
from typing import Any, Final

import attrs

from mergers.annotations import bare, class_of
from mergers.binding import Place, Rule, compared
from mergers.bound import Bound
from mergers.errors import UnmergeableError
from mergers.order import owned

_NUMBERS: Final = (int, float, decimal.Decimal, datetime.timedelta)
_LISTS: Final = (list, tuple)
_KINDS: Final = (*_NUMBERS, *_LISTS, collections.abc.Sequence, collections.abc.MutableSequence)

_EXACT: Final = decimal.Context(prec=1_000, traps=[decimal.Inexact, decimal.InvalidOperation])
"""Sums that come out alike whatever context a worker's thread has, and in whatever order they are made."""


def _bind(place: Place) -> Bound:
    found = class_of(place.hint)
    if found is not None and found not in _KINDS:
        mend = "any_true is for bool" if found is bool else "union and add_wins are for sets, by_key(rule) for mappings"
        raise place.error(
            f"its values are {found.__name__}; additions is for int, float, Decimal, timedelta, list and tuple; {mend}"
        )
    if found is tuple and (items := typing.get_args(bare(place.hint))) and items[-1] is not Ellipsis:
        raise place.error("its tuples have a fixed length, to which nothing can be added; annotate tuple[item, ...]")
    return _Additions()


additions = Rule("additions", _bind)
"""Merge a number or a list as what it was, and what each side has added to it since. Needs the ancestor.

A number becomes a + b - ancestor: exactly for int, Decimal and timedelta; for float the nearest to that, so keep money
in one of the others. Of a list stays what both sides kept; then comes all that the one has added, then all that the
other has. Which goes first is decided by the sort order of what they added. Entries count as added to the end, wherever
they stand, and are told apart by what they are: of equal ones, the first in the ancestor are the ones that were kept.

None, or a key that is missing, says that nothing was added. Where the ancestor says nothing, it stands for zero.
"""


@attrs.frozen
class _Additions(Bound):
    """Numbers and lists, by their values: an annotation may leave open which."""

    needs_ancestor = True

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        before = _zero_like(onto) if ancestor is None else ancestor
        if _are_lists(onto, changed, before):
            change = _Change.between(before, changed)
            kept = [entry for entry, dropped in _marked(onto, before, change.dropped) if not dropped]
            return owned(type(onto)([*kept, *change.added]))
        return _sum(onto, changed, before)

    def order(self, a: Any, b: Any, ancestor: Any) -> int:
        before = _zero_like(a) if ancestor is None else ancestor
        if not _are_lists(a, b, before):
            return 0
        left, right = _Change.between(before, a).added, _Change.between(before, b).added
        if not (left and right):
            return bool(right) - bool(left)
        return compared([left, a], [right, b], a, b)


def _zero_like(value: Any) -> Any:
    """Return what a number or list is before anything was added; anything else is refused by what follows."""
    return type(value)() if type(value) in (*_NUMBERS, *_LISTS) else value


def _are_lists(*values: Any) -> bool:
    """Return whether *values* are lists, rather than numbers.

    Raises:
        UnmergeableError: they are neither, or not of one kind.
    """
    kinds = {type(value) for value in values}
    if kinds <= {list} or kinds <= {tuple}:
        return True
    if kinds <= {int, float} or kinds <= {int, decimal.Decimal} or kinds <= {datetime.timedelta}:
        if all(map(_is_finite, values)):
            return False
        raise UnmergeableError(values, "nothing can be added to NaN or infinity; store None instead")
    if bool in kinds:
        raise UnmergeableError(values, "additions counts nothing in bool; use any_true or all_true")
    raise UnmergeableError(values, "additions is for numbers, or lists, of one type")


def _is_finite(value: Any) -> bool:
    if isinstance(value, decimal.Decimal):
        return value.is_finite()
    return not isinstance(value, float) or math.isfinite(value)


def _sum(onto: Any, changed: Any, ancestor: Any) -> Any:
    """Return *onto* + *changed* - *ancestor*, the same for both ways to name the sides."""
    for side, other in ((onto, changed), (changed, onto)):
        if repr(side) == repr(ancestor):
            return other  # to the last digit and zero
    try:
        if float in map(type, (onto, changed, ancestor)):
            return math.fsum((onto, changed, -ancestor))
        if decimal.Decimal in map(type, (onto, changed, ancestor)):
            return _EXACT.subtract(_EXACT.add(onto, changed), ancestor)
        return onto + changed - ancestor
    except ArithmeticError as error:
        raise UnmergeableError(
            (onto, changed), f"their sum is out of range ({error}); store smaller numbers"
        ) from error


@attrs.frozen
class _Change:
    """What became of a list.

    Attributes:
        dropped: the places in the list that it was, of the entries that are gone.
        added: the entries that are new, in order.
    """

    dropped: frozenset[int]
    added: list[Any]

    @classmethod
    def between(cls, before: Sequence[Any], after: Sequence[Any]) -> _Change:
        """Return what made *after* of *before*."""
        pairs = _aligned(before, after)
        new = {place for _, place in pairs}
        return cls(
            frozenset(range(len(before))) - {old for old, _ in pairs},
            [entry for place, entry in enumerate(after) if place not in new],
        )


def _marked(after: Sequence[Any], before: Sequence[Any], places: frozenset[int]) -> list[tuple[Any, bool]]:
    """Return each entry of *after*, and whether it stood at one of *places* in *before*."""
    if not places:
        return [(entry, False) for entry in after]
    marked = {new for old, new in _aligned(before, after) if old in places}
    return [(entry, place in marked) for place, entry in enumerate(after)]


def _aligned(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the places (in *before*, in *after*) of the entries that stayed: a longest common subsequence.

    Mostly *after* is some of *before*, then what was added; that is found in one pass.
    """
    pairs: list[tuple[int, int]] = []
    old = 0
    for new, entry in enumerate(after):
        found = next((place for place in range(old, len(before)) if before[place] == entry), None)
        if found is None:
            break
        pairs.append((found, new))
        old = found + 1
    stayed = {place for place, _ in pairs}
    passed = [entry for place, entry in enumerate(before) if place not in stayed]
    if passed and any(entry in passed for entry in after[len(pairs) :]):
        return _longest_common(before, after)
    return pairs


def _longest_common(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[int, int]]:
    """Return a longest common subsequence by dynamic programming, the entries of *after* as early as may be."""
    lengths = [[0] * (len(after) + 1) for _ in range(len(before) + 1)]
    for old in reversed(range(len(before))):
        for new in reversed(range(len(after))):
            lengths[old][new] = (
                1 + lengths[old + 1][new + 1]
                if before[old] == after[new]
                else max(lengths[old + 1][new], lengths[old][new + 1])
            )
    pairs: list[tuple[int, int]] = []
    old = new = 0
    while old < len(before) and new < len(after):
        if before[old] == after[new]:
            pairs.append((old, new))
            old, new = old + 1, new + 1
        elif lengths[old + 1][new] >= lengths[old][new + 1]:
            old += 1
        else:
            new += 1
    return pairs
