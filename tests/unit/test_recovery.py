"""What becomes of a delivery that could not be handled."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define

from sagabus import Bus, Context, MergeSagaState, RetryPolicy, Saga, UnmergeableStateError, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Lifecycle, Want
from sagabus.endpoint import EndpointOptions
from sagabus.envelope import Incoming, SagaKey, decode, encode, wrap
from sagabus.observe.log import get_logger
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.recovery import Recovery
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.runtime.timers import TimerPump
from sagabus.store.memory import MemoryStore
from sagabus.transport import Delivery
from tests.integration.apps import START_MS, Clock, Failpoints, envelope, memory_parts, put

NOW = 1_000_000


@message("recovery.begin")
class Begin:
    key: str


@message("recovery.poke")
class Poke:
    key: str
    value: int = 0


@define
class Value:
    value: int = 0


def ticket(
    trouble: Trouble, *, attempt: int = 1, message: Any = None, count: int = 1, exhausted: bool = False
) -> Ticket:
    found = wrap(message or Poke("1"), id="m", source="/t", now_ms=0).with_attempt(attempt)
    return Ticket(Delivery("q", encode(found), count, 0), found, troubles=[trouble], exhausted=exhausted)


def conclude(
    trouble: Trouble, *, options: EndpointOptions | None = None, jitter: float = 0.5, **of_ticket: Any
) -> Outbound:
    outbound = Outbound()
    recovery = Recovery(options or EndpointOptions(), lambda: jitter, get_logger())
    recovery.conclude(ticket(trouble, **of_ticket), outbound, NOW)
    assert len(outbound.done) == 1
    return outbound


def delay_ms(outbound: Outbound) -> int:
    (item,) = outbound.scheduled
    return item.due_ms - NOW


# -- delays ------------------------------------------------------------------------------------------------------


def test_delay_after_a_failure_doubles_up_to_its_limit() -> None:
    """Half a second, one, two ... and never more than the longest."""
    options = EndpointOptions(retry=RetryPolicy(max_attempts=100, first_delay_s=0.5, max_delay_s=60.0))
    delays = [delay_ms(conclude(Trouble("failed"), attempt=n, options=options)) for n in (1, 2, 3, 7, 8, 50, 99)]
    assert delays == [500, 1000, 2000, 32_000, 60_000, 60_000, 60_000]


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 375), (0.5, 500), (0.999, 625)])
def test_delay_is_spread_by_a_quarter_each_way(jitter: float, expected: int) -> None:
    """What failed together does not come again together."""
    assert delay_ms(conclude(Trouble("failed"), jitter=jitter)) == expected


def test_early_message_has_a_policy_of_its_own() -> None:
    """A saga is usually there in a moment, so the first delay is short."""
    assert delay_ms(conclude(Trouble("early"))) == 50
    assert [d.reason for d in conclude(Trouble("early"), attempt=8).buried] == ["no-saga"]


def test_parked_message_keeps_its_attempt() -> None:
    """It is not the message's fault, so nothing is counted, however often."""
    outbound = conclude(Trouble("parked"), attempt=4)
    (item,) = outbound.scheduled
    assert decode(item.body).attempt == 4
    assert delay_ms(outbound) == 1000


def test_attempts_travel_with_the_message() -> None:
    """No worker counts in its memory: the next try, on whatever worker, knows how many there were."""
    (item,) = conclude(Trouble("failed"), attempt=2).scheduled
    assert decode(item.body).attempt == 3


@pytest.mark.parametrize("reason", ["failed", "early", "parked", "killed-worker", "undecodable"])
def test_merge_message_is_never_dead_lettered(reason: str) -> None:
    """A saga whose merge message was given up could never settle."""
    outbound = conclude(Trouble(reason), attempt=50, message=MergeSagaState())
    assert outbound.buried == []
    assert len(outbound.scheduled) == 1


def test_worst_trouble_decides_where_handlers_disagree() -> None:
    """What would never get better outranks what failed, that what is parked, and that what is early."""
    order = ["early", "parked", "failed", "undecodable"]
    for worse in range(1, len(order)):
        for better in range(worse):
            one = ticket(Trouble(order[better]), attempt=99)
            one.troubles.append(Trouble(order[worse]))
            outbound = Outbound()
            Recovery(EndpointOptions(), lambda: 0.0, get_logger()).conclude(one, outbound, NOW)
            assert [d.reason for d in outbound.buried] == ([order[worse]] if worse > 1 else [])


def test_dead_letter_of_a_worker_killer_counts_its_deliveries() -> None:
    """Nobody lived to count the attempts, but the broker did."""
    (letter,) = conclude(Trouble("killed-worker"), count=6, exhausted=True).buried
    assert (letter.reason, letter.attempts) == ("killed-worker", 5)
    (letter,) = conclude(Trouble("killed-worker"), attempt=3, count=6, exhausted=True).buried
    assert letter.attempts == 7


# -- the pump and the next failure -------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["failed", "parked", "early"])
def test_retry_that_fails_while_the_pump_still_holds_it_is_not_lost(trouble: str) -> None:
    """The pump sends a retry, then forgets it; the next one may be scheduled in between, and must survive."""
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    bus.endpoint("q").consumer(Poke)(lambda m: None)
    options = EndpointOptions(early=RetryPolicy(50, 0.05), retry=RetryPolicy(50, 0.05))
    recovery = Recovery(options, lambda: 0.5, get_logger())

    def handle_and_fail(body: bytes) -> None:
        found = decode(body)
        outbound = Outbound()
        one = Ticket(Delivery("q", body, 1, 0), found, troubles=[Trouble(trouble)])
        recovery.conclude(one, outbound, clock.ms())
        store.note(outbound.bookkeeping())

    handle_and_fail(encode(wrap(Poke("1"), id="m", source="/t", now_ms=0)))
    send = transport.send

    def send_and_be_overtaken(parcels: Any, **options: Any) -> Any:
        refused = send(parcels, **options)
        for parcel in parcels:
            handle_and_fail(parcel.body)  # a worker was quicker than the pump's note
        return refused

    transport.send = send_and_be_overtaken  # type: ignore[method-assign]
    for _ in range(3):
        clock.advance(30.0)
        assert TimerPump(bus, log=get_logger()).pump() == 1
        assert len(store.scheduled()) == 1


# -- mergers -----------------------------------------------------------------------------------------------------


class Merging:
    """A merger that can be broken and mended."""

    works = False

    @classmethod
    def merge(cls, siblings: Any) -> Value:
        if not cls.works:
            raise UnmergeableStateError("which one?")
        return Value(max(s.value for s in siblings))


class Mended(Saga[Value], key="key", merger=lambda siblings: Merging.merge(siblings)):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def poked(self, m: Poke) -> None:
        self.state.value = m.value


def forked_bus(clock: Clock) -> Bus:
    """Return a bus with a saga that has two siblings, and its merge message in the queue."""
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    bus.endpoint("e", Mended, max_attempts=2)
    bus.send(Begin("1"), to="e")
    bus.worker().run_until_idle()
    definition = bus.saga("Mended")
    assert definition is not None
    snapshot = store.load([Want(SagaKey("Mended", "1"))])[0]
    for n in (1, 2):
        incoming = Incoming(wrap(Poke("1", n), id=f"p{n}", source="/t", now_ms=0))
        store.commit([advance(definition, snapshot, [incoming])], by="t")
    put(bus, "e", encode(wrap(Poke("1", 2), id="p2", source="/t", now_ms=0)))
    return bus


def value(bus: Bus) -> list[int]:
    definition = bus.saga("Mended")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(SagaKey("Mended", "1"))])
    assert snapshot.lifecycle is Lifecycle.LIVE
    return [definition.codec.decode(v.state).value for v in snapshot.versions]


def test_unmergeable_saga_parks_its_messages_until_its_merger_is_mended() -> None:
    """Nothing is dead-lettered, however long it takes; the mended merger finds everything as it was."""
    Merging.works = False
    clock = Clock()
    bus = forked_bus(clock)
    bus.send(Poke("1", 7), to="e")
    bus.send(Begin("other"), to="e")
    for _ in range(30):
        bus.worker().run_until_idle()
        clock.advance(2.0)
    assert value(bus) == [1, 2]
    assert bus.store.dead() == []
    assert len(list(bus.store.sagas())) == 2, "other sagas go on"
    Merging.works = True
    for _ in range(3):
        bus.worker().run_until_idle()
        clock.advance(2.0)
    assert value(bus) == [7]
    assert (bus.store.dead(), bus.store.scheduled()) == ([], [])


def test_state_that_cannot_be_read_parks_its_saga_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer code is deployed here later than elsewhere: its sagas wait, and everything else goes on."""
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    bus.endpoint("e", Mended, max_attempts=2)
    bus.send(Begin("1"), to="e")
    bus.worker().run_until_idle()
    definition = bus.saga("Mended")
    assert definition is not None
    old = definition.codec._version
    monkeypatch.setattr(definition.codec, "_version", 9)
    bus.send(Poke("1", 3), to="e")
    worker = bus.worker()
    # What is stored was written by version 1, and there is no upcast to 9.
    monkeypatch.setattr(definition.codec, "_prefix", b"\x09")
    for _ in range(10):
        worker.run_until_idle()
        clock.advance(2.0)
    assert bus.store.dead() == []
    monkeypatch.setattr(definition.codec, "_version", old)
    monkeypatch.setattr(definition.codec, "_prefix", b"\x01")
    worker.run_until_idle()
    assert value(bus) == [3]


# -- worker-killers ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_message_that_kills_its_worker_is_dead_lettered_and_its_neighbours_are_not() -> None:
    """After the last attempt that nobody survived it comes alone, and goes to the dead letters unhandled."""
    clock = Clock()
    store, transport = memory_parts(clock)
    done: list[str] = []
    bus = Bus(store=store, transport=transport)
    endpoint = bus.endpoint("e", max_attempts=3)

    @endpoint.consumer
    def poked(m: Poke, context: Context) -> None:
        if m.value < 0:
            raise Killed
        done.append(m.key)

    for key, number in (("a", 1), ("b", -1), ("c", 1)):
        bus.send(Poke(key, number), to="e")
    deaths = 0
    for _ in range(10):
        try:
            bus.worker(name="w").run_until_idle()
        except Killed:
            deaths += 1
    assert deaths == 3
    assert set(done) == {"a", "c"}
    (letter,) = bus.store.dead()
    assert (letter.reason, letter.attempts) == ("killed-worker", 3)
    assert transport.queues()[0].depth == 0


def test_saga_message_that_kills_its_worker_is_dead_lettered() -> None:
    """The same for sagas, whose other messages are handled meanwhile."""

    class Fragile(Saga[Value], key="key"):
        @starts
        def begun(self, m: Begin) -> None: ...

        @handles
        def poked(self, m: Poke) -> None:
            if m.value < 0:
                raise Killed
            self.state.value += m.value

    store = MemoryStore()
    bus = Bus(store=store, transport="memory:")
    bus.endpoint("e", Fragile, max_attempts=2)
    bus.send(Begin("1"), to="e")
    bus.worker(name="w").run_until_idle()
    bus.send_many([Poke("1", 1), Poke("1", -1), Poke("1", 2)], to="e")
    deaths = 0
    for _ in range(8):
        try:
            bus.worker(name="w").run_until_idle()
        except Killed:
            deaths += 1
    assert deaths == 2
    assert [d.reason for d in store.dead()] == ["killed-worker"]
    definition = bus.saga("Fragile")
    assert definition is not None
    (snapshot,) = store.load([Want(SagaKey("Fragile", "1"))])
    assert definition.codec.decode(snapshot.versions[0].state).value == 3


def test_consumed_message_is_never_poison_however_often_it_was_delivered() -> None:
    """Workers that die while they dispatch what it sent make no bad message of it: its effects leave in the end."""
    points = Failpoints()
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=points.store(store), transport=points.transport(transport))
    heard: list[str] = []

    class Sends(Saga[Value], key="key"):
        @starts
        def begun(self, m: Begin) -> None:
            self.send(Poke(m.key), to="ears")

    bus.endpoint("e", Sends, max_attempts=2)
    bus.endpoint("ears").consumer(Poke)(lambda m: heard.append(m.key))
    bus.send(Begin("1"), to="e")
    for _ in range(9):
        points.arm("before-send")
        with pytest.raises(BaseException, match="before-send"):
            bus.worker(name="w").run_until_idle()
    points.disarm()
    bus.worker(name="w").run_until_idle()
    assert heard == ["1"]
    assert store.dead() == []


def test_unknown_and_foreign_reply_address_is_dead_lettered_as_no_endpoint() -> None:
    """Where the answer goes is the asker's word; if nobody is there, that is on record with the answer itself."""
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    endpoint = bus.endpoint("e")
    endpoint.consumer(Begin)(lambda m, context: context.reply(Poke(m.key)))
    put(bus, "e", envelope("recovery.begin", '{"key": "1"}', replyto="gone"))
    bus.worker().run_until_idle()
    (letter,) = store.dead()
    assert (letter.reason, letter.endpoint, decode(letter.body).type) == ("no-endpoint", "gone", "recovery.poke")
    # The store's time when the batch was loaded, and what has passed since.
    assert START_MS <= letter.at_ms < START_MS + 60_000
    assert transport.queues()[0].depth == 0
