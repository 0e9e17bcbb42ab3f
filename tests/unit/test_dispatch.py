"""Dispatch: what is sent, noted and acked, in which order, and what happens when any of it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sagabus import Bus, message
from sagabus.envelope import SagaKey, encode, wrap
from sagabus.errors import BrokerUnavailableError, QueueFullError
from sagabus.observe.log import get_logger
from sagabus.runtime.dispatch import Dispatcher
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.timers import TimerPump
from sagabus.store.protocol import DeadLetter, Scheduled
from sagabus.transport import Delivery, Exchanged, Parcel, ParcelKind, Refusal
from tests.integration.apps import Clock, Failpoints, memory_parts

SERVER = object()


@message("dispatch.note")
class Note:
    text: str = ""


class Scripted:
    """A receiver, a transport and a store at once: answers from a list, and remembers what it was asked, in order."""

    def __init__(self, *, shared: bool, answers: list[Any], full: bool = False) -> None:
        self.full = full
        self.server = SERVER if shared else None
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def _answer(self) -> Any:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def exchange(self, parcels: Any, done: Any, also: Any, limit: int, wait_s: float, *, force: bool = False) -> Any:
        self.asked.append(("exchange", len(parcels), len(done), len(also), limit, force))
        if self.full and parcels and not force:
            return Exchanged({0: Refusal.FULL}, [])
        return self._answer() or Exchanged({}, [])

    def receive(self, limit: int, wait_s: float) -> Any:
        self.asked.append(("receive", limit, wait_s))
        return self._answer() or []

    def send(self, parcels: Any, *, force: bool = False) -> Any:
        self.asked.append(("send", len(parcels), force))
        if self.full and not force:
            return {0: Refusal.FULL}
        return self._answer() or {}

    def note(self, book: Any) -> None:
        self.asked.append(("note", len(book.buried), len(book.dispatched)))
        self._answer()

    def note_commands(self, book: Any) -> list[Any]:
        return ["command"] if book else []


def dispatcher(part: Any, give_up: Callable[[], bool] = lambda: False) -> Dispatcher:
    return Dispatcher(part, part, part, log=get_logger(), give_up=give_up)


def delivery(number: int = 0) -> Delivery:
    return Delivery("q", b"", 1, number)


def outbound(parcels: int = 2, *, done: int = 1, dispatched: bool = True, buried: int = 0) -> Outbound:
    made = Outbound(
        [Parcel(ParcelKind.COMMAND, f"e{n}", b"body", "", f"m{n}") for n in range(parcels)],
        [delivery(n) for n in range(done)],
    )
    if dispatched:
        made.mark(SagaKey("S", "1"), "m")
    made.buried += [DeadLetter(f"d{n}", "q", "failed", "", "", 1, 0, b"") for n in range(buried)]
    return made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time pass without waiting for it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


# -- one server --------------------------------------------------------------------------------------------------


def test_dispatch_on_one_server_is_one_write() -> None:
    """Sends, marks, acks and the next receive go together."""
    part = Scripted(shared=True, answers=[Exchanged({}, [delivery()])])
    assert len(dispatcher(part).exchange(outbound(), 64, 1.0, 0)) == 1
    assert part.asked == [("exchange", 2, 1, 1, 64, False)]


def test_dispatch_with_nowhere_to_go_is_on_record_before_anything_is_acked() -> None:
    """The others were sent; the refused one is buried, then the marks and acks are made without the parcels."""
    part = Scripted(shared=True, answers=[Exchanged({1: Refusal.NO_ENDPOINT}, [delivery(7)])])
    assert dispatcher(part).exchange(outbound(), 64, 1.0, 0) == [delivery(7)]
    assert part.asked == [("exchange", 2, 1, 1, 64, False), ("note", 1, 0), ("exchange", 0, 1, 1, 0, False)]


@pytest.mark.parametrize("shared", [True, False])
def test_dispatch_to_a_full_queue_waits_a_second_and_sends_all_the_same(shared: bool, no_waiting: list[float]) -> None:
    """Back-pressure slows a worker; it never stops it, for it could be what the queue waits for."""
    part = Scripted(shared=shared, answers=[], full=True)
    dispatcher(part).exchange(outbound(), 64, 1.0, 0)
    forces = [asked[-1] for asked in part.asked if asked[0] == ("exchange" if shared else "send")]
    assert forces == [False] * (len(forces) - 1) + [True]
    assert 1.0 <= no_waiting[0] < 1.5


def test_dispatch_to_a_full_queue_does_not_wait_where_the_worker_stops() -> None:
    """A worker that is told to stop drains at once."""
    part = Scripted(shared=True, answers=[Exchanged({0: Refusal.FULL}, [])])
    dispatcher(part, lambda: True).exchange(outbound(), 0, 0.0, 0)
    assert [force for *_, force in part.asked] == [False, True]


def test_dispatch_to_a_full_queue_and_to_nowhere_buries_once() -> None:
    """FULL means that nothing was sent, so what has nowhere to go is looked at when there is room."""
    answers = [Exchanged({0: Refusal.FULL, 1: Refusal.NO_ENDPOINT}, []), Exchanged({1: Refusal.NO_ENDPOINT}, [])]
    part = Scripted(shared=True, answers=answers)
    dispatcher(part).exchange(outbound(), 0, 0.0, 0)
    assert [a[0] for a in part.asked] == ["exchange", "exchange", "note", "exchange"]


def test_deliveries_that_came_with_a_write_that_fails_later_are_not_left_behind() -> None:
    """What was received is ours: when the dispatch is made again it is handed out, and nothing more is received."""
    answers = [Exchanged({1: Refusal.NO_ENDPOINT}, [delivery(7)]), BrokerUnavailableError("x", "down")]
    part = Scripted(shared=True, answers=answers)
    one = dispatcher(part)
    with pytest.raises(BrokerUnavailableError):
        one.exchange(outbound(), 64, 1.0, 0)
    part.asked.clear()
    assert one.exchange(outbound(), 64, 1.0, 0) == [delivery(7)]
    assert {a[4] for a in part.asked} == {0}
    assert one.exchange(outbound(), 64, 1.0, 0) == [], "handed out once"


# -- two servers -------------------------------------------------------------------------------------------------


def test_dispatch_on_two_servers_sends_then_notes_then_acks() -> None:
    """The order that a crash can only repeat, never lose."""
    part = Scripted(shared=False, answers=[])
    dispatcher(part).exchange(outbound(buried=1), 64, 1.0, 0)
    assert part.asked == [("send", 2, False), ("note", 1, 1), ("exchange", 0, 1, 0, 64, False)]


def test_marks_alone_wait_for_the_next_load_where_there_is_one() -> None:
    """They save a round trip; the acks wait for them."""
    part = Scripted(shared=False, answers=[None, [delivery(5)]])
    one = dispatcher(part)
    assert one.exchange(outbound(), 64, 1.0, 0) == [delivery(5)]
    assert part.asked == [("send", 2, False), ("receive", 64, 0.0)]
    assert one.noting is not None
    part.asked.clear()
    one.noted()
    assert part.asked == [("exchange", 0, 1, 0, 0, False)]
    assert one.noting is None


def test_acks_that_wait_for_a_note_are_made_again_where_the_broker_did_not_answer() -> None:
    """Nothing is forgotten before it was acked."""
    part = Scripted(shared=False, answers=[None, [delivery(5)], BrokerUnavailableError("x", "down")])
    one = dispatcher(part)
    one.exchange(outbound(), 64, 1.0, 0)
    with pytest.raises(BrokerUnavailableError):
        one.noted()
    assert one.noting is not None
    part.asked.clear()
    one.noted()
    assert part.asked == [("exchange", 0, 1, 0, 0, False)]
    part.asked.clear()
    one.noted()
    assert part.asked == [], "acked once"


def test_dispatch_on_two_servers_to_nowhere_is_buried_before_the_acks() -> None:
    """As on one server."""
    part = Scripted(shared=False, answers=[{0: Refusal.NO_ENDPOINT}])
    dispatcher(part).exchange(outbound(dispatched=False), 64, 1.0, 0)
    assert part.asked == [("send", 2, False), ("note", 1, 0), ("exchange", 0, 1, 0, 64, False)]


def test_dispatch_on_two_servers_to_full_and_nowhere_sends_the_rest_when_there_is_room() -> None:
    """What has nowhere to go is buried at once and not tried again."""
    part = Scripted(shared=False, answers=[{0: Refusal.NO_ENDPOINT, 1: Refusal.FULL}, {0: Refusal.FULL}])
    dispatcher(part).exchange(outbound(), 0, 0.0, 0)
    assert part.asked[:3] == [("send", 2, False), ("send", 1, False), ("send", 1, False)]
    assert ("note", 1, 0) in part.asked


def test_dispatch_of_acks_alone_needs_no_store() -> None:
    """What has left nothing to note is only acked."""
    part = Scripted(shared=False, answers=[])
    dispatcher(part).exchange(outbound(0, dispatched=False), 64, 1.0, 0)
    assert part.asked == [("exchange", 0, 1, 0, 64, False)]


# -- the pump, and clients ---------------------------------------------------------------------------------------


def test_pump_sends_what_is_due_past_a_full_queue() -> None:
    """One full queue holds up its own messages; those stay in the store."""
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    bus.endpoint("full", max_length=1).consumer(Note)(lambda m: None)
    bus.endpoint("free").consumer(Note)(lambda m: None)
    for n in range(3):
        for to in ("full", "free"):
            bus.send(Note(), to=to, id=f"{to}{n}", after=0.0)
    bus.send(Note(), to="full")
    store.note(Outbound(scheduled=[Scheduled("lost", "nowhere", b"{}", 0)]).bookkeeping())
    pump = TimerPump(bus, log=get_logger())
    assert pump.pump() == 7
    depths = {q.endpoint: q.depth for q in transport.queues()}
    assert depths == {"full": 1, "free": 3}
    assert {s.id for s in store.scheduled()} == {"full0", "full1", "full2"}
    assert [(d.id, d.reason) for d in store.dead()] == [("lost", "no-endpoint")]
    assert pump.pump() == 0, "leased"


def test_dead_letter_of_what_has_nowhere_to_go_says_what_it_was() -> None:
    """Also of a retry, which the store keeps under a name of its own: the letter has the message's id and type."""
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    bus.endpoint("e").consumer(Note)(lambda m: None)
    body = encode(wrap(Note(), id="m", source="/t", now_ms=0, saga="S/1").with_attempt(3))
    bus.transport  # noqa: B018 - declares
    store.note(Outbound(scheduled=[Scheduled("again/gone/m/3", "gone", body, 0)]).bookkeeping())
    TimerPump(bus, log=get_logger()).pump()
    (letter,) = store.dead()
    assert (letter.id, letter.type, letter.saga, letter.attempts) == ("m", "dispatch.note", "S/1", 2)
    assert (letter.reason, letter.endpoint) == ("no-endpoint", "gone")
    assert store.scheduled() == []
    # Due since 1970, and given up just now: it is kept for as long as any other.
    assert letter.at_ms == clock.ms()
    assert store.letters.expire(1_000) == 0


def test_pump_keeps_what_it_could_not_send() -> None:
    """A broker that does not answer costs time only."""
    clock, points = Clock(), Failpoints()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=points.transport(transport))
    bus.endpoint("e").consumer(Note)(lambda m: None)
    bus.send(Note(), to="e", after=1.0)
    clock.advance(1.0)
    pump = TimerPump(bus, log=get_logger())
    points.arm("before-send", error=BrokerUnavailableError("x", "down"))
    with pytest.raises(BrokerUnavailableError):
        pump.pump()
    assert pump.pump() == 0
    clock.advance(11.0)
    assert pump.pump() == 1
    assert transport.queues()[0].depth == 1


def test_client_is_told_that_a_queue_stays_full() -> None:
    """After ten seconds of waiting nothing was sent, and the error names the queue."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("e", max_length=2).consumer(Note)(lambda m: None)
    bus.send_many([Note(), Note()], to="e")
    with pytest.raises(QueueFullError, match="stayed full for 10") as error:
        bus.send(Note(), to="e")
    assert error.value.endpoint == "e"
    assert bus.transport.queues()[0].depth == 2


def test_cycle_of_full_queues_never_deadlocks() -> None:
    """Two endpoints that fill each other's queues go on, over their limits if need be, and end."""
    bus = Bus(store="memory:", transport="memory:")
    left = [0]

    def bounce(to: str) -> Any:
        def handler(m: Note, context: Any) -> None:
            if left[0] < 40:
                left[0] += 2
                context.send(Note(), to=to)
                context.send(Note(), to=to)

        return handler

    bus.endpoint("a", max_length=2, batch=4).consumer(Note)(bounce("b"))
    bus.endpoint("b", max_length=2, batch=4).consumer(Note)(bounce("a"))
    bus.send_many([Note(), Note()], to="a")
    bus.worker().run_until_idle()
    assert left[0] == 40
    assert [q.depth for q in bus.transport.queues()] == [0, 0]
