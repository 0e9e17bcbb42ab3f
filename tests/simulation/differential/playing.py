"""Playing a schedule on stores and on workers, and failing where anything differs from what was foretold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from attrs import frozen

from sagabus.link import Link
from sagabus.messages import MERGE
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Store
from sagabus.store.redis import RedisStore
from sagabus.testing.simulator.stage import Stage
from sagabus.testing.simulator.telling import Teller
from sagabus.testing.simulator.world import Load
from sagabus.transport import Parcel, ParcelKind, Transport
from tests.simulation.differential.accounts import Account, Sent, Watched
from tests.simulation.differential.cases import CASES, Case
from tests.simulation.differential.foretelling import Expecting, Walk, draw, foretell_decisions
from tests.simulation.differential.stage import ForcedStage, ForcedWorkers
from transports.memory import MemoryTransport
from transports.redis_streams import RedisStreamsTransport


def by_hand(case: Case, walk: Walk, store: Store) -> Account:
    """Play a schedule on *store* as traces are told, one call after the other."""
    expecting = Expecting.of(walk)
    stage = Stage(case.definitions(), Watched(store, expecting))
    Teller(walk.worlds, walk.inquiry.scene, stage).tell(walk.opening, walk.events)
    return _closed(expecting, store, walk)


def _closed(expecting: Expecting, store: Store, walk: Walk) -> Account:
    assert len(expecting.steps) == len(expecting.foretold)
    account = Account(list(expecting.steps))
    account.close(store, walk.keys)
    assert account.decisions() == foretell_decisions(walk)
    return account


@frozen
class Played:
    """What came of a schedule that workers were forced along.

    Attributes:
        account: when the schedule was through.
        settled: when the workers had also handled what it leaves over, which can change nothing.
        left: what had left the workers, but for MergeSagaState and timers.
        merges: the MergeSagaState messages that had left the workers, by id.
        left_later: what left them after the schedule.
        arrived, expected: ids of what came to where nobody of the case listens, and of what was sent there.
        in_process, killed: how many refused runs were made again by the same worker, and by another after it had died.
    """

    account: Account
    settled: Account
    left: Counter[Sent]
    merges: Counter[str]
    left_later: list[Parcel]
    arrived: Counter[str]
    expected: Counter[str]
    in_process: int
    killed: int


def by_workers(case: Case, walk: Walk, store: Store, transport: Transport) -> Played:
    """Force a schedule on workers, then have them handle what it leaves."""
    expecting, settled = Expecting.of(walk), Account()
    workers = ForcedWorkers(case, Watched(store, expecting), transport)
    try:
        for given in walk.inquiry.scene.inputs(walk.inquiry.start, walk.inquiry.messages):
            for key in given.keys:
                workers.deliver(workers.definitions[key.name].endpoint, given.envelope)
        store_of_stage: Any = workers
        stage = ForcedStage(workers.definitions, store_of_stage, loads=(e for e in walk.events if isinstance(e, Load)))
        Teller(walk.worlds, walk.inquiry.scene, stage).tell(walk.opening, walk.events)
        account, left = _closed(expecting, store, walk), list(workers.post.left)
        workers.settle()
        settled.close(store, walk.keys)
        return Played(
            account,
            settled,
            Counter(_sent(parcel) for parcel in left if not _is_merge(parcel)),
            Counter(parcel.id for parcel in left if _is_merge(parcel)),
            workers.post.left[len(left) :],
            workers.arrived(),
            Counter(parcel.id for parcel in left if workers.post.goes_elsewhere(parcel)),
            workers.in_process,
            workers.killed,
        )
    finally:
        workers.close()


def _sent(parcel: Parcel) -> Sent:
    kind = OutgoingKind.EVENT if parcel.kind is ParcelKind.EVENT else OutgoingKind.COMMAND
    return Sent.of(Outgoing(kind, parcel.to, parcel.id, parcel.partition_key, parcel.body), 0)


def _is_merge(parcel: Parcel) -> bool:
    return _sent(parcel).type == MERGE


@frozen
class Server:
    """A private server, and a part of it that nobody else uses.

    Attributes:
        url: where.
        namespace: what all keys begin with; each schedule has one of its own below it.
    """

    url: str
    namespace: str
    link: Link

    def store(self, name: str) -> RedisStore:
        """Return a store; it is empty where nobody has asked for one of this name."""
        return RedisStore(self.url, namespace=f"{self.namespace}-{name}", link=self.link)

    def transport(self, name: str) -> RedisStreamsTransport:
        """Return a broker on the same server, likewise."""
        return RedisStreamsTransport(self.url, namespace=f"{self.namespace}-{name}")

    @classmethod
    @contextmanager
    def at(cls, url: str, namespace: str) -> Iterator[Server]:
        """Yield a part of the server at *url*, and delete all keys in it afterwards."""
        link = Link(url)
        try:
            yield cls(url, namespace, link)
            found = link.on_node("", "KEYS", f"{namespace}-*")
            if found:
                link.on_node("", "UNLINK", *found)
        finally:
            link.close()


def walks(name: str, seeds: Iterable[int]) -> Iterator[tuple[int, Walk]]:
    """Yield the schedule of each seed, all of them through one simulation."""
    inquiry = CASES[name].inquiry()
    for seed in seeds:
        yield seed, draw(inquiry, seed)


@contextmanager
def told_on_failure(seed: int, walk: Walk) -> Iterator[None]:
    """Have whatever fails say on which schedule."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"on the schedule of seed {seed}:\n{walk}")
        raise


def assert_stores_agree(name: str, seeds: Iterable[int], server: Server) -> None:
    """Fail where memory, the server and the simulator differ on any schedule."""
    for seed, walk in walks(name, seeds):
        with told_on_failure(seed, walk):
            remembered = by_hand(CASES[name], walk, MemoryStore())
            assert by_hand(CASES[name], walk, server.store(f"by-hand-{seed}")) == remembered


def assert_workers_agree(name: str, seeds: Iterable[int], server: Server) -> list[Played]:
    """Fail where workers do anything else than the simulator foretells; return what they did."""
    found = []
    for seed, walk in walks(name, seeds):
        # Queues on the store's server are dispatched to with one atomic write; others send, note and ack one by one.
        transport = server.transport(f"by-workers-{seed}") if seed % 3 else MemoryTransport()
        with told_on_failure(seed, walk), closing(transport):
            played = by_workers(CASES[name], walk, server.store(f"by-workers-{seed}"), transport)
            assert played.account == by_hand(CASES[name], walk, MemoryStore())
            assert played.left == played.account.sent()
            assert played.merges == played.account.merges()
            assert played.arrived == played.expected
            assert played.left_later == []
            assert played.settled.standings == played.account.standings
            assert played.settled.versions == played.account.versions
        found.append(played)
    return found
