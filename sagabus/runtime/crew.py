"""Crews: they run consumers, `def` in a bounded pool of threads, `async def` on one event loop; give up what hangs."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from sagabus.errors import HandlerTimedOutError
from sagabus.runtime.handler_loop import HandlerLoop
from sagabus.runtime.handler_threads import HandlerThreads, Through
from sagabus.runtime.intake import ConsumerWork
from sagabus.runtime.job import Job
from sagabus.runtime.surroundings import Finished, Surroundings
from sagabus.runtime.ticket import Trouble
from sagabus.runtime.watchdog import HandlerCall, overdue
from sagabus.telemetry.histogram import Histogram

LINGER_S: Final = 0.002
"""For so long after the first handler is through others of its batch are waited for."""
_ROUSE_S: Final = 0.001
_AHEAD_S: Final = 0.02
"""So much work of quick handlers is taken in advance."""
_LOOK_S: Final = 0.02
_BEHIND_AFTER_S: Final = 1.0
"""A handler that was given up, and ends within so long, was not left behind."""


class Crew(Protocol):
    """Runs the consumers of one endpoint for its lane. All methods are called by the lane's thread."""

    @property
    def busy(self) -> int:
        """Return how many handlers were started and not collected."""
        ...

    @property
    def room(self) -> int:
        """Return how many more may be started, for the others are not to wait for long."""
        ...

    def start(self, work: ConsumerWork) -> None:
        """Have a consumer handle a message."""
        ...

    def collect(self, wait_s: float) -> list[Finished]:
        """Return the handlers that are through or given up, waiting up to *wait_s* seconds for the first."""
        ...

    def left_behind(self) -> list[str]:
        """Return the names of the handlers that were given up and go on all the same."""
        ...

    def close(self) -> None:
        """Stop: `def` handlers that still run end by themselves, `async def` ones are cancelled.

        What they ask for is not done.
        """
        ...


class InlineCrew:
    """Runs each handler in the calling thread, at once, for as long as it takes: deterministic, for tests."""

    def __init__(self, surroundings: Surroundings, concurrency: int = 1, times: Histogram | None = None) -> None:
        self._surroundings, self.places = surroundings, concurrency
        self._times = times or Histogram.of_seconds()
        self._finished: list[Finished] = []

    @property
    def busy(self) -> int:
        return len(self._finished)

    @property
    def room(self) -> int:
        return 2 * self.places - self.busy

    def start(self, work: ConsumerWork) -> None:
        began_at = time.monotonic()
        self._finished.append(contextvars.copy_context().run(self._surroundings.call, work))
        self._times.note(time.monotonic() - began_at)

    def collect(self, wait_s: float = 0.0) -> list[Finished]:
        finished, self._finished = self._finished, []
        return finished

    def left_behind(self) -> list[str]:
        return []

    def close(self) -> None:
        self._finished.clear()


class ThreadedCrew:
    """Runs `def` handlers in at most *concurrency* threads, and as many `async def` handlers on one event loop.

    Attributes:
        places: how many run at once.

    Args:
        surroundings: what they are called with.
        concurrency: how many run at once.
        name: what the names of its threads begin with.
        timeout_s: how long one handler may take before it is given up; None for as long as it wants.
        through: what takes those that are through.
        times: counts how long they took; in the lane's thread.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        concurrency: int,
        name: str,
        timeout_s: float | None = None,
        through: Through | None = None,
        times: Histogram | None = None,
    ) -> None:
        self._surroundings, self.places, self._name = surroundings, concurrency, name
        self._times = times or Histogram.of_seconds()
        self._timeout_s = timeout_s
        self._through: Through = through or SimpleQueue()
        self._threads = HandlerThreads(surroundings, concurrency, name, self._through)
        self._loop: HandlerLoop | None = None
        self._at_work: set[Job] = set()
        self._given_up: list[Job] = []
        self._deaf: list[HandlerLoop] = []
        # How long one handler takes, the last ones counting most; as long as nobody knows, very long.
        self._takes_s = float("inf")

    @property
    def busy(self) -> int:
        return len(self._at_work)

    @property
    def room(self) -> int:
        ahead = int(_AHEAD_S / self._takes_s) if self._takes_s else self.places
        return max(2 * self.places, ahead) - self.busy

    def start(self, work: ConsumerWork) -> None:
        job = Job(work, self)
        self._at_work.add(job)
        self._part(job).start(job)

    def rouse(self) -> None:
        """Have one more thread begin with what was started: others leave something over."""
        self._threads.rouse(more=True)

    @property
    def waiting(self) -> bool:
        """Return whether some of what was started has not begun, and more threads could be roused for it."""
        return self._threads.waiting

    def came_back(self, job: Job) -> None:
        """Note that one that was started is through."""
        self._at_work.discard(job)
        if job.took_s is not None:
            self._times.note(job.took_s)
            first = self._takes_s == float("inf")
            self._takes_s = job.took_s if first else self._takes_s + (job.took_s - self._takes_s) / 8

    def collect(self, wait_s: float) -> list[Finished]:
        """Return the handlers that are through or given up, waiting up to *wait_s* seconds for the first."""
        return collect([self], self._through, wait_s)

    def left_behind(self) -> list[str]:
        self._given_up = [job for job in self._given_up if not job.ended]
        self._deaf = [loop for loop in self._deaf if not loop.ended]
        since = time.monotonic() - _BEHIND_AFTER_S
        return ["what a handler left on the event loop"] * len(self._deaf) + [
            job.work.consumer.name for job in self._given_up if (job.given_up_at or 0.0) <= since
        ]

    def close(self) -> None:
        self._threads.close()
        if self._loop is not None:
            self._loop.close()

    def _part(self, job: Job) -> HandlerThreads | HandlerLoop:
        if not job.work.consumer.is_async:
            return self._threads
        if self._loop is None:
            name = f"{self._name}-loop"
            self._loop = HandlerLoop(self._surroundings, self.places, name, self._through, self._timeout_s)
        return self._loop

    # -- handlers that take longer than they may -------------------------------------------------------------------

    def look_at(self, now: float) -> float:
        """Return when to look for such handlers next, on the monotonic clock."""
        if self._timeout_s is None or not self._at_work:
            return float("inf")
        # One that has not begun yet may begin at once.
        soonest = min(job.overdue_at(self._timeout_s) for job in self._at_work)
        return max(now + _LOOK_S, min(soonest, now + self._timeout_s))

    def overdue(self, now: float) -> list[Finished]:
        """Give up the handlers whose time is over."""
        if self._timeout_s is None:
            return []
        finished: list[Finished] = []
        blocked = False
        if self._loop is not None:
            call = self._loop.look(now)
            if call is not None:
                finished += self._without_loop(call, now)
            elif self._loop.deaf(now):
                finished += self._without_deaf_loop()
            else:
                blocked = self._loop.blocked(now)
        for job in [job for job in self._at_work if now >= job.overdue_at(self._timeout_s)]:
            if blocked and job.work.consumer.is_async:
                # It is the one that is being interrupted, or one that the other keeps from going on.
                continue
            given_up = job.give_up(self._timeout_s, now)
            if given_up is not None:
                self._part(job).leave_behind(job)
                self._given_up.append(job)
                self._at_work.discard(job)
                finished.append(given_up)
        return finished

    def _without_loop(self, call: HandlerCall, now: float) -> list[Finished]:
        """Leave the loop that *call* blocks; what it keeps from going on is put off, and begins anew elsewhere."""
        assert self._timeout_s is not None
        culprit: Job = call.subject
        finished = self._leave_loop(overdue(call.name, self._timeout_s, call.thread), culprit)
        if culprit.given_up_at is None:
            self._given_up.append(culprit)
        culprit.given_up_at = now
        return finished

    def _without_deaf_loop(self) -> list[Finished]:
        """Leave a loop that is blocked by none of its handlers; those whose time is over were given up before."""
        assert self._loop is not None
        assert self._timeout_s is not None
        self._deaf.append(self._loop)
        blocks = overdue("what a handler left on the event loop", self._timeout_s, self._loop.thread)
        return self._leave_loop(blocks, None)

    def _leave_loop(self, hangs: HandlerTimedOutError, culprit: Job | None) -> list[Finished]:
        assert self._loop is not None
        self._loop.abandon()
        self._loop = None
        finished = []
        for job in [job for job in self._at_work if job.work.consumer.is_async]:
            if job.end.take():
                reason = hangs.reason if job is culprit else "parked"
                finished.append(Finished(job.work.ticket, (), Trouble(reason, hangs)))
                self._at_work.discard(job)
        return finished


def collect(crews: Sequence[ThreadedCrew], through: Through, wait_s: float) -> list[Finished]:
    """Return the handlers of *crews* that are through or given up, waiting up to *wait_s* seconds for the first.

    Args:
        through: what all of them put into it.
    """
    now = time.monotonic()
    give_up_at = now + wait_s
    lingers_until, rouse_at = 0.0, now + _ROUSE_S
    finished = [each for crew in crews for each in crew.overdue(now)]
    while any(crew.busy for crew in crews):
        until = min(give_up_at, *(crew.look_at(now) for crew in crews))
        waiting = [crew for crew in crews if crew.waiting]
        if waiting:
            until = min(until, rouse_at)
        try:
            job, result = through.get(timeout=max(0.0, until - now))
        except Empty:
            now = time.monotonic()
            if now >= rouse_at:
                # For so long nobody has got on.
                for crew in waiting:
                    crew.rouse()
                rouse_at = now + _ROUSE_S
            finished += [each for crew in crews for each in crew.overdue(now)]
            if finished or now >= give_up_at:
                break
            continue
        while True:
            job.crew.came_back(job)
            finished.append(result)
            if through.empty():
                break
            job, result = through.get()
        now = time.monotonic()
        rouse_at = now + _ROUSE_S
        # Others of the same batch are about to be through too; one dispatch for all of them costs no more.
        give_up_at = min(give_up_at, lingers_until := lingers_until or now + LINGER_S)
    return finished
