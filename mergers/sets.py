"""Rules for sets: what is kept where one side adds and the other removes."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import attrs

from mergers.binding import Beside, Place, Rule
from mergers.bound import Bound, Fold
from mergers.errors import UnmergeableError
from mergers.order import owned


def _bind_union(place: Place) -> Fold:
    place.require(Set, mend="union is for sets; by_key(rule) is for mappings")

    def united(values: Sequence[Any]) -> Any:
        _require_sets("union", values)
        return owned(_union(values))

    return united


union = Rule("union", _bind_union)
"""Keep the members of every sibling's set. What one sibling removed comes back from another that still has it."""


@attrs.frozen
class _AddWins(Bound):
    """Sets, to which either side's change since the ancestor is made."""

    needs_ancestor = True

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        before = frozenset() if ancestor is None else ancestor
        _require_sets("add_wins", (onto, changed, before))
        return owned((onto - (before - changed)) | (changed - before))


def _bind_add_wins(place: Place) -> Bound:
    place.require(Set, mend="add_wins is for sets; by_key(rule) is for mappings")
    return _AddWins()


add_wins = Rule("add_wins", _bind_add_wins)
"""Keep what either side added, and remove what either removed of the ancestor: a removal takes away only what its
writer had seen.

These are the semantics of an observed-remove set (Bieniusa et al.: An optimized conflict-free replicated set, INRIA
RR-8083, arXiv:1210.3368), with the ancestor in the place of its tags: a member that one side removed, and the other
removed and added again, is gone, for the ancestor does not show that.
"""


def remove_wins(*, removed: str) -> Rule:
    """Keep the members of every sibling's set but those that a sibling has removed: removed once, removed for ever.

    Handlers that remove a member put it into the field *removed* too, and add only what is not in there. The names of
    what was removed must be kept, for of two sets alone, one with a member and one without, nobody can tell whether it
    was added or removed. It is the two-phase set of Shapiro et al. (A comprehensive study of Convergent and Commutative
    Replicated Data Types, INRIA RR-7506, 2011), and needs no ancestor.

    Args:
        removed: the field of the same state with what was removed, a set merged by `union`.
    """
    name = f"remove_wins(removed={removed!r})"

    def remaining(pairs: Sequence[tuple[Any, Any]]) -> Any:
        present = [members for _, members in pairs if members is not None]
        tombs = [(gone, members or ()) for gone, members in pairs if gone is not None]
        _require_sets(name, [*present, *(gone for gone, _ in tombs)])
        if not present:
            return None
        # A sibling that has a member although it was removed has added it again: it alone says nothing new, so that
        # merging it with its equal changes nothing. One that has it no more removes it from all.
        return owned(_union(present) - {member for gone, members in tombs for member in gone - frozenset(members)})

    def bind(place: Place) -> Fold:
        place.require(Set, mend=f"{name} is for sets; by_key(rule) is for mappings")
        return remaining

    within = "put both sets into an attrs class of their own, and merge that by nested"
    return Rule(name, bind, Beside(removed, union, within))


def _union(sets: Sequence[Any]) -> Any:
    result = sets[0]
    for each in sets[1:]:
        result = result | each
    return result


def _require_sets(name: str, values: Sequence[Any]) -> None:
    if not all(isinstance(value, Set) for value in values):
        raise UnmergeableError(tuple(values), f"{name} is for sets")
