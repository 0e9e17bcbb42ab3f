"""A stage whose steps real workers take: the `Stage` that plays schedules by hand, with the workers as its store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from attrs import define, field
from msgspec.structs import replace

from sagabus.commit import Commit, HistoryEntry, Result, Snapshot, Want
from sagabus.envelope import Envelope, SagaKey, decode, encode
from sagabus.observe.log import get_logger
from sagabus.runtime.timers import TimerPump
from sagabus.store.protocol import Bookkeeping, Store
from sagabus.testing.simulator.stage import Held, Stage
from sagabus.testing.simulator.world import Load
from sagabus.transport import Delivery, Parcel, ParcelKind, Receiver, Transport
from sagabus.worker import Worker
from tests.changes import evolve
from tests.simulation.differential.cases import Case
from tests.simulation.differential.workers import (
    ELSEWHERE,
    WAITING,
    AtCommit,
    AtLoad,
    ForcedWorker,
    Post,
    RipeStore,
    Through,
)

_MOST: Final = 1000
_ROUNDS: Final = 100
_CLAIM_S: Final = 30.0


class ForcedWorkers:
    """Real workers in the place of a store: a load is a worker that loads, a commit one that commits.

    Args:
        case: whose bus they work on.
        store: the real store.
        transport: the real broker.
    """

    def __init__(self, case: Case, store: Store, transport: Transport) -> None:
        self._case, self._store, self._transport = case, store, transport
        self.definitions = case.definitions()
        self._sagas = sorted({definition.endpoint for definition in self.definitions.values()})
        self.post = Post(transport, frozenset(self._sagas))
        transport.declare(ELSEWHERE, subscriptions=())
        self._ripe = RipeStore(store)
        self._clerk = Post(transport, frozenset(self._sagas), topics=self.post.topics)
        bus = self._open(self._ripe, self._clerk)
        consuming = [name for name, endpoint in bus.endpoints.items() if endpoint.consumers]
        self._pump = TimerPump(bus, log=get_logger())
        self._consumers = Worker(bus, consuming, name="clerk") if consuming else None
        # Declares the queues.
        assert bus.transport is self._clerk
        queues = [*(endpoint + WAITING for endpoint in self._sagas), ELSEWHERE]
        self._receivers = {q: transport.receiver([q], consumer="sorter", claim_s=_CLAIM_S) for q in queues}
        self._workers: list[ForcedWorker] = []
        self._pool: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        self.in_process = self.killed = 0

    def _open(self, store: Any, transport: Any) -> Any:
        return self._case.open(store, transport)

    # -- as a store ----------------------------------------------------------------------------------------------

    def load(self, wants: Sequence[Want]) -> list[Snapshot]:
        """Have a worker load what is wanted, and return what it has read."""
        (want,) = wants
        worker = next((w for w in self._workers if w.at == AtLoad((want,))), None)
        if worker is not None:
            self.in_process += 1
        else:
            worker = self._received(want)
        at = worker.go()
        assert isinstance(at, AtCommit), f"{worker.name} found nothing to do for {want}: {at}"
        return [at.snapshot]

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        """Have the worker commit that has come to the same commit, and go on until it loads again or is through."""
        (commit,) = commits
        commits_at_gates = [(w, _timeless(w.at.commit)) for w in self._workers if isinstance(w.at, AtCommit)]
        worker = next((w for w, other in commits_at_gates if other == _timeless(commit)), None)
        assert worker is not None, f"no worker has come to {commit}, but to {[other for _, other in commits_at_gates]}"
        at = worker.go()
        assert isinstance(at, Through | AtLoad), at
        self._consume()
        return worker.store.results

    def note(self, bookkeeping: Bookkeeping) -> None:
        """Make sure that what the stage would note now has been noted by the worker: its outbox is empty."""
        for key, ids in bookkeeping.dispatched.items():
            (snapshot,) = self._store.load([Want(key, ids)])
            left = {id_: lines for id_, lines in snapshot.consumed.items() if lines}
            assert not left, f"a worker that is through has left {left} undispatched"

    def history(self, key: SagaKey) -> list[HistoryEntry]:
        """Return what the record of a saga remembers."""
        return self._store.history(key)

    # -- messages ------------------------------------------------------------------------------------------------

    def deliver(self, endpoint: str, envelope: Envelope) -> None:
        """Put a message into the queue of a saga, as its sender does, or a broker that delivers twice."""
        self._transport.send([_parcel(endpoint + WAITING, envelope.id, encode(envelope))])

    def has(self, key: SagaKey, id_: str) -> bool:
        """Return whether a message waits for a saga, is a timer of it, or in the hands of a worker that was refused."""
        self._collect()
        return (
            bool(self._pool[self._endpoint(key), id_])
            or any(item.id == id_ for item in self._store.scheduled())
            or any(id_ in _ids(worker) for worker in self._workers)
        )

    def _received(self, want: Want) -> ForcedWorker:
        """Return a worker that has received exactly the messages of *want*, and is about to load."""
        endpoint = self._endpoint(want.key)
        bodies = [self._found(endpoint, want.key, id_) for id_ in want.ids]
        worker = next((w for w in self._workers if w.at == Through()), None) or self._hired()
        self._transport.send([_parcel(endpoint, *each) for each in zip(want.ids, bodies, strict=True)])
        at = worker.go()
        assert at == AtLoad((want,)), f"{worker.name} should load {want} and stopped at {at}"
        return worker

    def _hired(self) -> ForcedWorker:
        name = f"worker-{len(self._workers)}"
        worker = ForcedWorker(self._open, self._store, self.post, self._sagas, name)
        self._workers.append(worker)
        return worker

    def _found(self, endpoint: str, key: SagaKey, id_: str) -> bytes:
        """Take a message from where it waits: its queue, the store's timers, or a worker that would run it again."""
        waiting = self._pool[endpoint, id_]
        self._collect()
        if not waiting and any(item.id == id_ for item in self._store.scheduled()):
            self._fire({id_})
        if not waiting:
            holder = next((w for w in self._workers if id_ in _ids(w)), None)
            assert holder is not None, f"{id_} for {key} has never come"
            self._kill(holder)
        assert waiting, f"{id_} for {key} has never come"
        return waiting.pop()

    def _kill(self, worker: ForcedWorker) -> None:
        """Have a worker die that was refused; the broker gives back what it had."""
        worker.die()
        self.killed += 1
        for endpoint in self._sagas:
            # A receiver that has just come finds at once what was given back.
            receiver = self._transport.receiver([endpoint], consumer="finder", claim_s=_CLAIM_S)
            self._keep(endpoint, _emptied(receiver))
            receiver.close()

    def _fire(self, ids: set[str]) -> None:
        self._ripe.ripe = ids
        self._pump.pump()
        self._ripe.ripe = set()
        self._collect()

    def _consume(self) -> None:
        """Have the consumers answer what has just been sent, at once."""
        if self._consumers is not None:
            self._consumers.run_until_idle()

    def _collect(self) -> None:
        for endpoint in self._sagas:
            self._keep(endpoint, _emptied(self._receivers[endpoint + WAITING]))

    def _keep(self, endpoint: str, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._pool[endpoint, decode(delivery.body).id].append(delivery.body)

    def _endpoint(self, key: SagaKey) -> str:
        return self.definitions[key.name].endpoint

    # -- the end -------------------------------------------------------------------------------------------------

    def settle(self) -> int:
        """Have the workers handle whatever is left, in any order; return how many messages that were."""
        handled = 0
        for _ in range(_ROUNDS):
            for worker in self._workers:
                while worker.alive and worker.at != Through():
                    worker.go()
            self._collect()
            self._fire({item.id for item in self._store.scheduled()})
            left = [(endpoint, id_, body) for (endpoint, id_), bodies in self._pool.items() for body in bodies]
            self._pool.clear()
            if not left:
                return handled
            handled += len(left)
            worker = next((w for w in self._workers if w.at == Through()), None) or self._hired()
            self._transport.send([_parcel(*each) for each in left])
            while worker.go() != Through():
                pass
            self._consume()
        raise AssertionError("the workers never come to an end")

    def arrived(self) -> Counter[str]:
        """Return the ids of what has come to where nobody of the case listens."""
        return Counter(decode(delivery.body).id for delivery in _emptied(self._receivers[ELSEWHERE]))

    def close(self) -> None:
        """End every worker, wherever it is."""
        for worker in self._workers:
            worker.die()
        for receiver in self._receivers.values():
            receiver.close()
        self._clerk.disconnect("clerk")


def _ids(worker: ForcedWorker) -> tuple[str, ...]:
    """Return the messages that a worker was refused and is about to run again."""
    return worker.at.wants[0].ids if isinstance(worker.at, AtLoad) else ()


def _timeless(commit: Commit) -> Commit:
    """Return *commit* without the times at which its messages were made: a consumer's answer has the real one."""
    return evolve(commit, messages=tuple(replace(message, time="") for message in commit.messages))


def _emptied(receiver: Receiver) -> Iterator[Delivery]:
    while deliveries := receiver.receive(_MOST, 0.0):
        receiver.exchange([], deliveries, [], 0, 0.0)
        yield from deliveries


def _parcel(endpoint: str, id_: str, body: bytes) -> Parcel:
    return Parcel(ParcelKind.COMMAND, endpoint, body, id_, id_)


@define
class ForcedStage(Stage):
    """A stage played by workers.

    Attributes:
        loads: the loads of the schedule, in order: they say what is delivered or sent once more.
    """

    loads: Iterator[Load] = field(factory=lambda: iter(()))
    _resends: int = 0

    def load(self, key: SagaKey, messages: Sequence[Envelope]) -> Held:
        """Have a worker load a saga and run it on *messages*; and deliver or send again what the schedule says."""
        workers: Any = self.store
        endpoint = self.definitions[key.name].endpoint
        for message in messages:
            if self._resends and "." in message.id and not workers.has(key, message.id):
                self._resends -= 1
                workers.deliver(endpoint, message)
        held = super().load(key, messages)
        load = next(self.loads)
        if load.kept:
            workers.deliver(endpoint, messages[load.kept - 1])
        self._resends += bool(load.resent)
        return held
