"""Consumers: what may be one, what a Context offers, and how they run on a bus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.envelope import decode
from sagabus.errors import DefinitionError
from tests.integration.apps import Clock, memory_parts, settle

if TYPE_CHECKING:
    from somewhere import Unseen  # type: ignore[import-not-found]


@message("consumer.ping")
class Ping:
    number: int = 0


@message("consumer.other")
class Other:
    number: int = 0


@message("consumer.pong")
class Pong:
    number: int = 0


@message("consumer.heard")
class Heard:
    number: int = 0


def bus_with(**options: Any) -> tuple[Bus, Any]:
    bus = Bus(store="memory:", transport="memory:")
    return bus, bus.endpoint("e", **options)


# -- definitions -------------------------------------------------------------------------------------------------


def test_consumer_takes_the_message_that_its_annotation_names() -> None:
    """Also classes inside a function, and annotations that are text; a union is one handler for each."""

    @message("consumer.local")
    class Local:
        pass

    bus, endpoint = bus_with()
    got: list[Any] = []

    @endpoint.consumer
    def local(m: Local) -> None:
        got.append(m)

    @endpoint.consumer
    def either(m: Ping | Other, context: Context) -> None:
        got.append(m)

    @endpoint.consumer(Pong, Heard)
    def given(m, context):  # type: ignore[no-untyped-def]
        got.append(m)

    sent = [Local(), Ping(1), Other(2), Pong(3), Heard(4)]
    assert endpoint.handled_types() == tuple(
        sorted(f"consumer.{name}" for name in ("local", "ping", "other", "pong", "heard"))
    )
    for one in sent:
        bus.publish(one)
    bus.worker().run_until_idle()
    assert got == sent
    assert local(Local()) is None, "the function itself stays as it was"


def no_arguments() -> None: ...
def three_arguments(m: Ping, context: Context, more: int) -> None: ...
def not_annotated(m) -> None: ...  # type: ignore[no-untyped-def]
def no_message(m: int) -> None: ...


def unseen(m: Unseen) -> None: ...
def yields(m: Ping) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "problem", "mend"),
    [
        (no_arguments, "takes a message", "Write def handler"),
        (three_arguments, "takes a message", "Write def handler"),
        (not_annotated, "not annotated", "Write m: MessageType"),
        (no_message, "is not a message", "Decorate that class with @message"),
        (yields, "has a yield", "Make it a plain def or async def"),
        (unseen, "cannot be resolved", "Import them outside TYPE_CHECKING"),
    ],
)
def test_function_that_cannot_be_a_consumer_is_refused_with_the_mend(function: Any, problem: str, mend: str) -> None:
    """Every mistake is found where it is made, with the function and what to change."""
    _, endpoint = bus_with()
    with pytest.raises(DefinitionError) as error:
        endpoint.consumer(function)
    assert problem in str(error.value)
    assert mend in error.value.mend
    assert error.value.subject.endswith(function.__qualname__)


def test_two_consumers_of_one_name_and_message_on_an_endpoint_are_refused() -> None:
    """What they send would carry the same ids, and a saga would take only one of each pair for new."""
    _, endpoint = bus_with()

    def make(number: int) -> Any:
        def handler(m: Ping, context: Context) -> None:
            context.reply(Pong(number))

        return handler

    endpoint.consumer(make(1))
    with pytest.raises(DefinitionError, match=r"takes consumer\.ping on endpoint 'e' already"):
        endpoint.consumer(make(2))


# -- what a handler gets -----------------------------------------------------------------------------------------


def test_context_tells_what_is_being_handled() -> None:
    """The id is an idempotency key; the time is the store's."""
    clock = Clock()
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    seen: list[tuple[Any, ...]] = []

    @bus.endpoint("e").consumer
    def ping(m: Ping, context: Context) -> None:
        seen.append((context.message_id, context.attempt, context.endpoint, context.envelope.source, context.now))

    bus.send(Ping(), to="e", id="key")
    bus.worker().run_until_idle()
    ((id_, attempt, endpoint, source, now),) = seen
    assert (id_, attempt, endpoint, source) == ("key", 1, "e", "/client")
    assert now.timestamp() == pytest.approx(clock.s(), abs=1.0)
    assert now.tzinfo is not None


def test_consumer_sends_publishes_and_replies_after_it_has_returned() -> None:
    """All of it leaves together, in order, caused by what was handled."""
    bus, endpoint = bus_with()
    bus.route(Other, to="elsewhere")
    got: list[tuple[Any, Any]] = []
    sent_before_return: list[int] = []

    @endpoint.consumer
    def ping(m: Ping, context: Context) -> None:
        context.send(Other(1))
        context.send(Pong(2), to="elsewhere")
        context.publish(Heard(3))
        context.reply(Pong(4))
        sent_before_return.append(sum(q.depth for q in bus.transport.queues()))

    @bus.endpoint("elsewhere").consumer
    def elsewhere(m: Other | Pong | Heard, context: Context) -> None:
        got.append((m, context.envelope))

    id_ = bus.send(Ping(), to="e", reply_to="elsewhere")
    bus.worker().run_until_idle()
    assert [m for m, _ in got] == [Other(1), Pong(2), Heard(3), Pong(4)]
    assert sent_before_return == [1], "only the message being handled was anywhere"
    assert {(e.causationid, e.correlationid, e.source) for _, e in got} == {(id_, id_, "/e")}


def test_consumer_that_sees_a_message_twice_sends_the_same_ids() -> None:
    """At least once for consumers; once for the sagas that they answer."""
    bus, endpoint = bus_with()
    ids: list[str] = []

    @endpoint.consumer
    def ping(m: Ping, context: Context) -> None:
        context.reply(Pong())
        context.publish(Heard())

    @bus.endpoint("ears").consumer
    def heard(m: Pong | Heard, context: Context) -> None:
        ids.append(context.message_id)

    for _ in range(2):
        bus.send(Ping(), to="e", id="same", reply_to="ears")
        bus.worker().run_until_idle()
    assert len(ids) == 4
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2


def test_failing_consumer_is_tried_again_and_then_dead_lettered() -> None:
    """Its attempts travel with the message, and its sends are dropped with every failure."""
    bus, endpoint = bus_with(retry=RetryPolicy(max_attempts=3, first_delay_s=0.001))
    attempts: list[int] = []

    @endpoint.consumer
    def ping(m: Ping, context: Context) -> None:
        attempts.append(context.attempt)
        context.publish(Heard())
        raise ValueError("broken")

    @bus.endpoint("ears").consumer
    def heard(m: Heard) -> None:
        raise AssertionError("a send escaped")

    bus.send(Ping(), to="e")
    settle(bus)
    assert attempts == [1, 2, 3]
    (letter,) = bus.store.dead()
    assert (letter.reason, letter.attempts, decode(letter.body).attempt) == ("failed", 3, 3)
    assert "ValueError: broken" in letter.traceback


def test_message_for_a_saga_and_two_consumers_is_handled_by_all_and_acked_once() -> None:
    """Where one of them fails the message is tried again; the saga takes it once all the same."""
    handled: list[str] = []
    fail = [True]

    @define
    class Count:
        count: int = 0

    class Counts(Saga[Count]):
        @starts
        def ping(self, m: Ping) -> None:
            self.state.count += 1
            handled.append(f"saga {self.state.count}")

        @handles
        def pong(self, m: Pong) -> None: ...

    bus = Bus(store="memory:", transport="memory:")
    endpoint = bus.endpoint("e", Counts, retry=RetryPolicy(first_delay_s=0.001))

    @endpoint.consumer
    def first(m: Ping) -> None:
        handled.append("first")

    @endpoint.consumer
    def second(m: Ping) -> None:
        handled.append("second")
        if fail.pop() if fail else False:
            raise ValueError

    bus.send(Ping(), to="e")
    settle(bus)
    assert handled == ["saga 1", "first", "second", "first", "second"]
    assert bus.store.dead() == []


def test_async_consumer_runs_inline_for_tests() -> None:
    """`run_until_idle` runs coroutines too, one at a time."""
    bus, endpoint = bus_with()
    got: list[int] = []

    @endpoint.consumer
    async def ping(m: Ping) -> None:
        got.append(m.number)

    bus.send_many([Ping(n) for n in range(3)], to="e")
    bus.worker().run_until_idle()
    assert got == [0, 1, 2]


def test_message_too_large_to_leave_fails_its_handler_and_is_not_retried() -> None:
    """It would be as large the next time."""
    bus = Bus(store="memory:", transport="memory:", max_message_bytes=1000)
    endpoint = bus.endpoint("e")

    @message("consumer.long")
    class Long:
        text: str

    @endpoint.consumer
    def ping(m: Ping, context: Context) -> None:
        context.publish(Long("x" * 2000))

    bus.send(Ping(), to="e")
    bus.worker().run_until_idle()
    assert [(d.reason, d.attempts) for d in bus.store.dead()] == [("too-large", 1)]
