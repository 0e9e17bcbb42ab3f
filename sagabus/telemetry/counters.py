"""Counters: what one thread of a worker has done, by endpoint and by message type.

One thread counts, others read, and nobody takes a lock. That is safe for what is here: a number is a slot of an object
or of a list, which is replaced as a whole, so a reader sees it as it was before or after, never half of it; and a dict
is copied in one step. A reader may see one number of a batch already and another not yet. None of them ever falls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from attrs import define, field

from sagabus.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from sagabus.runtime.ticket import Ticket

OTHER: Final = "other"
"""Stands for message types that the app does not know, and endpoints that are not there: anybody may make up names."""


@define
class TypeCounts:
    """What became of messages of one type.

    Attributes:
        handled: acked, all handlers through with them; second copies and late ones too.
        failed: tries that ended with an error of a handler, or a handler that took too long.
        retried: put off to be tried again, for whatever reason.
        dead: dead-lettered.
    """

    handled: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0

    def add(self, other: TypeCounts) -> None:
        """Add what *other* has counted."""
        self.handled += other.handled
        self.failed += other.failed
        self.retried += other.retried
        self.dead += other.dead


@define
class EndpointCounts:
    """What was done for one endpoint.

    Attributes:
        types: wire name -> what became of such messages.
        stored, forked, late, duplicate: commits, by outcome.
        again: commits in vain, because somebody else was faster, by reason.
        merges: commits that folded siblings.
        folded: how many siblings these have folded.
        dropped_decisions: decisions that were taken and dropped, because the commit forked.
        posted_merges: how many MergeSagaState were posted.
        early: messages that came before their saga had started, at each try.
        repeated: messages that their saga had handled before.
        waited: looks at an exclusive saga whose lease another worker held.
        unmergeable: runs in vain, because the merger raised, or a version could not be read.
        parked: messages put off because others were faster, or held the lease, again and again.
        latency: from when a message was made until it was acked, s; retries and their waits included, timers left out.
        handlers: how long consumers' handlers took, each, and runs of sagas: merge, handlers and `decide()`, s.
        siblings: how many versions sagas were found to have.
    """

    types: dict[str, TypeCounts] = field(factory=dict)
    stored: int = 0
    forked: int = 0
    late: int = 0
    duplicate: int = 0
    again: dict[str, int] = field(factory=dict)
    merges: int = 0
    folded: int = 0
    dropped_decisions: int = 0
    posted_merges: int = 0
    early: int = 0
    repeated: int = 0
    waited: int = 0
    parked: int = 0
    unmergeable: int = 0
    latency: Histogram = field(factory=Histogram.of_seconds)
    handlers: Histogram = field(factory=Histogram.of_seconds)
    siblings: Histogram = field(factory=Histogram.of_siblings)

    @property
    def handled(self) -> int:
        """Return how many messages were handled."""
        return sum(counts.handled for counts in self.types.copy().values())

    @property
    def failed(self) -> int:
        """Return how many tries failed."""
        return sum(counts.failed for counts in self.types.copy().values())

    @property
    def dead(self) -> int:
        """Return how many messages were dead-lettered."""
        return sum(counts.dead for counts in self.types.copy().values())

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Return how many commits had which outcome, and why those in vain had: (outcome, reason) -> count."""
        plain = {"stored": self.stored, "forked": self.forked, "late": self.late, "duplicate": self.duplicate}
        return {(name, ""): count for name, count in plain.items()} | {
            ("again", reason): count for reason, count in self.again.copy().items()
        }

    def type(self, name: str) -> TypeCounts:
        """Return the counts of a type, to be changed by the thread that counts."""
        found = self.types.get(name)
        if found is None:
            found = self.types[name] = TypeCounts()
        return found

    def add(self, other: EndpointCounts) -> None:
        """Add what *other* has counted, whoever counts there."""
        for name, counts in other.types.copy().items():
            self.type(name).add(counts)
        for reason, count in other.again.copy().items():
            self.again[reason] = self.again.get(reason, 0) + count
        for each in _NUMBERS:
            setattr(self, each, getattr(self, each) + getattr(other, each))
        self.latency.add(other.latency)
        self.handlers.add(other.handlers)
        self.siblings.add(other.siblings)


_NUMBERS: Final = (
    *("stored", "forked", "late", "duplicate", "merges", "folded", "dropped_decisions", "posted_merges"),
    *("early", "repeated", "waited", "parked", "unmergeable"),
)

Counts = dict[str, EndpointCounts]
"""Endpoint -> what was done for it."""


def total(parts: Iterable[Counts]) -> Counts:
    """Return the sum of *parts*, which others may be counting in; it is nobody else's."""
    result: Counts = {}
    for part in parts:
        for endpoint, counts in part.copy().items():
            if endpoint not in result:
                result[endpoint] = EndpointCounts()
            result[endpoint].add(counts)
    return result


class Counters:
    """Counts for one thread.

    Attributes:
        counts: what it has counted; others only read it.

    Args:
        known: endpoint -> wire names of the messages that are counted by name.
    """

    def __init__(self, known: dict[str, frozenset[str]]) -> None:
        self.counts: Counts = {name: EndpointCounts() for name in known}
        self._known = known

    def of(self, endpoint: str) -> EndpointCounts:
        """Return the counts of an endpoint, those of `OTHER` where it is not known."""
        found = self.counts.get(endpoint)
        if found is None:
            found = self.counts.get(OTHER)
            if found is None:
                found = self.counts[OTHER] = EndpointCounts()
        return found

    def handled(self, tickets: Sequence[Ticket], now_ms: int) -> None:
        """Count messages that were handled and acked together.

        Args:
            now_ms: the store's time, ms since 1970.
        """
        kinds = Counter(
            [(t.delivery.queue, e.type, "" if e.timer else e.time) for t in tickets if (e := t.envelope) is not None]
        )
        # What was sent together has one time, so there are fewer kinds than messages.
        for (queue, kind, made), times in kinds.items():
            counts = self.counts[queue]
            # Only what has handlers is handled, and of that there is a bounded number.
            counts.type(kind).handled += times
            made_ms = ms_of(made)
            if made_ms is not None:
                counts.latency.note(max(now_ms - made_ms, 0) / 1000, times)

    def troubled(self, ticket: Ticket, *, dead: bool) -> None:
        """Count a message that could not be handled: it is tried again, or *dead*."""
        queue = ticket.delivery.queue
        counts = self.of(queue)
        name = ticket.envelope.type if ticket.envelope is not None else OTHER
        kind = counts.type(name if name in self._known.get(queue, ()) else OTHER)
        reasons = {trouble.reason for trouble in ticket.troubles}
        counts.early += "early" in reasons
        kind.failed += not reasons.isdisjoint(_FAILURES)
        kind.dead += dead
        kind.retried += not dead

    def homeless(self, letters: int) -> None:
        """Count messages that had nowhere to go."""
        if letters:
            self.of(OTHER).type(OTHER).dead += letters


_FAILURES: Final = frozenset({"failed", "timed-out"})


def ms_of(time: str) -> float | None:
    """Return the moment that RFC 3339 text says, ms since 1970; None where it says none."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp() * 1000
