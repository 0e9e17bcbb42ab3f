"""One lane for several endpoints, on a server: who is received, how many run, and whose name is on what is logged."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
import structlog
from attrs import define, field

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Want
from sagabus.envelope import Incoming, SagaKey, decode, encode, wrap
from sagabus.observe.log import configure, get_logger
from sagabus.runtime.crew import collect
from sagabus.runtime.lane import Lane
from sagabus.runtime.surroundings import Finished
from sagabus.store.protocol import Bookkeeping, DeadLetter
from sagabus.testing.transport_contract import command, take
from sagabus.transport import Delivery
from tests.integration.apps import put
from tests.integration.test_runtime import working
from tests.servers import until
from transports.redis_streams import RedisStreamsTransport

PATIENCE_S = 20.0


@message("lanes.begin")
class Begin:
    key: str


@message("lanes.change")
class Change:
    key: str
    what: str = ""


@message("lanes.slow")
class Slow:
    number: int


@message("lanes.quick")
class Quick:
    number: int


@message("lanes.all")
class All:
    number: int


@message("lanes.fail")
class Fail:
    pass


@define
class Notes:
    notes: set[str] = field(factory=set)


def union(siblings: Any) -> Notes:
    return Notes(set().union(*(s.notes for s in siblings)))


class Noting(Saga[Notes], key="key", merger=union):
    @starts
    def begun(self, m: Begin) -> None:
        self.state.notes.add("begun")

    @handles
    def changed(self, m: Change) -> None:
        self.state.notes.add(m.what)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lanes that wait for messages look up often, so that workers stop soon."""
    monkeypatch.setattr("sagabus.runtime.lane.IDLE_WAIT_S", 0.05)


@pytest.fixture
def bus(valkey_url: str, namespace: str) -> Iterator[Bus]:
    with Bus(store=valkey_url, transport=valkey_url, namespace=namespace) as made:
        yield made


@pytest.fixture
def client(valkey_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


class Gate:
    """Handlers that wait until they are let through; counts them.

    Attributes:
        most: how many were inside at once, at most.
        begun: how often each was begun.
    """

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = self.most = 0
        self.begun: Counter[int] = Counter()
        self._lock = threading.Lock()

    def enter(self, number: int) -> None:
        with self._lock:
            self.begun[number] += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(PATIENCE_S)
        with self._lock:
            self.inside -= 1


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Yield a gate that is open when the test ends, however it does."""
    gate = Gate()
    yield gate
    gate.open.set()


def holders(client: Any, bus: Bus, endpoint: str) -> dict[str, int]:
    """Return how many messages of an endpoint each consumer has received and not acked."""
    transport: Any = bus.transport
    (stream,) = transport._topologies.cached.endpoints[endpoint].streams
    return {each["name"].decode(): each["pending"] for each in client.xpending(stream, "workers")["consumers"]}


def pending(client: Any, bus: Bus, endpoint: str) -> int:
    return sum(holders(client, bus, endpoint).values())


# -- slow ones beside others -------------------------------------------------------------------------------------


def test_slow_consumers_of_one_endpoint_hold_up_no_other(bus: Bus, client: Any, gate: Gate) -> None:
    """All its places are taken: others are received and handled, it is not asked; with room again it gets the rest."""
    places, batch, many = 8, 16, 100
    quick: Counter[int] = Counter()
    bus.endpoint("slow", concurrency=places, batch=batch).consumer(Slow)(lambda m: gate.enter(m.number))
    bus.endpoint("quick").consumer(Quick)(lambda m: quick.update([m.number]))
    bus.endpoint("sagas", Noting)
    bus.send_many([Slow(n) for n in range(many)], to="slow")

    def handled(count: int) -> bool:
        return len(quick) == len(list(bus.store.sagas())) == count

    with working(bus) as worker:
        until(lambda: gate.inside == places, "all places taken")
        assert {len(lane.endpoints) for lane in worker.lanes} == {3}
        for round_ in range(1, 4):
            numbers = range(100 * round_ - 100, 100 * round_)
            bus.send_many([Quick(n) for n in numbers], to="quick")
            bus.send_many([Begin(str(n)) for n in numbers], to="sagas")
            until(partial(handled, 100 * round_), "what the others have to do")
        assert not gate.open.is_set()
        assert (gate.inside, gate.most) == (places, places)
        # What it cannot handle soon is left to others.
        assert pending(client, bus, "slow") <= 2 * places
        gate.open.set()
        until(lambda: len(gate.begun) == many, "the slow ones")
        until(lambda: all(queue.depth == 0 for queue in bus.transport.queues()), "the last ack")
    assert gate.most <= places
    assert gate.begun == dict.fromkeys(range(many), 1)
    assert quick == dict.fromkeys(range(300), 1)


def test_two_endpoints_whose_places_are_all_taken_wait_for_neither(bus: Bus, client: Any, gate: Gate) -> None:
    """With nobody left to ask for the lane asks for nothing; each goes on as soon as it has room itself."""
    places, many = 8, 40
    second = Gate()
    bus.endpoint("slow", concurrency=places).consumer(Slow)(lambda m: gate.enter(m.number))
    bus.endpoint("slow-too", concurrency=places).consumer(Quick)(lambda m: second.enter(m.number))
    bus.send_many([Slow(n) for n in range(many)], to="slow")
    bus.send_many([Quick(n) for n in range(many)], to="slow-too")
    try:
        with working(bus) as worker:
            until(lambda: gate.inside == second.inside == places, "all places taken")
            assert {len(lane.endpoints) for lane in worker.lanes} == {2}
            until(lambda: pending(client, bus, "slow") + pending(client, bus, "slow-too") == 4 * places, "what is next")
            second.open.set()
            until(lambda: len(second.begun) == many, "those that are let through")
            assert (gate.inside, len(gate.begun)) == (places, places)
            gate.open.set()
            until(lambda: len(gate.begun) == many, "the others")
            until(lambda: all(queue.depth == 0 for queue in bus.transport.queues()), "the last ack")
    finally:
        second.open.set()
    assert (gate.most, second.most) == (places, places)
    assert gate.begun == second.begun == dict.fromkeys(range(many), 1)


def test_handler_that_hangs_gives_its_place_to_another_beside_others(bus: Bus, gate: Gate) -> None:
    """In a lane that endpoints with that limit share: what hung is a dead letter, all others are handled."""
    places, many = 8, 40
    handled: Counter[int] = Counter()
    quick: Counter[int] = Counter()

    def hangs(m: Slow) -> None:
        if m.number < places:
            gate.enter(m.number)
        else:
            handled[m.number] += 1

    bus.endpoint("hangs", concurrency=places, handler_timeout_s=0.3).consumer(Slow)(hangs)
    bus.endpoint("quick", handler_timeout_s=0.3).consumer(Quick)(lambda m: quick.update([m.number]))
    bus.send_many([Slow(n) for n in range(many)], to="hangs")
    with working(bus) as worker:
        until(lambda: gate.inside == places, "all places taken")
        assert {len(lane.endpoints) for lane in worker.lanes} == {2}
        bus.send_many([Quick(n) for n in range(many)], to="quick")
        until(lambda: len(quick) == many and len(handled) == many - places, "all that does not hang")
        until(lambda: len(bus.store.dead()) == places, "the dead letters")
        until(lambda: all(queue.depth == 0 for queue in bus.transport.queues()), "the last ack")
        # Those that were left behind end before too many of them stop the worker.
        gate.open.set()
    letters = bus.store.dead()
    assert {(letter.reason, letter.endpoint) for letter in letters} == {("timed-out", "hangs")}
    assert handled == dict.fromkeys(range(places, many), 1)


# -- who is received ---------------------------------------------------------------------------------------------


@pytest.fixture
def transport(valkey_url: str, namespace: str) -> Iterator[RedisStreamsTransport]:
    made = RedisStreamsTransport(valkey_url, namespace=namespace)
    for endpoint in ("a", "b", "c"):
        made.declare(endpoint, subscriptions=["t"])
    yield made
    made.close()


def queues(deliveries: list[Delivery]) -> list[str]:
    return [delivery.queue for delivery in deliveries]


def test_deliveries_of_several_queues_are_taken_in_turn(transport: RedisStreamsTransport) -> None:
    """One of each, then the second of each: what was sent together is handled together. Each queue keeps its order."""
    for endpoint, count in (("a", 4), ("b", 1), ("c", 3)):
        transport.send([command(endpoint, f"{endpoint}{n}".encode()) for n in range(count)])
    received = take(transport.receiver(["a", "b", "c"], consumer="w", claim_s=60), 8)
    turns = [
        set(queues(received[:3])),
        set(queues(received[3:5])),
        set(queues(received[5:7])),
        set(queues(received[7:])),
    ]
    assert turns == [{"a", "b", "c"}, {"a", "c"}, {"a", "c"}, {"a"}]
    for endpoint, count in (("a", 4), ("b", 1), ("c", 3)):
        bodies = [delivery.body for delivery in received if delivery.queue == endpoint]
        assert bodies == [f"{endpoint}{n}".encode() for n in range(count)]


def test_queues_share_the_limit_equally(transport: RedisStreamsTransport) -> None:
    """A long queue leaves room for what is in the others."""
    for endpoint in ("a", "b", "c"):
        transport.send([command(endpoint, b"%d" % n) for n in range(100)])
    receiver = transport.receiver(["a", "b", "c"], consumer="w", claim_s=60)
    take(receiver, 3, limit=3)
    for limit in (30, 3, 60):
        assert Counter(queues(receiver.receive(limit, 0.0))) == dict.fromkeys("abc", limit // 3)


def test_queues_that_are_left_out_deliver_nothing_until_they_are_asked_again(transport: RedisStreamsTransport) -> None:
    """The limit is for the others then; what waits is there when it is asked for."""
    for endpoint in ("a", "b", "c"):
        transport.send([command(endpoint, b"%d" % n) for n in range(20)])
    receiver = transport.receiver(["a", "b", "c"], consumer="w", claim_s=60)
    assert Counter(queues(receiver.exchange((), (), (), 12, 0.0, shares={"a": 6, "c": 6}).deliveries)) == {
        "a": 6,
        "c": 6,
    }
    assert Counter(queues(receiver.exchange((), (), (), 4, 0.0, shares={"c": 4, "a": 0}).deliveries)) == {"c": 4}
    assert Counter(queues(receiver.receive(15, 0.0))) == {"a": 5, "b": 5, "c": 5}
    empty = transport.receiver(["a", "b"], consumer="v", claim_s=60)
    assert len(take(empty, 24, limit=128)) == 24
    transport.send([command("a", b"more")])
    assert empty.exchange((), (), (), 4, 0.02, shares={"b": 4}).deliveries == []
    assert [delivery.body for delivery in empty.receive(4, 5.0)] == [b"more"]


def test_queue_that_is_left_out_delivers_nothing_that_was_left_behind(transport: RedisStreamsTransport) -> None:
    """What another worker has left is no reason to take what cannot be handled now."""
    transport.send([command("a", b"%d" % n) for n in range(5)])
    left = transport.receiver(["a"], consumer="gone", claim_s=60)
    assert len(take(left, 5)) == 5
    left.close()
    receiver = transport.receiver(["a", "b"], consumer="w", claim_s=60)
    received = [receiver.exchange((), (), (), 10, 0.0, shares={"b": 10}).deliveries for _ in range(5)]
    assert [queues(deliveries) for deliveries in received] == [[]] * 5


def test_slow_consumers_do_not_hoard_what_was_left_behind(bus: Bus, client: Any, gate: Gate) -> None:
    """With all its places taken an endpoint gets nothing more, from whomever; what is new for others does not wait."""
    places, many = 8, 60
    quick: Counter[int] = Counter()
    bus.endpoint("slow", concurrency=places).consumer(Slow)(lambda m: gate.enter(m.number))
    bus.endpoint("quick").consumer(Quick)(lambda m: quick.update([m.number]))
    bus.send_many([Slow(n) for n in range(many)], to="slow")
    left = bus.transport.receiver(["slow"], consumer="gone", claim_s=60)
    assert len(take(left, many)) == many
    left.close()
    with working(bus):
        until(lambda: gate.inside == places, "all places taken")
        bus.send(Quick(1), to="quick")
        until(lambda: quick[1], "the quick one")
        held = {name: count for name, count in holders(client, bus, "slow").items() if name != "gone"}
        gate.open.set()
        until(lambda: all(queue.depth == 0 for queue in bus.transport.queues()), "the last ack")
    assert gate.begun == dict.fromkeys(range(many), 1)
    assert sum(held.values()) <= 2 * places


def lane_of(bus: Bus, *names: str, inline: bool = True) -> Lane:
    """Return a lane of some endpoints, in this thread."""
    nothing = threading.Event()
    return Lane(
        bus,
        [bus.endpoints[name] for name in names],
        consumer="w",
        stop=nothing,
        abort=nothing,
        jitter=lambda: 0.5,
        log=get_logger().bind(worker="w"),
        inline=inline,
    )


def turns(lane: Lane, count: int = 4) -> None:
    deliveries: list[Delivery] = []
    for _ in range(count):
        deliveries = lane.turn(deliveries, 0.0)
    lane.turn(deliveries, 0.0)


def test_batch_of_a_lane_takes_of_each_endpoint_what_that_has_room_for(bus: Bus) -> None:
    """Its batch, or twice as many as its consumers have places for."""
    bus.endpoint("small", batch=5).consumer(Quick)(lambda m: None)
    bus.endpoint("large", batch=64).consumer(Slow)(lambda m: None)
    lane = lane_of(bus, "small", "large")
    assert lane.turn([], 0.0) == []
    bus.send_many([Quick(n) for n in range(50)], to="small")
    bus.send_many([Slow(n) for n in range(50)], to="large")
    assert Counter(queues(lane.turn([], 0.0))) == {"small": 5, "large": 32}


@pytest.mark.parametrize(("others", "most"), [(0, 256), (1, 170), (7, 56)])
def test_batch_of_a_lane_grows_for_all_when_messages_crowd_at_a_saga(bus: Bus, others: int, most: int) -> None:
    """What answers a crowd takes more at once too, where its consumers have places; all of them 512 a turn at most."""
    bus.endpoint("saga", Noting)
    bus.endpoint("asked", concurrency=200).consumer(Quick)(lambda m: None)
    names = ["saga", "asked", *(f"other-{number}" for number in range(others))]
    for name in names[2:]:
        bus.endpoint(name).consumer(Slow)(lambda m: None)
    lane = lane_of(bus, *names)
    assert lane.turn([], 0.0) == []
    bus.send_many([Begin("hot") for _ in range(500)], to="saga")
    bus.send_many([Quick(n) for n in range(500)], to="asked")
    first = lane.turn([], 0.0)
    assert Counter(queues(first)) == dict.fromkeys(("saga", "asked"), min(64, most))
    assert Counter(queues(lane.turn(first, 0.0))) == dict.fromkeys(("saga", "asked"), most)


def test_batch_of_a_lane_is_no_larger_for_an_endpoint_with_partitions(bus: Bus) -> None:
    """`batch` is the most that is handled in one load and one commit, in however many streams it lies."""
    bus.endpoint("parts", batch=10, partitions=4).consumer(Quick)(lambda m: None)
    bus.endpoint("whole", batch=10).consumer(Slow)(lambda m: None)
    lane = lane_of(bus, "parts", "whole")
    assert lane.turn([], 0.0) == []
    bus.send_many([Quick(n) for n in range(400)], to="parts")
    bus.send_many([Slow(n) for n in range(400)], to="whole")
    assert max(Counter(queues(lane.turn([], 0.0))).values()) <= 10


def test_answers_to_what_came_together_leave_in_the_order_in_which_it_came(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was through first: what two endpoints answer to the same question is next to each other again."""

    def last_one_first(crews: Any, through: Any, wait_s: float) -> Any:
        finished: list[Finished] = []
        while any(crew.busy for crew in crews):
            finished += collect(crews, through, PATIENCE_S)
        return sorted(finished, key=lambda each: each.ticket.nth, reverse=True)

    monkeypatch.setattr("sagabus.runtime.lane.collect", last_one_first)
    bus.endpoint("asker", Noting)
    for name in ("first", "second"):

        def answer(m: All, context: Context) -> None:
            context.send(Change("1", f"{context.endpoint} {m.number}"), to="asker")

        bus.endpoint(name).consumer(answer)
    lane = lane_of(bus, "first", "second", inline=False)
    assert lane.turn([], 0.0) == []
    for number in range(5):
        bus.publish(All(number))
    deliveries = lane.turn([], 0.0)
    assert [set(queues(deliveries[n : n + 2])) for n in range(0, 10, 2)] == [{"first", "second"}] * 5
    lane.turn(deliveries, 0.0)
    for station in lane._stations.values():
        station.crew.close()
    answers = take(bus.transport.receiver(["asker"], consumer="a", claim_s=60), 10)
    told: list[Any] = [Incoming(decode(delivery.body)).message for delivery in answers]
    assert [m.what.partition(" ")[0] for m in told] == queues(deliveries)
    assert [m.what.partition(" ")[2] for m in told] == [str(n // 2) for n in range(10)]


def test_event_for_several_endpoints_of_a_lane_is_handled_by_each_of_them_once(bus: Bus) -> None:
    """The same message id comes from several queues: each has a ticket and an ack of its own."""
    received: Counter[tuple[str, int]] = Counter()
    for name in ("a", "b", "c"):

        def handler(m: All, context: Context) -> None:
            received[context.endpoint, m.number] += 1

        bus.endpoint(name).consumer(handler)
    with working(bus) as worker:
        for number in range(50):
            bus.publish(All(number))
        until(lambda: len(received) == 150, "all of them")
        until(lambda: all(queue.depth == 0 for queue in bus.transport.queues()), "the last ack")
        assert {len(lane.endpoints) for lane in worker.lanes} == {3}
    assert set(received.values()) == {1}


# -- what is logged ----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in logged if line["event"] == event]


def fork_in_the_next_commit(bus: Bus, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Have somebody else store another version between the next load of a saga and its commit."""
    store: Any = bus.store
    definition = bus.saga("Noting")
    assert definition is not None
    (snapshot,) = store.load([Want(SagaKey("Noting", key), ("rival",))])
    rival = Incoming(wrap(Change(key, "rival"), id="rival", source="/t", now_ms=0))
    other = advance(definition, snapshot, [rival])
    real = store.commit

    def commit(commits: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "commit", real)
        real([other], by="rival")
        return real(commits, **more)

    monkeypatch.setattr(store, "commit", commit)


def logged_lane(bus: Bus) -> Lane:
    """Set up logging, and return a lane of sagas, of a consumer that fails at first, and of one that fails for good."""
    configure(level="DEBUG", as_json=True)
    bus.endpoint("sagas", Noting)
    flaky, hopeless = bus.endpoint("flaky"), bus.endpoint("hopeless", retry=RetryPolicy(max_attempts=1))

    @flaky.consumer
    def fails(m: Fail) -> None:
        raise ValueError("not yet")

    @hopeless.consumer
    def fails_too(m: Slow) -> None:
        raise ValueError("never")

    @flaky.consumer
    def works(m: Quick) -> None: ...

    @flaky.consumer
    def sends(m: Change, context: Context) -> None:
        context.send(Quick(1), to="nowhere")

    return lane_of(bus, "flaky", "sagas", "hopeless")


def test_lines_name_the_endpoint_of_the_message(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the lane that it shares with others: whoever looks for an endpoint finds all that became of its messages."""
    lane = logged_lane(bus)
    bus.send(Begin("1"), to="sagas")
    turns(lane)
    fork_in_the_next_commit(bus, monkeypatch, "1")
    bus.send(Change("1", "mine"), to="sagas", id="forks")
    bus.send(Fail(), to="flaky", id="fails")
    bus.send(Slow(1), to="hopeless", id="dies")
    bus.send(Quick(1), to="flaky", id="works")
    bus.send(Change("nobody"), to="sagas", id="early")
    bus.send(Quick(1), to="hopeless", id="unhandled")
    turns(lane)
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    def said(event: str) -> list[tuple[str, str]]:
        return sorted((line["endpoint"], line.get("message_id", "")) for line in logged if line["event"] == event)

    assert said("forked") == [("sagas", "")]
    assert said("retrying") == [("flaky", "fails"), ("sagas", "early")]
    assert said("dead-lettered") == [("hopeless", "dies"), ("hopeless", "unhandled")]
    assert ("sagas", "forks") in said("handled")
    assert ("flaky", "works") in said("handled")
    assert {line["worker"] for line in logged} == {"w"}


def test_line_of_a_record_that_cannot_be_read_names_the_endpoint_of_the_saga(
    bus: Bus, client: Any, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """So does the line of its message, which is tried again."""
    lane = logged_lane(bus)
    key = SagaKey("Noting", "1")
    client.hset(f"{namespace}:{{{namespace}:{key.tag()}}}:r", "m", b"\xc1")
    bus.send(Begin("1"), to="sagas", id="unlucky")
    bus.send(Quick(1), to="flaky", id="works")
    turns(lane)
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["event"], line["endpoint"]) for line in logged} >= {
        ("corrupt-record", "sagas"),
        ("retrying", "sagas"),
        ("handled", "flaky"),
    }


@pytest.mark.parametrize("event", ["dead-lettered", "given-up-before"])
def test_line_of_a_message_that_is_not_handled_at_all_names_no_lane(
    bus: Bus, capsys: pytest.CaptureFixture[str], event: str
) -> None:
    """One with nowhere to go, and one whose dead letter was on record when it came again."""
    lane = logged_lane(bus)
    if event == "dead-lettered":
        bus.send(Change("1", "to nowhere"), to="flaky")
    else:
        body = encode(wrap(Quick(1), id="buried", source="/t", now_ms=0))
        put(bus, "flaky", body)
        bus.store.note(Bookkeeping(buried=(DeadLetter("buried", "flaky", "failed", "", "", 1, 0, body),)))
        other = bus.transport.receiver(["flaky"], consumer="gone", claim_s=60)
        assert len(take(other, 1)) == 1
        other.close()
    turns(lane, 6)
    (line,) = lines(capsys, event)
    assert line["endpoint"] != lane.name
