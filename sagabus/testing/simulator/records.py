"""Records in canonical form: counters are dropped, and versions are called by their order.

Two records that nobody could tell apart are one. Each live version gets an actor of its own, so that a context is the
set of versions that it has seen, whatever the counters were; the rules are those of the store all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from attrs import field, frozen

from sagabus.commit import Lifecycle, StoredVersion, sort_dots
from sagabus.store.memory import Record
from sagabus.versions import Dot, VersionSet

ABSENT: Final = 0
"""The number of the record of a saga that is not there."""


class Lost(NamedTuple):
    """What a failover takes back: the record before a commit, and the items that the commit had consumed."""

    record: Record | None
    items: tuple[int, ...]
    story: int


@frozen(eq=False)
class Kept:
    """A record as it is remembered.

    Attributes:
        number: tells it from other records.
        record: with its versions renamed; None for a saga that is absent.
        past: what failovers may still lose, latest last.
        dots: the versions that count, in dot order: those live now or in a past.
        live: the numbers of those that are live now.
        states, parents: what is stored of these, and of what they were computed from.
        clock: which of them a load has seen.
        looks: equal for records between which no run can tell.
        single: whether just one version is live.
        ended: whether the saga has completed.
    """

    number: int
    record: Record | None
    past: tuple[Lost, ...]
    dots: tuple[Dot, ...]
    live: tuple[int, ...]
    states: tuple[bytes, ...]
    parents: tuple[bytes | None, ...]
    clock: Mapping[str, int]
    looks: int
    single: bool
    ended: bool


@frozen(eq=False)
class Records:
    """All records that an exploration has met of one saga.

    Attributes:
        exact: whether consumed ids are kept, because the same id may come again.
        ancestral: whether contexts are kept by their size, because a merger with an ancestor folds by it.
        dot_order: whether the order of siblings is kept; otherwise they are in the order of what they say.
    """

    exact: bool
    ancestral: bool
    dot_order: bool
    all: list[Kept] = field(factory=list, init=False)
    _number_of: dict[Any, int] = field(factory=dict, init=False)
    _looks: dict[Any, int] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.keep(None, (), ())

    def __getitem__(self, number: int) -> Kept:
        return self.all[number]

    def keep(self, record: Record | None, past: tuple[Lost, ...], before: Sequence[Dot]) -> tuple[int, tuple[int, ...]]:
        """Remember a record in canonical form; return its number, and what its versions are called in it."""
        records = [record, *(lost.record for lost in past)] if past else [record]
        dots = self._ordered(records)
        ranks = self._ranks(records)
        known = (
            tuple([_seen_of(kept, dots, ranks, self.exact) for kept in records]),
            tuple([(lost.items, lost.story) for lost in past]),
        )
        number = self._number_of.get(known)
        if number is None:
            number = self._number_of[known] = len(self.all)
            names = {dot: Dot(actor_of(place), 1) for place, dot in enumerate(dots)}
            renamed = [_canonical(kept, names, ranks, self.exact) for kept in records]
            chain = tuple(Lost(kept, lost.items, lost.story) for kept, lost in zip(renamed[1:], past, strict=True))
            self.all.append(self._kept(number, renamed[0], chain, tuple(names.values())))
        places = {dot: place for place, dot in enumerate(dots)}
        return number, tuple([places.get(dot, -1) for dot in before])

    def _ordered(self, records: Sequence[Record | None]) -> tuple[Dot, ...]:
        """Return the versions in the order in which they are named: that of their dots, or one that ignores it."""
        versions = {dot: v for kept in records if kept is not None for dot, v in kept.versions.live.items()}
        dots = sort_dots(versions)
        if self.dot_order or len(dots) < 2:
            return dots
        return tuple(sorted(dots, key=lambda dot: versions[dot].state))

    def _kept(self, number: int, record: Record | None, past: tuple[Lost, ...], dots: tuple[Dot, ...]) -> Kept:
        if record is None:
            return Kept(number, None, past, dots, (), (), (), {}, -1, False, False)
        versions = record.versions
        live = versions.live.values()
        looks = (
            record.life,
            record.completed,
            tuple((v.state, v.parent, v.context.get("past")) for v in live),
            tuple(sorted(record.timers.items())),
            record.starter,
        )
        return Kept(
            number,
            record,
            past,
            dots,
            tuple(place for place, dot in enumerate(dots) if dot in versions.live),
            tuple(version.state for version in live),
            tuple(version.parent for version in live),
            versions.clock,
            self._looks.setdefault(looks, len(self._looks)),
            len(versions.live) == 1,
            record.completed,
        )

    def _ranks(self, records: Sequence[Record | None]) -> dict[int, int]:
        """Return the sizes of contexts by their order: a merger with an ancestor folds from the largest down."""
        if not self.ancestral:
            return {}
        sizes = {
            sum(version.context.values())
            for record in records
            if record is not None
            for version in record.versions.live.values()
        }
        return {size: rank for rank, size in enumerate(sorted(sizes))}

    def lifecycle(self, record: int) -> Lifecycle:
        """Return where the saga stands."""
        kept = self.all[record]
        return Lifecycle.ABSENT if kept.record is None else Lifecycle.COMPLETED if kept.ended else Lifecycle.LIVE

    def states(self, record: int) -> tuple[bytes, ...]:
        """Return the stored states of the live versions, in dot order."""
        return self.all[record].states


@lru_cache
def actor_of(number: int) -> str:
    """Return the actor of version number *number*: one that sorts as the number does."""
    return f"v{number:04d}"


def _canonical(record: Record | None, names: Mapping[Dot, Dot], ranks: Mapping[int, int], exact: bool) -> Record | None:
    if record is None:
        return None
    live = {
        names[dot]: StoredVersion(
            names[dot],
            {"past": ranks[sum(version.context.values())]} if ranks else {},
            version.state,
            version.parent,
        )
        for dot, version in record.versions.live.items()
    }
    clock = {name.actor: 1 for dot, name in names.items() if record.versions.clock.get(dot.actor, 0) >= dot.counter}
    return Record(
        life=record.life,
        completed=record.completed,
        versions=VersionSet(clock, dict(sorted(live.items()))),
        consumed=record.consumed if exact else {},
        timers=record.timers,
        pending_merge=record.pending_merge,
        starter=record.starter,
    )


def _seen_of(record: Record | None, dots: Sequence[Dot], ranks: Mapping[int, int], exact: bool) -> Any:
    """Return what tells a record from others in canonical form; *dots* are all versions that count, in order."""
    if record is None:
        return None
    clock, live = record.versions.clock, record.versions.live
    return (
        record.life,
        record.completed,
        tuple(
            [
                (number, v.state, v.parent, ranks[sum(v.context.values())] if ranks else None)
                for number, dot in enumerate(dots)
                if (v := live.get(dot)) is not None
            ]
        ),
        tuple([number for number, dot in enumerate(dots) if clock.get(dot.actor, 0) >= dot.counter]),
        tuple(sorted(record.timers.items())),
        record.pending_merge,
        record.starter,
        frozenset(record.consumed) if exact else None,
    )
