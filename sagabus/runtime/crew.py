"""The crew: runs consumers, `def` in a bounded pool of threads, `async def` on one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from attrs import define, frozen

from sagabus.consumer import Context
from sagabus.documents.documents import Documents
from sagabus.errors import ConcurrencyError
from sagabus.observe.handling import Handling, handling
from sagabus.outgoing import Outgoing
from sagabus.runtime.intake import ConsumerWork
from sagabus.runtime.pause import race_pause_s
from sagabus.runtime.ticket import Ticket, Trouble

_LINGER_S = 0.002
_LOOP_ENDS_S = 1.0
_MAX_RERUNS = 16


@frozen
class Finished:
    """One consumer is through with one message."""

    ticket: Ticket
    outgoing: tuple[Outgoing, ...]
    trouble: Trouble | None


@define
class Race:
    """What a handler is in while others are faster: each `ConcurrencyError` says that somebody else has got on."""

    _last: ConcurrencyError | None = None

    def goes_on(self, error: BaseException) -> bool:
        """Return whether the handler is to be run again for *error*.

        Not where the documents are just as they were the last time: then nobody was faster, and it fails each time.
        """
        if not isinstance(error, ConcurrencyError):
            return False
        stands_still = self._last is not None and self._last.conflicts == error.conflicts
        self._last = error
        return not stands_still

    def given_up(self, work: ConsumerWork) -> Finished:
        """Return that others were faster each time: the message is put off, and its attempts stay as they are."""
        return Finished(work.ticket, (), Trouble("parked", self._last))


@frozen
class Surroundings:
    """What every handler of one endpoint is called with; *jitter* returns a number in [0, 1)."""

    endpoint: str
    routes: Mapping[str, str]
    max_bytes: int
    now_ms: Callable[[], int]
    documents: Documents
    jitter: Callable[[], float]

    def context(self, work: ConsumerWork) -> Context:
        """Return the context of one call, and have log lines carry its message."""
        envelope = work.incoming.envelope
        handling.set(Handling(envelope.saga, envelope.id, envelope.type, self.endpoint))
        return Context(self.endpoint, envelope, self.now_ms(), self.documents)

    def finished(self, work: ConsumerWork, context: Context) -> Finished:
        """Return what a handler that returned has asked for."""
        outgoing = context.outgoing(work.consumer.name, self.routes, self.now_ms(), self.max_bytes)
        return Finished(work.ticket, outgoing, None)

    def call(self, work: ConsumerWork) -> Finished:
        """Run a `def` handler here and now, an `async def` one on a loop of its own; again where others were faster."""
        race = Race()
        for pause_s in self.pauses_s():
            time.sleep(pause_s)
            try:
                context = self.context(work)
                answer = work.consumer.call(work.incoming, context)
                if work.consumer.is_async:
                    asyncio.run(answer)
                return self.finished(work, context)
            except Exception as error:
                if not race.goes_on(error):
                    return Finished(work.ticket, (), Trouble.of(error))
        return race.given_up(work)

    def pauses_s(self) -> Iterator[float]:
        """Yield how long to wait before each run of a handler, seconds: none, then more and more.

        They are for a `Race`, which costs no attempt, as for serial sagas.
        """
        yield 0.0
        for rerun in range(_MAX_RERUNS):
            yield race_pause_s(rerun, self.jitter)


class Crew(Protocol):
    """Runs consumers for one lane. All methods are called by the lane's thread."""

    @property
    def busy(self) -> int:
        """Return how many handlers were started and not collected."""
        ...

    def start(self, work: ConsumerWork) -> None:
        """Have a consumer handle a message."""
        ...

    def collect(self, wait_s: float) -> list[Finished]:
        """Return the handlers that are through, waiting up to *wait_s* seconds for the first."""
        ...

    def close(self) -> None:
        """Stop: `def` handlers that still run end by themselves, `async def` ones are cancelled.

        What they ask for is not done.
        """
        ...


class InlineCrew:
    """Runs each handler in the calling thread, at once: deterministic, for tests."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._finished: list[Finished] = []

    @property
    def busy(self) -> int:
        return len(self._finished)

    def start(self, work: ConsumerWork) -> None:
        self._finished.append(contextvars.copy_context().run(self._surroundings.call, work))

    def collect(self, wait_s: float) -> list[Finished]:
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        self._finished.clear()


class ThreadedCrew:
    """Runs `def` handlers in at most *concurrency* threads, and as many `async def` handlers on one event loop."""

    def __init__(self, surroundings: Surroundings, concurrency: int, name: str) -> None:
        self._surroundings = surroundings
        self._concurrency = concurrency
        self._name = name
        self._jobs: SimpleQueue[ConsumerWork | None] = SimpleQueue()
        self._through: SimpleQueue[Finished] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._places: asyncio.Semaphore | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = 0

    @property
    def busy(self) -> int:
        return self._busy

    def start(self, work: ConsumerWork) -> None:
        self._busy += 1
        if work.consumer.is_async:
            self._event_loop().call_soon_threadsafe(self._start_task, work)
            return
        if len(self._threads) < min(self._busy, self._concurrency):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(work)

    def collect(self, wait_s: float) -> list[Finished]:
        finished: list[Finished] = []
        give_up_at = time.monotonic() + wait_s
        while len(finished) < self._busy:
            try:
                finished.append(self._through.get(timeout=max(0.0, give_up_at - time.monotonic())))
            except Empty:
                break
            # Others of the same batch are about to be through too; one dispatch for all of them costs no more.
            give_up_at = min(give_up_at, time.monotonic() + _LINGER_S) if len(finished) == 1 else give_up_at
        self._busy -= len(finished)
        return finished

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        if self._loop is not None and self._loop_thread is not None:
            loop, self._loop = self._loop, None
            loop.call_soon_threadsafe(loop.stop)
            # A loop that is collected unclosed complains when the interpreter ends; a handler that blocks may keep it.
            self._loop_thread.join(_LOOP_ENDS_S)

    def _work(self) -> None:
        while (work := self._jobs.get()) is not None:
            try:
                finished = contextvars.copy_context().run(self._surroundings.call, work)
            except BaseException as error:
                # sys.exit() in a handler: the thread would end, and its message be held for ever.
                finished = Finished(work.ticket, (), Trouble.of(error))
            self._through.put(finished)

    # -- the event loop ------------------------------------------------------------------------------------------

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._places = asyncio.Semaphore(self._concurrency)
            name = f"{self._name}-loop"
            self._loop_thread = threading.Thread(target=self._run_loop, args=(self._loop,), name=name, daemon=True)
            self._loop_thread.start()
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
            left = set(self._tasks)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
        finally:
            loop.close()

    def _start_task(self, work: ConsumerWork) -> None:
        task = asyncio.get_running_loop().create_task(self._run_async(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_async(self, work: ConsumerWork) -> None:
        assert self._places is not None
        async with self._places:
            try:
                finished = await self._called(work)
            except BaseException as error:
                # Also what is no Exception: a task that was cancelled, or sys.exit(), which would end the loop for all.
                finished = Finished(work.ticket, (), Trouble.of(error))
        self._through.put(finished)

    async def _called(self, work: ConsumerWork) -> Finished:
        surroundings, race = self._surroundings, Race()
        for pause_s in surroundings.pauses_s():
            await asyncio.sleep(pause_s)
            try:
                context = surroundings.context(work)
                answer: Any = work.consumer.call(work.incoming, context)
                await answer
                return surroundings.finished(work, context)
            except ConcurrencyError as error:
                if not race.goes_on(error):
                    raise
        return race.given_up(work)
