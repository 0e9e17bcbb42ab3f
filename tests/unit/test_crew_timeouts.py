"""The crew and handlers that take longer than they may: given up, their places given to others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sagabus import Context
from sagabus.errors import HandlerTimedOutError
from sagabus.runtime.crew import ThreadedCrew
from sagabus.runtime.surroundings import Finished
from tests.servers import until
from tests.unit.test_crew import PATIENCE_S, SURROUNDINGS, Job, Result, all_of, reply, reply_later, work

TIMEOUT_S = 0.2


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def crew(go_on: threading.Event) -> Iterator[ThreadedCrew]:
    made = ThreadedCrew(SURROUNDINGS, 1, "crew", TIMEOUT_S)
    yield made
    go_on.set()
    made.close()


def timed_out(finished: Finished) -> bool:
    return finished.trouble is not None and finished.trouble.reason == "timed-out"


def test_def_handler_that_hangs_is_given_up_and_its_place_goes_to_the_next(
    crew: ThreadedCrew, go_on: threading.Event
) -> None:
    """The only place is free again though its thread is not; the traceback says where that was."""
    crew.start(work(lambda m: go_on.wait(PATIENCE_S)))
    crew.start(work(reply, 2))
    first, second = all_of(crew, 2)
    assert timed_out(first)
    assert first.trouble is not None
    assert isinstance(first.trouble.error, HandlerTimedOutError)
    assert "go_on.wait" in first.trouble.trace
    assert second.trouble is None
    assert crew.busy == 0


def test_what_a_handler_that_was_given_up_returns_later_is_dropped(crew: ThreadedCrew, go_on: threading.Event) -> None:
    """Its message is a dead letter by then."""
    ended = threading.Event()

    def late(m: Job, context: Context) -> None:
        go_on.wait(PATIENCE_S)
        context.reply(Result(m.number))
        ended.set()

    crew.start(work(late))
    assert timed_out(*all_of(crew, 1))
    go_on.set()
    assert ended.wait(PATIENCE_S)
    crew.start(work(reply, 2))
    (finished,) = all_of(crew, 1)
    assert finished.ticket.delivery.tag == 2
    assert crew.collect(0.0) == []


def test_handler_that_waits_for_a_place_does_not_lose_its_time(crew: ThreadedCrew) -> None:
    """The time of a handler runs from where it begins."""

    def slow(m: Job) -> None:
        time.sleep(TIMEOUT_S * 0.4)

    async def slow_too(m: Job) -> None:
        await asyncio.sleep(TIMEOUT_S * 0.4)

    for handler in (slow, slow_too):
        for number in range(4):
            crew.start(work(handler, number))
        waited = all_of(crew, 4)
        # A machine that is busy may make one of them too slow, but never all that waited.
        assert not all(map(timed_out, waited[2:]))


def test_async_handler_that_hangs_is_cancelled(crew: ThreadedCrew) -> None:
    """It may clean up, and its place goes to the next."""
    cleaned = threading.Event()

    async def waits(m: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    crew.start(work(waits))
    crew.start(work(reply_later, 2))
    first, second = all_of(crew, 2)
    assert timed_out(first)
    assert second.trouble is None
    assert cleaned.wait(PATIENCE_S)


def test_async_handler_that_ignores_its_cancellation_is_left_behind(crew: ThreadedCrew, go_on: threading.Event) -> None:
    """Others go on beside it, and it is counted until it ends."""

    async def stubborn(m: Job) -> None:
        while not go_on.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    crew.start(work(stubborn))
    crew.start(work(reply_later, 2))
    first, second = all_of(crew, 2)
    assert timed_out(first)
    assert second.trouble is None
    until(lambda: len(crew.left_behind()) == 1, "a handler left behind")
    go_on.set()
    until(lambda: crew.left_behind() == [], "its end")


def test_async_handler_that_spins_is_interrupted_and_the_others_go_on() -> None:
    """What blocks the loop in Python is ended where it is; those that share the loop lose nothing by it."""
    crew = ThreadedCrew(SURROUNDINGS, 2, "crew", TIMEOUT_S)
    began = threading.Event()

    async def waits(m: Job, context: Context) -> None:
        began.set()
        await asyncio.sleep(TIMEOUT_S / 2)
        context.reply(Result(m.number))

    async def spins(m: Job) -> None:
        began.wait(PATIENCE_S)
        await asyncio.sleep(0)
        while True:
            pass

    crew.start(work(waits, 1))
    crew.start(work(spins, 2))
    finished = {f.ticket.delivery.tag: f for f in all_of(crew, 2)}
    assert timed_out(finished[2])
    assert "while True" in (finished[2].trouble.trace if finished[2].trouble else "")
    assert finished[1].trouble is None
    assert crew.left_behind() == []
    crew.close()


def test_async_handler_that_blocks_its_loop_in_c_costs_the_loop_and_not_the_others(go_on: threading.Event) -> None:
    """A new loop takes the place of one that cannot be freed; what waited on that is put off, and not given up."""
    crew = ThreadedCrew(SURROUNDINGS, 2, "crew", TIMEOUT_S)
    began = threading.Event()

    async def waits(m: Job) -> None:
        began.set()
        await asyncio.sleep(TIMEOUT_S / 2)

    async def blocks(m: Job) -> None:
        began.wait(PATIENCE_S)
        await asyncio.sleep(0)
        go_on.wait(PATIENCE_S)

    crew.start(work(waits, 1))
    crew.start(work(blocks, 2))
    reasons = {f.ticket.delivery.tag: f.trouble.reason if f.trouble else "" for f in all_of(crew, 2)}
    assert reasons == {1: "parked", 2: "timed-out"}
    crew.start(work(reply_later, 3))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is None
    go_on.set()
    until(lambda: crew.left_behind() == [], "the end of the blocked one")
    crew.close()


@pytest.mark.parametrize("waits", [False, True])
def test_task_of_a_handler_that_blocks_the_loop_does_not_hold_up_others_for_good(
    go_on: threading.Event, waits: bool
) -> None:
    """No handler is to blame, so the loop goes: what it has not heard of is put off, and others begin anew."""
    crew = ThreadedCrew(SURROUNDINGS, 2, "crew", TIMEOUT_S)
    began = threading.Event()
    tasks: list[asyncio.Task[None]] = []

    async def blocks() -> None:
        began.set()
        go_on.wait(PATIENCE_S)

    async def leaves_a_task(m: Job) -> None:
        tasks.append(asyncio.create_task(blocks()))
        if waits:
            await tasks[0]

    crew.start(work(leaves_a_task, 1))
    assert began.wait(PATIENCE_S)
    crew.start(work(reply_later, 2))
    reasons = {f.ticket.delivery.tag: f.trouble.reason if f.trouble else "" for f in all_of(crew, 2)}
    assert reasons == {1: "timed-out" if waits else "", 2: "parked"}
    crew.start(work(reply_later, 3))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is None
    assert "what a handler left on the event loop" in crew.left_behind()
    go_on.set()
    until(lambda: crew.left_behind() == [], "the end of the blocked loop")
    crew.close()


@pytest.mark.parametrize("handler", [reply, reply_later])
def test_handlers_that_end_in_time_are_as_without_a_limit(handler: Callable[..., Any]) -> None:
    """Steps of an `async def` handler are watched one by one, and answer as ever."""
    crew = ThreadedCrew(SURROUNDINGS, 3, "crew", 60.0)
    for number in range(20):
        crew.start(work(handler, number))
    finished = all_of(crew, 20)
    assert all(f.trouble is None and f.outgoing[0].to == "asker" for f in finished)
    crew.close()


def test_async_handler_under_a_limit_may_use_all_of_asyncio() -> None:
    """Task groups, time-outs of its own, cancellation and exceptions pass through the watch as they are."""
    crew = ThreadedCrew(SURROUNDINGS, 3, "crew", 60.0)

    async def child(into: list[int], number: int) -> None:
        await asyncio.sleep(0)
        into.append(number)

    async def handler(m: Job, context: Context) -> None:
        into: list[int] = []
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(into, number))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        with pytest.raises(ValueError, match="inner"):
            await fails()
        context.reply(Result(sum(into)))

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("inner")

    crew.start(work(handler))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is None, finished.trouble
    assert len(finished.outgoing) == 1
    crew.close()
