"""The threads in which a crew runs `def` handlers: as many as it has places, and others for those that hang."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Final

from sagabus.runtime.job import Job
from sagabus.runtime.surroundings import Finished, Surroundings
from sagabus.runtime.ticket import Trouble

_WAITED_S: Final = 0.02

Through = SimpleQueue[tuple[Job, Finished]]
"""Jobs that are through, for the lane."""


class HandlerThreads:
    """Runs `def` handlers in at most *places* threads. All methods are called by the lane's thread.

    Few threads are quicker than many where handlers are quick, for the interpreter runs one of them at a time: one
    thread is woken for all that is to do, and others where work is left over a moment later: by the lane (`rouse`), and
    by threads that find something which has waited, for the lane may be waiting too, for a server.

    Args:
        through: takes what is through.
    """

    def __init__(self, surroundings: Surroundings, places: int, name: str, through: Through) -> None:
        self._surroundings, self._places, self._name, self._through = surroundings, places, name, through
        self._jobs: deque[Job] = deque()
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._made = 0
        self._lock = threading.Lock()
        # Those that take jobs. Where one goes to rest just as a job comes, the next `rouse` wakes it.
        self._awake = 0

    @property
    def waiting(self) -> bool:
        """Return whether there are jobs that no thread has begun, and places for more threads."""
        return bool(self._jobs) and self._awake < self._places

    def start(self, job: Job) -> None:
        """Have *job* run as soon as there is a place."""
        job.queued_at = time.monotonic()
        self._jobs.append(job)
        if not self._awake:
            self.rouse(more=False)

    def rouse(self, *, more: bool) -> None:
        """Have a thread take what is to do, if none does.

        Args:
            more: one more, also where others are at it.
        """
        with self._lock:
            if not self._jobs or self._awake >= (self._places if more else 1):
                return
            self._awake += 1
            if self._awake > len(self._threads):
                thread = threading.Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True)
                self._made += 1
                self._threads.add(thread)
                thread.start()
        self._tokens.put(True)

    def leave_behind(self, job: Job) -> None:
        """Give the place of *job* to another thread; its own, which nobody waits for now, ends when the job does."""
        assert job.thread is not None
        with self._lock:
            self._threads.discard(job.thread)
            self._awake -= 1
        self.rouse(more=True)

    def close(self) -> None:
        """Have the threads end when they have done what they are at; what waits for a place is not begun any more."""
        self._jobs.clear()
        with self._lock:
            for _ in self._threads:
                self._tokens.put(False)

    def _work(self) -> None:
        me = threading.current_thread()
        while self._tokens.get():
            while (job := self._next()) is not None:
                job.thread = me
                job.began_at = began_at = time.monotonic()
                if began_at - job.queued_at > _WAITED_S:
                    self.rouse(more=True)
                try:
                    finished = contextvars.copy_context().run(self._surroundings.call, job.work)
                except BaseException as error:
                    # sys.exit() in a handler: the thread would end, and its message be held for ever.
                    finished = Finished(job.work.ticket, (), Trouble.of(error))
                job.took_s = time.monotonic() - began_at
                job.ended = True
                if not job.end.take():
                    return
                self._through.put((job, finished))

    def _next(self) -> Job | None:
        """Return what is to do next; None where there is nothing, and the thread counts as one that rests."""
        while True:
            try:
                return self._jobs.popleft()
            except IndexError:
                with self._lock:
                    if not self._jobs:
                        self._awake -= 1
                        return None
