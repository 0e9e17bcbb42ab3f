"""How a bus stands: what is in its store and its queues, for gauges. Each is one or a few round trips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from sagabus.index.part import index_of
from sagabus.index.query import Forked, SagaCount

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.transport import QueueInfo

SEEN_WITHIN_MS: Final = 15_000
"""A worker that has not shown itself for so long is not counted."""


@frozen
class StoreStanding:
    """What the store says.

    Attributes:
        now_ms: its time, ms since 1970.
        overdue_s: how long ago the next waiting message was due, s; 0 where none is overdue.
        paused: endpoints that are paused.
        workers: state -> how many workers.
        letters: how many dead letters there are.
        sagas: by class.
        forked: those that have siblings.
    """

    now_ms: int
    overdue_s: float = 0.0
    paused: frozenset[str] = frozenset()
    workers: Mapping[str, int] = field(factory=dict)
    letters: int = 0
    sagas: tuple[SagaCount, ...] = ()
    forked: Forked = field(factory=Forked)

    @property
    def oldest_fork_s(self) -> float:
        """Return for how long the first saga that has siblings has had them, s; 0 where none has."""
        return 0.0 if self.forked.oldest_ms is None else max(self.now_ms - self.forked.oldest_ms, 0) / 1000


def store_standing(bus: Bus) -> StoreStanding:
    """Return what the store of *bus* says.

    Raises:
        SagabusError: it does not answer, or refuses to.
    """
    store = bus.store
    now_ms, due_ms = store.next_due_ms()
    index = index_of(store)
    seen = [card.state for card in store.presence.cards().cards if now_ms - card.seen_ms <= SEEN_WITHIN_MS]
    return StoreStanding(
        now_ms,
        0.0 if due_ms is None else max(now_ms - due_ms, 0) / 1000,
        frozenset(store.presence.paused()),
        dict(Counter(seen)),
        store.letters.total(),
        tuple(index.counts()),
        index.forked(),
    )


def queue_standing(bus: Bus) -> tuple[QueueInfo, ...]:
    """Return what the broker of *bus* says of its queues.

    Raises:
        SagabusError: it does not answer, or refuses to.
    """
    return tuple(bus.transport.queues())
