"""The crew: how many handlers run at once, and what becomes of those that end in odd ways."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sagabus import Bus, Context, message
from sagabus.consumer import consumers_of
from sagabus.envelope import Incoming, encode, wrap
from sagabus.errors import ConcurrencyError, HandlerMisuseError
from sagabus.runtime.crew import Crew, InlineCrew, ThreadedCrew
from sagabus.runtime.intake import ConsumerWork
from sagabus.runtime.surroundings import Finished, Surroundings
from sagabus.runtime.ticket import Ticket
from sagabus.transport import Delivery

CONCURRENCY = 3
PATIENCE_S = 10.0


@message("crew.job")
class Job:
    number: int = 0


@message("crew.result")
class Result:
    number: int = 0


def work(function: Callable[..., Any], number: int = 0, *, reply_to: str = "asker") -> ConsumerWork:
    (consumer,) = consumers_of(function, (Job,), {})
    envelope = wrap(Job(number), id=f"j{number}", source="/t", now_ms=0, replyto=reply_to)
    ticket = Ticket(Delivery("e", encode(envelope), 1, number), envelope, waiting=1)
    return ConsumerWork(consumer, Incoming(envelope), ticket)


SURROUNDINGS = Surroundings("e", {}, 100_000, lambda: 1000, Bus(store="memory:").documents, lambda: 0.0)


@pytest.fixture
def threaded() -> Iterator[ThreadedCrew]:
    crew = ThreadedCrew(SURROUNDINGS, CONCURRENCY, "crew")
    yield crew
    crew.close()


@pytest.fixture(params=["inline", "threads"])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    made: Crew = InlineCrew(SURROUNDINGS) if request.param == "inline" else ThreadedCrew(SURROUNDINGS, 3, "crew")
    yield made
    made.close()


def all_of(crew: Crew, count: int) -> list[Finished]:
    finished: list[Finished] = []
    while len(finished) < count:
        came = crew.collect(PATIENCE_S)
        assert came, "nothing more came"
        finished += came
    return finished


def reply(m: Job, context: Context) -> None:
    context.reply(Result(m.number))


async def reply_later(m: Job, context: Context) -> None:
    await asyncio.sleep(0)
    context.reply(Result(m.number))


@pytest.mark.parametrize("handler", [reply, reply_later])
def test_crew_returns_what_handlers_asked_for(crew: Crew, handler: Callable[..., Any]) -> None:
    """`def` and `async def` alike: the answers leave with ids that follow from the message."""
    for number in range(5):
        crew.start(work(handler, number))
    assert crew.busy == 5
    first = {f.ticket.delivery.tag: f for f in all_of(crew, 5)}
    assert crew.busy == 0
    assert all(f.trouble is None and f.outgoing[0].to == "asker" for f in first.values())
    for number in range(5):
        crew.start(work(handler, number))
    again = {f.ticket.delivery.tag: f for f in all_of(crew, 5)}
    assert {n: f.outgoing[0].id for n, f in first.items()} == {n: f.outgoing[0].id for n, f in again.items()}
    assert len({f.outgoing[0].id for f in first.values()}) == 5


def raises(m: Job, context: Context) -> None:
    context.reply(Result())
    raise ValueError("no")


async def raises_later(m: Job, context: Context) -> None:
    context.reply(Result())
    await asyncio.sleep(0)
    raise ValueError("no")


@pytest.mark.parametrize("handler", [raises, raises_later])
def test_handler_that_raises_asks_for_nothing(crew: Crew, handler: Callable[..., Any]) -> None:
    """What it had asked for before is dropped with it."""
    crew.start(work(handler))
    (finished,) = all_of(crew, 1)
    assert finished.outgoing == ()
    assert finished.trouble is not None
    assert (finished.trouble.reason, finished.trouble.text) == ("failed", "ValueError: no")
    assert "raise ValueError" in finished.trouble.trace


def exits(m: Job) -> None:
    sys.exit(3)


async def exits_later(m: Job) -> None:
    sys.exit(3)


async def is_cancelled(m: Job) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize("handler", [exits, exits_later, is_cancelled])
def test_handler_that_ends_its_thread_or_task_has_failed(threaded: ThreadedCrew, handler: Callable[..., Any]) -> None:
    """sys.exit() and cancellation are failures like others: the message is tried again, and the crew goes on."""
    for number in range(2 * CONCURRENCY):
        threaded.start(work(handler, number))
    for finished in all_of(threaded, 2 * CONCURRENCY):
        assert finished.trouble is not None
        assert finished.trouble.reason == "failed"
    for good in (reply, reply_later):
        threaded.start(work(good))
        assert all_of(threaded, 1)[0].trouble is None


@pytest.mark.parametrize("asynchronous", [False, True])
def test_crew_runs_no_more_handlers_at_once_than_it_may(threaded: ThreadedCrew, asynchronous: bool) -> None:
    """Exactly *concurrency* run, and the others wait for a place."""
    running, most = 0, 0
    lock = threading.Lock()
    together = threading.Event()

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == CONCURRENCY:
                together.set()

    def leave() -> None:
        nonlocal running
        with lock:
            running -= 1

    def blocks(m: Job) -> None:
        enter()
        together.wait(PATIENCE_S)
        leave()

    async def awaits(m: Job) -> None:
        enter()
        await asyncio.to_thread(together.wait, PATIENCE_S)
        leave()

    for number in range(10):
        threaded.start(work(awaits if asynchronous else blocks, number))
    all_of(threaded, 10)
    assert most == CONCURRENCY


def test_slow_async_handler_does_not_block_a_def_one(threaded: ThreadedCrew) -> None:
    """They do not share threads."""
    go_on = threading.Event()

    async def slow(m: Job) -> None:
        await asyncio.to_thread(go_on.wait, PATIENCE_S)

    for number in range(CONCURRENCY):
        threaded.start(work(slow, number))
    threaded.start(work(reply, 9))
    assert [f.ticket.delivery.tag for f in threaded.collect(PATIENCE_S)] == [9]
    go_on.set()
    all_of(threaded, CONCURRENCY)


def test_collect_from_a_crew_that_is_not_through_returns_nothing(threaded: ThreadedCrew) -> None:
    """It waits no longer than it was told to."""
    go_on = threading.Event()
    threaded.start(work(lambda m: go_on.wait(PATIENCE_S)))
    assert threaded.collect(0.0) == []
    assert threaded.busy == 1
    go_on.set()
    all_of(threaded, 1)
    assert threaded.collect(PATIENCE_S) == [], "none is at work, so there is nothing to wait for"


def test_reply_to_nobody_is_a_failure_that_says_what_to_do(crew: Crew) -> None:
    """A message without a reply address cannot be answered; the error has the mend."""
    crew.start(work(reply, reply_to=""))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is not None
    assert isinstance(finished.trouble.error, HandlerMisuseError)
    assert "reply_to=" in finished.trouble.text


class _Faster:
    """A consumer that others are faster than, so many times."""

    def __init__(self, times: int) -> None:
        self.left, self.runs = times, 0

    def try_it(self) -> None:
        self.runs += 1
        if self.left:
            self.left -= 1
            raise ConcurrencyError({"tally": (f"a:{self.runs}", f"a:{self.runs + 1}")})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_consumer_that_others_are_faster_than_is_run_again_at_once(crew: Crew, asynchronous: bool) -> None:
    """Somebody else has got on, so it costs no attempt: the handler is run again, with a new context."""
    faster = _Faster(3)

    def plain(m: Job, context: Context) -> None:
        context.reply(Result(m.number))
        faster.try_it()

    async def waiting(m: Job, context: Context) -> None:
        context.reply(Result(m.number))
        faster.try_it()

    crew.start(work(waiting if asynchronous else plain))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is None
    assert len(finished.outgoing) == 1
    assert faster.runs == 4


@pytest.mark.parametrize("asynchronous", [False, True])
def test_consumer_that_others_are_always_faster_than_is_put_off(crew: Crew, asynchronous: bool) -> None:
    """Past its bound the message is parked, which leaves its attempts as they are."""
    faster = _Faster(1_000)

    def plain(m: Job) -> None:
        faster.try_it()

    async def waiting(m: Job) -> None:
        faster.try_it()

    crew.start(work(waiting if asynchronous else plain))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is not None
    assert finished.trouble.reason == "parked"
    assert "tally" in finished.trouble.text
    assert 10 < faster.runs < 100


@pytest.mark.parametrize("asynchronous", [False, True])
def test_consumer_that_meets_the_same_conflict_again_has_failed(crew: Crew, asynchronous: bool) -> None:
    """Where nobody has got on meanwhile there is no race: it costs attempts, or it would come for ever."""
    runs: list[int] = []

    def plain(m: Job) -> None:
        runs.append(m.number)
        raise ConcurrencyError({"name": (None, "a:1")})

    async def waiting(m: Job) -> None:
        plain(m)

    crew.start(work(waiting if asynchronous else plain))
    (finished,) = all_of(crew, 1)
    assert finished.trouble is not None
    assert finished.trouble.reason == "failed"
    assert len(runs) == 2


def test_closed_crew_ends_its_event_loop_and_cancels_what_runs_on_it() -> None:
    """Nothing of a crew is left for the interpreter's end: neither its loop, nor a handler that waits on it."""
    began, ended = threading.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def waits(m: Job, context: Context) -> None:
        loops.append(asyncio.get_running_loop())
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    crew = ThreadedCrew(SURROUNDINGS, CONCURRENCY, "ending")
    crew.start(work(waits))
    assert began.wait(PATIENCE_S)
    crew.close()
    assert ended.is_set()
    assert loops[0].is_closed()
    assert not [thread.name for thread in threading.enumerate() if thread.name == "ending-loop"]


def test_closed_crew_begins_no_handler_that_waited_for_a_place() -> None:
    """Its message is redelivered, and another worker may be at it already."""
    began, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def blocks(m: Job) -> None:
        began.set()
        go_on.wait(PATIENCE_S)
        done.append(m.number)

    crew = ThreadedCrew(SURROUNDINGS, 1, "closing")
    for number in range(3):
        crew.start(work(blocks, number))
    assert began.wait(PATIENCE_S)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "closing-0"]
    crew.close()
    go_on.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert done == [0]


def test_closed_crew_forgets_what_it_had_finished() -> None:
    """What was not collected is redelivered."""
    crew = InlineCrew(SURROUNDINGS)
    crew.start(work(reply))
    crew.close()
    assert (crew.busy, crew.collect(0.0)) == (0, [])
