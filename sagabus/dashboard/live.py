"""What is going on now: a look at the workers' cards, the queues and the counts, a second apart, shared by all viewers.

Nothing is looked up while nobody looks. A look costs the store a few commands, however many workers and sagas there
are, and the workers nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from sagabus.dashboard.tally import Tally, since, summed, whole
from sagabus.dead_letters.groups import LetterGroup
from sagabus.errors import SagabusError
from sagabus.index.query import Forked, SagaCount
from sagabus.telemetry.card import Pause, WorkerCard

if TYPE_CHECKING:
    from sagabus.dashboard.site import Site
    from sagabus.index.part import SagaIndex
    from sagabus.transport import QueueInfo

EVERY_S: Final = 1.0
_KEPT: Final = 300
_STALE_MS: Final = 15_000
_RATE_S: Final = 10.0
_MINUTE_S: Final = 60.0
_GROUPED: Final = 1_000
_GROUPED_S: Final = 5.0
_STAFF_S: Final = 3.0


@frozen
class Look:
    """One look, and what happened since the look before.

    Attributes:
        at_ms: the store's time, ms since 1970.
        span_s: how long ago the look before was; 0 for the first.
        cards: the workers that showed themselves lately; only of the last look, as they are many and large.
        queues: every queue.
        paused: endpoints that are paused.
        done: what was done since the look before, by endpoint.
        total: the same for all endpoints.
        sagas: how many there are of each class; None where the store has no index.
        forked: those with siblings; None where the store has no index.
        dead: how many dead letters there are.
        oldest_ms: endpoint -> how long the oldest message in its queue had waited when the broker was asked last, some
            seconds ago at most; None where there was none. Of endpoints that are not here the broker cannot tell.
    """

    at_ms: int
    span_s: float
    cards: tuple[WorkerCard, ...] = ()
    queues: tuple[QueueInfo, ...] = ()
    paused: Mapping[str, Pause] = field(factory=dict)
    done: Mapping[str, Tally] = field(factory=dict)
    total: Tally = field(factory=Tally)
    sagas: tuple[SagaCount, ...] | None = ()
    forked: Forked | None = field(factory=Forked)
    dead: int = 0
    oldest_ms: Mapping[str, int | None] = field(factory=dict)

    def waited_ms(self, endpoint: str) -> int | None:
        """Return for how long the oldest message of *endpoint* has been in its queue; None where nobody knows."""
        empty = any(queue.endpoint == endpoint and queue.depth == 0 for queue in self.queues)
        return None if empty else self.oldest_ms.get(endpoint)

    @property
    def depth(self) -> int | None:
        """Return how many messages wait or are being handled; None where the broker tells of no queue."""
        known = [queue.depth for queue in self.queues if queue.depth >= 0]
        return sum(known) if known or not self.queues else None

    def workers_of(self, endpoint: str) -> int:
        """Return how many workers that are not quiet for long work through *endpoint*."""
        return sum(endpoint in card.endpoints and not self.quiet(card) for card in self.cards)

    def quiet(self, card: WorkerCard) -> bool:
        """Return whether a worker has shown no sign of life for long enough to be missed."""
        return self.at_ms - card.seen_ms > _STALE_MS


@frozen
class Trend:
    """What the last looks say together.

    Attributes:
        now: the last look.
        by_endpoint: what was done in the last ten seconds, by endpoint.
        recent_s: how long that was; 0 where there was but one look.
        minute: what was done in the last minute, for all endpoints.
        minute_s: how long that was.
        looks: the last five minutes of looks, oldest first.
    """

    now: Look
    by_endpoint: Mapping[str, Tally]
    recent_s: float
    minute: Tally
    minute_s: float
    looks: tuple[Look, ...]

    @property
    def recent(self) -> Tally:
        """Return what was done in the last ten seconds, for all endpoints."""
        return whole(self.by_endpoint.values())

    def per_s(self, count: int) -> float | None:
        """Return the rate of what happened in the last ten seconds; None where nobody knows yet."""
        return count / self.recent_s if self.recent_s else None

    def per_min(self, count: int) -> float | None:
        """Return the rate of what happened in the last minute; None where nobody knows yet."""
        return count / self.minute_s * 60 if self.minute_s else None


class Live:
    """Looks at a bus, at most once a second. Thread-safe.

    Args:
        site: whose bus.

    Attributes:
        ended: says whether the server is about to end, and streams with it.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._looks: deque[Look] = deque(maxlen=_KEPT)
        self._at = float("-inf")
        self._failed: SagabusError | None = None
        self._trend: Trend | None = None
        self._groups: tuple[LetterGroup, ...] = ()
        self._grouped, self._grouped_at = 0, float("-inf")
        self._oldest_ms: Mapping[str, int | None] = {}
        self._staff_at = float("-inf")
        self._closed = False
        self.ended: Callable[[], bool] = lambda: False

    @property
    def closed(self) -> bool:
        """Return whether nothing is to be streamed any more."""
        return self._closed or self.ended()

    def close(self) -> None:
        """End all streams."""
        self._closed = True

    def trend(self) -> Trend:
        """Return what the last looks say; with a new one where the last is a second old.

        Raises:
            UnavailableError: a server does not answer, or did not a moment ago.
        """
        with self._lock:
            if time.monotonic() - self._at >= EVERY_S * 0.9:
                try:
                    self._keep(self._look())
                    self._failed = None
                except SagabusError as error:
                    # Whoever waited for this look is told the same: each would wait as long for a server that is down.
                    self._failed = error
                self._at = time.monotonic()
            if self._failed is not None:
                raise self._failed
            assert self._trend is not None
            return self._trend

    def _keep(self, look: Look) -> None:
        if self._looks:
            self._looks[-1] = evolve(self._looks[-1], cards=())
        self._looks.append(look)
        self._trend = _trend(tuple(self._looks))

    def _look(self) -> Look:
        bus, before = self._site.bus, self._looks[-1] if self._looks else None
        store = bus.store
        index: SagaIndex | None = getattr(store, "index", None)  # workers run without
        roster = store.presence.cards()
        if before is not None and roster.now_ms - before.at_ms > _STALE_MS:
            # Nobody looked for a while: what happened meanwhile would be spread over a second.
            self._looks.clear()
            before = None
        known = {card.worker: card for card in before.cards} if before else {}
        done = since(known, roster.cards, before.at_ms) if before else {}
        return Look(
            roster.now_ms,
            (roster.now_ms - before.at_ms) / 1000 if before else 0.0,
            roster.cards,
            tuple(bus.transport.queues()),
            store.presence.paused(),
            done,
            whole(done.values()),
            tuple(index.counts()) if index is not None else None,
            index.forked() if index is not None else None,
            store.letters.total(),
            self._oldest(roster.now_ms),
        )

    def _oldest(self, now_ms: int) -> Mapping[str, int | None]:
        """Return how old the oldest messages are; looked up now and then, as it costs a round trip an endpoint."""
        staff = getattr(self._site.bus.transport, "staff", None)
        if staff is not None and time.monotonic() - self._staff_at >= _STAFF_S:
            came = {name: came_ms for name, (_, came_ms) in staff(self._site.bus.claim_s).items()}
            # An age, not a moment: a message that was handled since must not go on growing older.
            self._oldest_ms = {name: None if at_ms is None else max(now_ms - at_ms, 0) for name, at_ms in came.items()}
            self._staff_at = time.monotonic()
        return self._oldest_ms

    def groups(self) -> tuple[LetterGroup, ...]:
        """Return the groups of the newest dead letters, looked up anew when their number has changed."""
        with self._lock:
            dead = self._looks[-1].dead if self._looks else 0
            if dead != self._grouped and time.monotonic() - self._grouped_at >= _GROUPED_S:
                self._groups = self._site.bus.dead_letters.groups(_GROUPED).groups if dead else ()
                self._grouped, self._grouped_at = dead, time.monotonic()
            return self._groups


def _trend(looks: tuple[Look, ...]) -> Trend:
    recent, minute = _last(looks, _RATE_S), _last(looks, _MINUTE_S)
    return Trend(
        looks[-1],
        summed([look.done for look in recent]),
        sum(look.span_s for look in recent),
        whole(look.total for look in minute),
        sum(look.span_s for look in minute),
        looks,
    )


def _last(looks: Sequence[Look], span_s: float) -> list[Look]:
    """Return the last looks that together tell of about *span_s* seconds."""
    found: list[Look] = []
    for look in reversed(looks):
        if span_s <= 0:
            break
        found.append(look)
        span_s -= look.span_s
    return found
