"""The event loop on which a crew runs `async def` handlers, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from sagabus.errors import ConcurrencyError
from sagabus.runtime.handler_threads import Through
from sagabus.runtime.job import Job
from sagabus.runtime.surroundings import Finished, Race, Surroundings
from sagabus.runtime.ticket import Trouble
from sagabus.runtime.watchdog import HandlerCall, Watch

_ENDS_S: Final = 1.0
_BLOCKS_S: Final = 0.05
"""From so long on a step of a handler that does not await is time that it takes from the others."""


class HandlerLoop:
    """Runs `async def` handlers, at most *places* at once. What is public is called by the lane's thread.

    A handler that blocks the loop instead of awaiting is interrupted when its time is over, as a saga's handler is; the
    time that it took from others does not count for them.

    Args:
        through: takes what is through.
        timeout_s: how long one handler may take; None for as long as it wants.
    """

    def __init__(
        self, surroundings: Surroundings, places: int, name: str, through: Through, timeout_s: float | None
    ) -> None:
        self._surroundings, self._through = surroundings, through
        self._watch = Watch(timeout_s)
        self._loop = asyncio.new_event_loop()
        self._places = asyncio.Semaphore(places)
        self._jobs: set[Job] = set()
        self._unheard: deque[float] = deque()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, job: Job) -> None:
        """Have *job* run as soon as there is a place."""
        job.thread = self._thread
        self._ask(self._start_task, job)

    def leave_behind(self, job: Job) -> None:
        """Cancel *job*, and give its place to another; nobody waits for it any more."""
        # What it cleans up with has a time of its own.
        job.began_at = time.monotonic()
        self._ask(self._cancel, job)

    def look(self, now: float) -> HandlerCall | None:
        """Interrupt a handler that blocks the loop for longer than it may; return it where that is of no avail."""
        return self._watch.look(now)

    def blocked(self, now: float) -> bool:
        """Return whether a handler keeps all others from going on."""
        call = self._watch.current
        return call is not None and not call.done and now - call.began_at >= _BLOCKS_S

    def deaf(self, now: float) -> bool:
        """Return whether the loop has not heard for too long of what it was asked, and no handler is to blame.

        Then something blocks it that a handler has left there: a task or a callback, which nobody can interrupt.
        """
        try:
            asked_at = self._unheard[0]
        except IndexError:
            return False
        watch, call = self._watch, self._watch.current
        if watch.timeout_s is None or (call is not None and not call.done):
            return False
        return now >= max(asked_at, watch.left_at) + watch.timeout_s + watch.grace_s

    @property
    def thread(self) -> int | None:
        """Return the ident of its thread."""
        return self._thread.ident

    @property
    def ended(self) -> bool:
        """Return whether its thread has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Cancel what runs, and end the loop. One that a handler blocks is left to itself."""
        self.abandon()
        # A loop that is collected unclosed complains when the interpreter ends; a handler that blocks may keep it.
        self._thread.join(_ENDS_S)

    def abandon(self) -> None:
        """Have the loop end as soon as nothing blocks it any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _ask(self, function: Callable[[Job], None], job: Job) -> None:
        self._unheard.append(time.monotonic())
        self._loop.call_soon_threadsafe(self._hear, function, job)

    # -- on the loop ---------------------------------------------------------------------------------------------

    def _hear(self, function: Callable[[Job], None], job: Job) -> None:
        # The loop hears of them in the order in which it was asked.
        self._unheard.popleft()
        function(job)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            left = {job.task for job in self._jobs if job.task is not None}
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left))
        finally:
            self._loop.close()

    def _start_task(self, job: Job) -> None:
        self._jobs.add(job)
        job.task = asyncio.get_running_loop().create_task(self._run_job(job))
        job.task.add_done_callback(lambda _: self._jobs.discard(job))

    def _cancel(self, job: Job) -> None:
        assert job.task is not None
        job.task.cancel()
        self._free(job)

    def _free(self, job: Job) -> None:
        if job.has_place:
            job.has_place = False
            self._places.release()

    async def _run_job(self, job: Job) -> None:
        await self._places.acquire()
        job.has_place, job.began_at = True, time.monotonic()
        try:
            finished = await self._called(job)
        except BaseException as error:
            # Also what is no Exception: a task that was cancelled, or sys.exit(), which would end the loop for all.
            finished = Finished(job.work.ticket, (), Trouble.of(error))
        job.ended, job.took_s = True, time.monotonic() - job.began_at
        self._free(job)
        if job.end.take():
            self._through.put((job, finished))

    async def _called(self, job: Job) -> Finished:
        surroundings, race = self._surroundings, Race()
        for pause_s in surroundings.pauses_s():
            await asyncio.sleep(pause_s)
            try:
                context = surroundings.context(job.work)
                answer: Any = job.work.consumer.call(job.work.incoming, context)
                await (answer if self._watch.timeout_s is None else _Steps(answer, self._stepper(job)))
                return surroundings.finished(job.work, context)
            except ConcurrencyError as error:
                if not race.goes_on(error):
                    raise
        return race.given_up(job.work)

    def _stepper(self, job: Job) -> Callable[..., Any]:
        name = job.work.consumer.name

        def step(function: Callable[..., Any], *args: Any) -> Any:
            began_at = time.monotonic()
            try:
                return self._watch.run(job, name, job.began_at or began_at, function, *args)
            finally:
                took_s = time.monotonic() - began_at
                if took_s >= _BLOCKS_S:
                    self._make_up_for(took_s, job)

        return step

    def _make_up_for(self, took_s: float, by: Job) -> None:
        for other in self._jobs:
            if other is not by and other.began_at is not None:
                other.began_at += took_s


class _Steps(Generator[Any, Any, Any]):
    """Awaits a coroutine, each of its steps called by *step*."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: Callable[..., Any]) -> None:
        self._coroutine, self._step = coroutine, step

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coroutine.throw, *error)

    def close(self) -> None:
        self._coroutine.close()
