"""What a batch costs: one load, one commit, one dispatch; counted here and, independently, on the wire."""

from __future__ import annotations

import random
import selectors
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Outcome, Want
from sagabus.envelope import Incoming, SagaKey, encode, wrap
from sagabus.observe.log import get_logger
from sagabus.outgoing import posted_merge
from sagabus.runtime.lane import Lane
from tests.integration.apps import put


@message("trips.begin")
class Begin:
    key: str


@message("trips.change")
class Change:
    key: str
    what: str = ""


@message("trips.begin-alone")
class BeginAlone:
    key: str


@message("trips.change-alone")
class ChangeAlone:
    key: str
    what: str = ""


@message("trips.tick")
class Tick:
    pass


@message("trips.happened")
class Happened:
    key: str


@message("trips.work")
class Work:
    key: str


@define
class Notes:
    notes: set[str] = field(factory=set)


def union(siblings: Any) -> Notes:
    return Notes(set().union(*(s.notes for s in siblings)))


class Busy(Saga[Notes], key="key", merger=union):
    @starts
    def begun(self, m: Begin) -> None:
        self.defer(Tick(), after=3600.0, name="tick")
        self.send(Work(self.id), to="work")

    @handles
    def changed(self, m: Change) -> None:
        self.state.notes.add(m.what)
        match m.what:
            case "send":
                self.send(Work(self.id), to="work")
            case "publish":
                self.publish(Happened(self.id))
            case "defer":
                self.defer(Tick(), after=3600.0, name="tick")
            case "cancel":
                self.cancel("tick")
            case "lose":
                self.send(Work(self.id), to="nowhere")
            case "fail":
                raise ValueError
            case _:
                pass

    @handles
    def ticked(self, m: Tick) -> None: ...

    def decide(self) -> None:
        if "complete" in self.state.notes:
            self.publish(Happened(self.id))
            self.complete()

    def on_late(self, m: Any) -> None:
        self.send(Work(self.id), to="work")


class Alone(Saga[Notes], key="key", exclusive=True):
    @starts
    def began(self, m: BeginAlone) -> None: ...

    @handles
    def changed(self, m: ChangeAlone) -> None:
        if m.what == "fail":
            raise ValueError
        self.state.notes.add(m.what)


QUIET_S = 0.01


class TripCounter:
    """Stands between clients and a server, and counts how often a client speaks and waits."""

    def __init__(self) -> None:
        self.trips = 0


@contextmanager
def counting(url: str) -> Iterator[tuple[str, TripCounter]]:
    """Yield a URL that leads to the server at *url*, and what counts the round trips to it."""
    counter = TripCounter()
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder, ExitStack() as stack:
        path = f"{folder}/proxy.sock"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()

        def serve(client: socket.socket) -> None:
            with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
                server.connect(url.removeprefix("unix://"))
                selector.register(client, selectors.EVENT_READ)
                selector.register(server, selectors.EVENT_READ)
                question = b""
                while True:
                    ready = selector.select(QUIET_S if question else None)
                    for key, _ in ready:
                        end: Any = key.fileobj
                        data = end.recv(1 << 20)
                        if not data:
                            return
                        if end is client:
                            question += data
                        else:
                            client.sendall(data)
                    # What a client sends in pieces is one question; it is asked when no more comes.
                    if question and not ready:
                        counter.trips += 1
                        server.sendall(question)
                        question = b""

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return  # the test is over
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"unix://{path}", counter
        listener.shutdown(socket.SHUT_RDWR)


@define
class Stage:
    """One lane of the app on one server, warmed up, with everybody's round trips counted."""

    bus: Bus
    lane: Lane
    counter: TripCounter

    def ours(self) -> int:
        store: Any = self.bus.store
        transport: Any = self.bus.transport
        return int(store.link.round_trips + transport.link.round_trips)

    def turn(self) -> tuple[int, int, int]:
        """Receive all that is there and take the turn that handles it; return how many, and the cost as two see it."""
        deliveries = self.lane.turn([], 0.0)
        before = self.ours(), self.counter.trips
        self.lane.turn(deliveries, 0.0)
        return len(deliveries), self.ours() - before[0], self.counter.trips - before[1]


@pytest.fixture
def stage(valkey_url: str, namespace: str) -> Iterator[Callable[[str], Stage]]:
    """Return a lane of an endpoint, in this thread."""
    with (
        counting(valkey_url) as (url, counter),
        Bus(store=url, transport=url, namespace=namespace, claim_s=600.0) as bus,
    ):
        bus.endpoint("busy", Busy, Alone, retry=RetryPolicy(max_attempts=2), batch=64)
        work = bus.endpoint("work", batch=64, concurrency=64)
        bus.endpoint("ears").consumer(Happened)(lambda m: None)

        @work.consumer
        def worked(m: Work, context: Context) -> None:
            context.send(Change(m.key, "worked"), to="busy")

        def make(endpoint: str) -> Stage:
            nothing = threading.Event()
            lane = Lane(
                bus,
                [bus.endpoints[endpoint]],
                consumer="c",
                stop=nothing,
                abort=nothing,
                jitter=random.random,
                log=get_logger(),
                inline=True,
            )
            made = Stage(bus, lane, counter)
            # The first turns look for what was left behind, learn the server's clock and load its scripts.
            for _ in range(2):
                bus.send(Begin("warm") if endpoint == "busy" else Work("warm"), to=endpoint)
                bus.send(Change("warm", "send"), to="busy")
                bus.send(BeginAlone("warm"), to="busy")
                for _ in range(3):
                    lane.turn(lane.turn([], 0.0), 0.0)
            return made

        yield make


def fork(bus: Bus, key: str) -> bytes:
    """Leave two siblings of a saga, and return the merge message that was posted for them."""
    definition = bus.saga("Busy")
    assert definition is not None
    saga = SagaKey("Busy", key)
    snapshots = [bus.store.load([Want(saga, (f"{key}-{n}",))])[0] for n in range(2)]
    for n, snapshot in enumerate(snapshots):
        incoming = Incoming(wrap(Change(key, f"branch {n}"), id=f"{key}-{n}", source="/t", now_ms=0))
        (result,) = bus.store.commit([advance(definition, snapshot, [incoming])], by="t")
    assert result.outcome is Outcome.FORKED
    return posted_merge(saga, 1, f"{key}-1", "busy", 0).body


def test_batch_of_everything_costs_one_load_one_commit_and_one_dispatch(stage: Callable[[str], Stage]) -> None:
    """Sixty-four messages with every kind of effect and outcome cost three round trips."""
    made = stage("busy")
    bus, lane = made.bus, made.lane
    keys = [f"k{n}" for n in range(12)]
    bus.send_many([Begin(key) for key in keys], to="busy")
    lane.turn(lane.turn([], 0.0), 0.0)
    bus.send_many([Change("k0", "complete"), Change("k1", "complete")], to="busy")
    lane.turn(lane.turn([], 0.0), 0.0)
    merges = [fork(bus, "k2"), fork(bus, "k3")]
    kinds = ["send", "publish", "defer", "cancel"]
    batch: list[Any] = [Change(key, kinds[n % 4]) for n, key in enumerate(keys[4:])]
    batch += [Change("k0", "late"), Begin("k1"), Change("k2", "send"), Change("k10", "complete")]
    batch += [Change("k11", "fail"), Change("nobody", "early"), Happened("k1")]
    batch += [Begin(f"n{n}") for n in range(64 - len(batch) - len(merges) - 3)]
    bus.send_many(batch, to="busy")
    for merge in merges:
        put(bus, "busy", merge)
    put(bus, "busy", b"no envelope at all")
    # The same message a second time, in one batch and from before.
    put(bus, "busy", encode(wrap(Change("k2", "again"), id="k2-0", source="/t", now_ms=0)))
    put(bus, "busy", encode(wrap(Change("k5", "x"), id="k5-0", source="/t", now_ms=0)))
    size, ours, others = made.turn()
    assert size == 64
    assert (ours, others) == (3, 3)
    tally = lane.tally
    assert tally.merges == 2
    assert tally.late >= 2
    assert (tally.failed, tally.repeated) == (1, 1)
    assert {d.reason for d in bus.store.dead()} == {"undecodable", "no-handler"}
    assert {q.endpoint: q.depth for q in bus.transport.queues()}["busy"] == 0


def test_single_message_costs_no_more_than_a_batch(stage: Callable[[str], Stage]) -> None:
    """One message costs three round trips, whatever it asks for."""
    made = stage("busy")
    for change in (Begin("k"), Change("k", "send"), Change("k", "defer"), Change("k", "complete"), Change("k", "late")):
        made.bus.send(change, to="busy")
        assert made.turn() == (1, 3, 3), change


def test_message_for_an_exclusive_saga_costs_no_more(stage: Callable[[str], Stage]) -> None:
    """The lease is granted with the load and given back with the commit."""
    made = stage("busy")
    for change in (BeginAlone("k"), ChangeAlone("k", "a"), ChangeAlone("k", "b")):
        made.bus.send(change, to="busy")
        assert made.turn() == (1, 3, 3), change


def test_batch_for_exclusive_sagas_costs_a_load_and_a_commit_for_the_longest_of_them(
    stage: Callable[[str], Stage],
) -> None:
    """One message at a time, all sagas at once; where the last one fails, giving back its lease costs one more."""
    made = stage("busy")
    keys = [f"k{n}" for n in range(8)]
    made.bus.send_many([BeginAlone(key) for key in keys], to="busy")
    assert made.turn() == (8, 3, 3)
    made.bus.send_many([ChangeAlone(key, str(n)) for n in range(4) for key in keys], to="busy")
    assert made.turn() == (32, 9, 9)
    made.bus.send_many([ChangeAlone("k0", "fail")], to="busy")
    assert made.turn() == (1, 3, 3)


def test_failing_message_costs_no_more(stage: Callable[[str], Stage]) -> None:
    """A failure is noted with the dispatch; with nothing to commit, there is no commit."""
    made = stage("busy")
    made.bus.send(Begin("k"), to="busy")
    made.turn()
    made.bus.send(Change("k", "fail"), to="busy")
    assert made.turn() == (1, 2, 2)
    made.bus.send(Change("nobody", "early"), to="busy")
    assert made.turn() == (1, 2, 2)


def test_batch_for_consumers_costs_one_dispatch(stage: Callable[[str], Stage]) -> None:
    """Consumers have nothing to load: their answers, the acks and the next receive are one round trip."""
    made = stage("work")
    made.bus.send_many([Work(str(n)) for n in range(64)], to="work")
    assert made.turn() == (64, 1, 1)


def test_dispatch_with_nowhere_to_go_costs_two_more(stage: Callable[[str], Stage]) -> None:
    """A dead letter for what nobody takes must be on record before anything is acked: the rare case pays for it."""
    made = stage("busy")
    made.bus.send(Begin("k"), to="busy")
    made.turn()
    made.bus.send(Change("k", "lose"), to="busy")
    assert made.turn() == (1, 5, 5)
    assert [d.reason for d in made.bus.store.dead()] == ["no-endpoint"]


def test_send_many_costs_a_round_trip_for_every_five_hundred(stage: Callable[[str], Stage]) -> None:
    """A client's batch is one write."""
    made = stage("work")
    before = made.ours()
    made.bus.send_many([Work(str(n)) for n in range(1001)], to="work")
    assert made.ours() - before == 3


def test_idle_lane_costs_one_round_trip_a_second(stage: Callable[[str], Stage]) -> None:
    """A lane that waits asks once and is told; it does not poll."""
    made = stage("busy")
    before = made.counter.trips
    assert made.lane.turn([], 0.05) == []
    assert made.counter.trips - before == 1
