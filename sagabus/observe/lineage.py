"""Which version descends from which: ancestors by the parents that a history names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from sagabus.commit import HistoryEntry, sort_dots
from sagabus.versions import Dot


@frozen
class Origin:
    """Where several versions come from.

    Attributes:
        dots: the latest versions that all of them descend from, in dot order; mostly one.
        first: whether there is none because they were first writes, and come from the initial state.
    """

    dots: tuple[Dot, ...] = ()
    first: bool = False


def common_origin(history: Sequence[HistoryEntry], dots: Iterable[Dot]) -> Origin:
    """Return the latest common ancestor of *dots*; neither dots nor first where the history does not reach back."""
    parents = {entry.dot: entry.parents for entry in history if entry.dot is not None}
    lines = [_ancestors(parents, dot) for dot in dots]
    common = set.intersection(*lines)
    latest = {dot for dot in common if not any(dot in _ancestors(parents, other) for other in common if other != dot)}
    if latest:
        return Origin(sort_dots(latest))
    return Origin(first=all(dot in parents for line in lines for dot in line) and all(d in parents for d in dots))


def _ancestors(parents: Mapping[Dot, tuple[Dot, ...]], dot: Dot) -> set[Dot]:
    """Return what *dot* descends from, itself left out."""
    found: set[Dot] = set()
    left = list(parents.get(dot, ()))
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += parents.get(one, ())
    return found
