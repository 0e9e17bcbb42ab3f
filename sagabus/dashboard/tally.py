"""What workers did between two looks at their cards, and over a while. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from attrs import define, field, fields

from sagabus.telemetry.card import WorkerCard
from sagabus.telemetry.counters import EndpointCounts
from sagabus.telemetry.histogram import Histogram


@define
class Tally:
    """What was done for one endpoint, or for all, in some time.

    Attributes:
        handled, failed, dead: messages.
        forked, merges, dropped: commits that forked, those that folded siblings, decisions dropped.
        latency: from when a message was made until it was acked, s.
        handlers: how long handlers took, s.
        siblings: how many versions sagas were found to have.
    """

    handled: int = 0
    failed: int = 0
    dead: int = 0
    forked: int = 0
    merges: int = 0
    dropped: int = 0
    latency: Histogram = field(factory=Histogram.of_seconds)
    handlers: Histogram = field(factory=Histogram.of_seconds)
    siblings: Histogram = field(factory=Histogram.of_siblings)

    @classmethod
    def of(cls, counts: EndpointCounts) -> Self:
        """Return what *counts* has counted since its worker began."""
        return cls(
            counts.handled,
            counts.failed,
            counts.dead,
            counts.forked,
            counts.merges,
            counts.dropped_decisions,
            counts.latency,
            counts.handlers,
            counts.siblings,
        )

    def plus(self, other: Tally, times: int = 1) -> Tally:
        """Return the sum; with *times* -1 the difference."""
        values: list[Any] = []
        for each in fields(Tally):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Histogram):
                counts = [a + times * b for a, b in zip(mine.counts, theirs.counts, strict=True)]
                values.append(Histogram(mine.bounds, counts, mine.total + times * theirs.total))
            else:
                values.append(mine + times * theirs)
        return Tally(*values)


def since(before: Mapping[str, WorkerCard], now: Iterable[WorkerCard], last_ms: int) -> dict[str, Tally]:
    """Return what was done for each endpoint between two looks.

    A worker that was not there before has done all it shows since, if it began after the look before; else nobody knows
    when it did that, and it counts from its next card on.

    Args:
        before: the cards of the look before, by worker.
        now: those of this one.
        last_ms: when the look before was, ms since 1970.
    """
    done: dict[str, Tally] = {}
    for card in now:
        old = before.get(card.worker)
        if old is None and card.started_ms < last_ms:
            continue
        for endpoint, counts in card.counts.items():
            known = old.counts.get(endpoint) if old is not None and old.started_ms == card.started_ms else None
            tally = Tally.of(counts)
            if known is not None:
                tally = tally.plus(Tally.of(known), -1)
            done[endpoint] = done[endpoint].plus(tally) if endpoint in done else tally
    return done


def summed(parts: Sequence[Mapping[str, Tally]]) -> dict[str, Tally]:
    """Return the sums of *parts*, by endpoint."""
    result: dict[str, Tally] = {}
    for part in parts:
        for endpoint, tally in part.items():
            result[endpoint] = result[endpoint].plus(tally) if endpoint in result else tally
    return result


def whole(parts: Iterable[Tally]) -> Tally:
    """Return the sum of *parts*."""
    result = Tally()
    for tally in parts:
        result = result.plus(tally)
    return result
