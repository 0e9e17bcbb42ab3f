"""Real workers, made to follow a schedule: each in a thread of its own, each let on step by step.

A worker stops at two gates, before it loads and before it commits. Whoever drives them lets one of them on at a time,
and waits until it is at its next gate or through with its turn: so a race has the order that was asked for, and nothing
sleeps. What is behind the gates is a real `Worker`: intake, saga runner, dispatch and acks, on a real store and broker.

Two things are decided here that chance decides in production: which message a worker receives next (messages for sagas
wait in a queue of their own until the schedule asks for them), and when a timer is due (when the schedule asks).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final

from attrs import define, field, frozen

from sagabus.bus import Bus
from sagabus.commit import Commit, Result, Snapshot, Want
from sagabus.store.protocol import Bookkeeping, Scheduled, Store
from sagabus.transport import Exchanged, Parcel, ParcelKind, Receiver, Refusal, Transport
from tests.changes import evolve

WAITING: Final = ".waiting"
ELSEWHERE: Final = "elsewhere"
_WATCHDOG_S: Final = 60.0


class Killed(BaseException):
    """A worker dies at a gate, as a process does that is killed."""


@frozen
class AtLoad:
    """A worker is about to load."""

    wants: tuple[Want, ...]


@frozen
class AtCommit:
    """A worker is about to commit."""

    snapshot: Snapshot
    commit: Commit


@frozen
class Through:
    """A worker is through with its turn: what it had is dispatched and acked, or it has died."""

    error: BaseException | None = None


Report = AtLoad | AtCommit | Through


@define(eq=False)
class Gate:
    """Where a thread waits to be let on, and says where it is."""

    reports: SimpleQueue[Report] = field(factory=SimpleQueue)
    orders: SimpleQueue[str] = field(factory=SimpleQueue)

    def stop_at(self, report: Report) -> None:
        """Say where this thread is, and wait; called by the worker.

        Raises:
            Killed: it is to die here.
        """
        self.reports.put(report)
        if self.orders.get() == "die":
            raise Killed

    def order(self, what: str) -> Report:
        """Let the worker on and return where it stops next; called by who drives it."""
        self.orders.put(what)
        return self.reports.get(timeout=_WATCHDOG_S)


class GatedStore:
    """The real store as one worker sees it: its loads and commits stop at the gate."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store, self._gate = store, gate
        self.results: list[Result] = []
        self._loaded: list[Snapshot] = []

    def load(self, wants: Sequence[Want], noting: Bookkeeping | None = None) -> list[Snapshot]:
        self._gate.stop_at(AtLoad(tuple(wants)))
        self._loaded = self._store.load(wants, noting)
        return self._loaded

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        (commit,) = commits
        (snapshot,) = [loaded for loaded in self._loaded if loaded.key == commit.key]
        self._gate.stop_at(AtCommit(snapshot, commit))
        self.results = self._store.commit(commits, by=by)
        return self.results

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class RipeStore:
    """The real store as the clerk sees it: due is what the schedule says is due."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ripe: set[str] = set()

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        return [item for item in self._store.scheduled() if item.id in self.ripe]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@define(eq=False)
class Post:
    """The real broker, but messages for sagas go to a queue that nobody works through, until they are forwarded.

    Attributes:
        transport: the broker.
        sagas: the endpoints with sagas.
        left: every parcel that has been sent through it, as it was addressed.
        topics: of all events so far.
        topics: of all events so far.
    """

    transport: Transport
    sagas: frozenset[str]
    left: list[Parcel] = field(factory=list)
    topics: set[str] = field(factory=set)
    _known: set[str] = field(factory=set)
    _given: dict[str, list[Receiver]] = field(factory=lambda: defaultdict(list))

    @property
    def url(self) -> str:
        return self.transport.url

    @property
    def server(self) -> Any:
        return self.transport.server

    def declare(self, endpoint: str, *, subscriptions: Sequence[str], **options: Any) -> None:
        self._known.add(endpoint)
        if endpoint in self.sagas:
            self.transport.declare(endpoint + WAITING, subscriptions=subscriptions, **options)
            subscriptions = ()
        self.transport.declare(endpoint, subscriptions=subscriptions, **options)

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        return self.transport.send(self.taken(parcels), force=force)

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> Receiver:
        receiver = PostReceiver(self, self.transport.receiver(endpoints, consumer=consumer, claim_s=claim_s))
        self._given[consumer].append(receiver)
        return receiver

    def goes_elsewhere(self, parcel: Parcel) -> bool:
        """Return whether *parcel* ends where everything does that is for nobody of the case; every event does, too."""
        return parcel.kind is ParcelKind.EVENT or parcel.to not in self._known

    def disconnect(self, consumer: str) -> None:
        """Close the receivers of *consumer*, as a broken connection does: what it had not acked is given back."""
        for receiver in self._given.pop(consumer, []):
            receiver.close()

    def taken(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Return *parcels* as the broker gets them: to the sagas' waiting queues, or to where everything else ends."""
        self.left += parcels
        return [self._redirected(parcel) for parcel in parcels]

    def _redirected(self, parcel: Parcel) -> Parcel:
        if parcel.kind is ParcelKind.EVENT:
            if parcel.to not in self.topics:
                self.topics.add(parcel.to)
                self.transport.declare(ELSEWHERE, subscriptions=sorted(self.topics))
            return parcel
        if self.goes_elsewhere(parcel):
            return evolve(parcel, to=ELSEWHERE)
        return evolve(parcel, to=parcel.to + WAITING) if parcel.to in self.sagas else parcel

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


@frozen(eq=False)
class PostReceiver:
    """A real receiver whose parcels are redirected."""

    post: Post
    receiver: Receiver

    def exchange(self, parcels: Sequence[Parcel], *args: Any, **options: Any) -> Exchanged:
        return self.receiver.exchange(self.post.taken(parcels), *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.receiver, name)


class ForcedWorker:
    """One worker in a thread of its own.

    Args:
        open_bus: returns the bus that it works on, over a store and a transport.
        store: the real store.
        post: the broker.
        endpoints: what it works through.
        name: its name.
    """

    def __init__(
        self, open_bus: Callable[[Any, Any], Bus], store: Store, post: Post, endpoints: Sequence[str], name: str
    ) -> None:
        self.name = name
        self.at: Report = Through()
        self.gate = Gate()
        self.store = GatedStore(store, self.gate)
        self._post = post
        self._worker = open_bus(self.store, post).worker(endpoints, name=name)
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether it can take a turn, or is in one."""
        return not isinstance(self.at, Through) or self.at.error is None

    def go(self) -> Report:
        """Let it on, or have it take a turn; return where it stops.

        Raises:
            BaseException: whatever it died of.
        """
        self.at = self.gate.order("go on")
        if isinstance(self.at, Through) and self.at.error is not None:
            raise self.at.error
        return self.at

    def die(self) -> None:
        """Have it die where it is; what it had received is given back."""
        if self.alive:
            self.at = self.gate.order("die")
        self._thread.join(_WATCHDOG_S)
        self._post.disconnect(self.name)

    def _live(self) -> None:
        while self.gate.orders.get() != "die":
            try:
                self._worker.run_until_idle()
            except BaseException as error:
                self.gate.reports.put(Through(error))
                return
            self.gate.reports.put(Through())
        self.gate.reports.put(Through(Killed()))
