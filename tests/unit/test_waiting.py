"""Messages that wait, through the API of a bus: told apart, found, cancelled, sent now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.errors import AmbiguousWaitingMessageError, WaitingMessageNotFoundError
from sagabus.store.protocol import Bookkeeping, Scheduled
from sagabus.waiting.message import WaitingKind
from sagabus.waiting.waiting import Cancelled
from tests.integration.apps import Clock, memory_parts

HOUR_S = 3600.0


@message("waiting.open")
class Open:
    key: str


@message("waiting.overdue")
class Overdue:
    pass


@message("waiting.job")
class Job:
    number: int


@define
class Rings:
    rang: int = 0


class Order(Saga[Rings], key="key"):
    @starts
    def opened(self, m: Open) -> None:
        self.defer(Overdue(), after=timedelta(hours=1), name="overdue")

    @handles
    def overdue(self, m: Overdue) -> None:
        self.state.rang += 1


@define
class Shop:
    """A bus on a clock that stands, with one message of each kind waiting."""

    bus: Bus
    clock: Clock
    done: list[int] = field(factory=list)

    def run(self) -> None:
        self.bus.worker().run_until_idle()

    def names(self, **described: Any) -> list[str]:
        return [message.name for message in self.bus.waiting.find(**described)]

    def kind(self, kind: WaitingKind) -> str:
        (name,) = self.names(kind=kind)
        return name

    def timers(self) -> dict[str, str]:
        (snapshot,) = self.bus.store.load([Want(SagaKey("Order", "17"))])
        return dict(snapshot.timers)

    def rang(self) -> int:
        (snapshot,) = self.bus.store.load([Want(SagaKey("Order", "17"))])
        state = self.bus.saga("Order").codec.decode(snapshot.versions[0].state)  # type: ignore[union-attr]
        return int(state.rang)


@pytest.fixture
def shop() -> Shop:
    clock = Clock()
    made = Shop(Bus(*memory_parts(clock)), clock)
    made.bus.endpoint("orders", Order)
    jobs = made.bus.endpoint("jobs", retry=RetryPolicy(first_delay_s=2 * HOUR_S, max_delay_s=2 * HOUR_S))

    @jobs.consumer
    def work(m: Job) -> None:
        if m.number == 13:
            raise OSError("cold")
        made.done.append(m.number)

    made.bus.send(Open("17"), to="orders")
    made.bus.send(Job(13), to="jobs", id="bad")
    made.bus.send(Job(1), to="jobs", id="late", after=3 * HOUR_S)
    made.run()
    item = made.bus.store.scheduled()
    (copy,) = [each for each in item if each.id.startswith("again/")]
    parked = Scheduled(f"{copy.id}/99", copy.endpoint, copy.body, copy.due_ms + 10**8)
    made.bus.store.note(Bookkeeping(scheduled=(parked,)))
    return made


def test_waiting_messages_are_told_apart(shop: Shop) -> None:
    """A saga's timer, a retry, a delayed send, what was parked, and what nobody can read; soonest first."""
    shop.bus.store.note(Bookkeeping(scheduled=(Scheduled("odd", "jobs", b"?", shop.clock.ms() + 10**9),)))
    kinds = [message.kind.value for message in shop.bus.waiting.find()]
    assert kinds == ["timer", "retry", "delayed", "parked", "unreadable"]


def test_waiting_messages_are_found_by_all_that_is_said(shop: Shop) -> None:
    """Saga or its class, endpoint, type, timer, and when they are due."""
    timer = shop.kind(WaitingKind.TIMER)
    for described in ({"saga": "Order/17"}, {"saga": "Order"}, {"timer": "overdue"}, {"endpoint": "orders"}):
        assert shop.names(**described) == [timer]
    assert shop.names(saga="Order/1") == []
    assert len(shop.names(type="waiting.job")) == 3
    now = datetime.fromtimestamp(shop.clock.ms() / 1000, UTC)
    assert shop.names(until=now + timedelta(hours=1, seconds=1)) == [timer]
    assert shop.names(since=now + timedelta(hours=2.9), until=now + timedelta(hours=3.1)) == ["late"]


def test_waiting_message_is_got_by_the_beginning_of_a_name_or_id(shop: Shop) -> None:
    """The message id is as good as the longer name of its copy, where it has one copy."""
    assert shop.bus.waiting.get("la").id == "late"
    with pytest.raises(AmbiguousWaitingMessageError, match="again/jobs/bad/2"):
        shop.bus.waiting.get("bad")
    assert shop.bus.waiting.get("again/jobs/bad/2").kind is WaitingKind.RETRY
    for nothing in ("", "x"):
        with pytest.raises(WaitingMessageNotFoundError):
            shop.bus.waiting.get(nothing)


def test_cancelled_timer_is_forgotten_by_its_saga(shop: Shop) -> None:
    """It never rings; the trail has who wanted that; the saga may set it anew."""
    timer = shop.kind(WaitingKind.TIMER)
    assert shop.bus.waiting.cancel(timer, by="ann@desk") is Cancelled.CANCELLED
    assert shop.timers() == {}
    shop.clock.advance(1.5 * HOUR_S)
    shop.run()
    assert shop.rang() == 0
    (line,) = shop.bus.dead_letters.audit()
    assert (line.what, line.by, line.saga, line.details["timer"]) == ("cancel", "ann@desk", "Order/17", "overdue")
    with pytest.raises(WaitingMessageNotFoundError):
        shop.bus.waiting.cancel(timer)


def test_timer_that_is_being_sent_is_stale_once_it_is_cancelled(shop: Shop) -> None:
    """The pump has it in its hands: the saga passes it over all the same, and so a second ring of it."""
    timer = shop.kind(WaitingKind.TIMER)
    shop.clock.advance(1.5 * HOUR_S)
    due = shop.bus.store.due(10, 5.0)
    assert shop.bus.waiting.cancel(timer) is Cancelled.STALE
    shop.clock.advance(10.0)
    shop.run()
    assert timer in [item.id for item in due]
    assert shop.rang() == 0
    assert shop.names(kind=WaitingKind.TIMER) == []


def test_timer_that_has_rung_is_too_late_to_cancel(shop: Shop) -> None:
    """The saga has forgotten it already, so nothing is stale."""
    timer = shop.kind(WaitingKind.TIMER)
    (item,) = [each for each in shop.bus.store.scheduled() if each.id == timer]
    shop.bus.waiting.fire(timer)
    shop.run()
    assert shop.rang() == 1
    shop.bus.store.note(Bookkeeping(scheduled=(evolved(item, shop.clock.ms() - 1),)))
    assert shop.bus.waiting.cancel(timer) is Cancelled.TOO_LATE
    shop.run()
    assert shop.rang() == 1


def evolved(item: Scheduled, due_ms: int) -> Scheduled:
    return Scheduled(item.id, item.endpoint, item.body, due_ms, item.partition_key)


def test_cancelled_send_is_never_made(shop: Shop) -> None:
    """It is nobody's but the sender's."""
    assert shop.bus.waiting.cancel("late") is Cancelled.CANCELLED
    shop.clock.advance(4 * HOUR_S)
    shop.run()
    assert shop.done == []


def test_cancelled_retry_becomes_a_dead_letter(shop: Shop) -> None:
    """None is dropped in silence: it can be looked at, and sent again."""
    assert shop.bus.waiting.cancel(shop.kind(WaitingKind.RETRY), by="ann@desk") is Cancelled.BURIED
    (letter,) = shop.bus.dead_letters.find()
    assert (letter.id, letter.endpoint, letter.reason, letter.attempts) == ("bad", "jobs", "cancelled", 1)
    assert "ann@desk" in letter.error
    assert shop.bus.store.letters.given_up("jobs", "bad")
    assert shop.bus.dead_letters.retry(letter)[0].error is None


def test_retry_that_is_being_sent_is_too_late_to_cancel(shop: Shop) -> None:
    """It is handled as ever, and no letter says otherwise."""
    name = shop.kind(WaitingKind.RETRY)
    shop.clock.advance(2.4 * HOUR_S)
    shop.bus.store.due(10, 5.0)
    assert shop.bus.waiting.cancel(name) is Cancelled.TOO_LATE
    assert list(shop.bus.dead_letters.find()) == []


def test_fired_message_is_sent_at_once_and_once(shop: Shop) -> None:
    """As it would have been in its time; to fire it again is too late."""
    assert shop.bus.waiting.fire("late")
    assert not shop.bus.waiting.fire("late")
    timer = shop.kind(WaitingKind.TIMER)
    assert shop.bus.waiting.fire(timer)
    shop.run()
    assert (shop.done, shop.rang(), shop.timers()) == ([1], 1, {})
    assert [line.what for line in shop.bus.dead_letters.audit()] == ["fire"] * 3
    shop.clock.advance(1.5 * HOUR_S)
    shop.run()
    assert shop.rang() == 1
