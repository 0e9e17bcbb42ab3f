"""Whose message a call of a saga's code is blamed on, and which is put on record where it hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attrs import define

from sagabus import Bus, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Lifecycle, Snapshot
from sagabus.envelope import Incoming, SagaKey
from sagabus.runtime.intake import SagaWork
from sagabus.runtime.saga_runner import HandledSaga
from sagabus.runtime.ticket import Ticket
from sagabus.runtime.watchdog import HandlerCall
from sagabus.transport import Delivery
from tests.sagas_for_tests import NOW_MS, bound, incoming


@message("blame.begin")
class Begin:
    key: str


@message("blame.more")
class More: ...


@define
class State:
    n: int = 0


class Counting(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def more(self, m: More) -> None:
        self.state.n += 1

    def decide(self) -> None: ...


KEY = SagaKey("Counting", "1")
ABSENT = Snapshot(KEY, NOW_MS, Lifecycle.ABSENT)
BEGIN = incoming(Begin("1"), "begin")
MORE = incoming(More(), "more", saga=str(KEY))


def blamed(*messages: Incoming) -> list[tuple[str, str | None]]:
    calls: list[tuple[str, str | None]] = []

    def guard(message: Incoming | None, function: Callable[..., Any], *args: Any) -> Any:
        calls.append((function.__name__, message.id if message is not None else None))
        return function(*args)

    assert advance(bound(Counting), ABSENT, messages, guard=guard).ids
    return calls


def test_decision_after_several_messages_is_blamed_on_none_of_them() -> None:
    """Where it hangs none is given up for it: delivered again they come one by one, and it shows whose it is."""
    assert blamed(BEGIN) == [("begun", "begin"), ("decide", "begin")]
    assert blamed(BEGIN, MORE) == [("begun", "begin"), ("more", "more"), ("decide", None)]


def test_message_that_a_call_hangs_on_is_put_on_record_unless_its_lane_is_through_with_it() -> None:
    """The call may end while somebody looks at it; then the lane itself says what became of the message."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("e", Counting, handler_timeout_s=1.0)
    worker = bus.worker()
    worker.run_until_idle()
    (lane,) = worker.lanes
    definition = bus.saga("Counting")
    assert definition is not None
    work = SagaWork(KEY, definition)
    work.add(BEGIN, Ticket(Delivery("e", b"{}", 1, None), BEGIN.envelope))

    def hangs(on: Incoming | None) -> HandlerCall:
        return HandlerCall(HandledSaga(work, ABSENT, on), "Counting.begun", 0.0, 0, time.monotonic())

    lane.bury_hung(hangs(None))
    lane.bury_hung(hangs(MORE))
    assert bus.store.dead() == []
    lane.bury_hung(hangs(BEGIN))
    assert [(letter.id, letter.reason) for letter in bus.store.dead()] == [("begin", "timed-out")]
