"""The threads in which a crew runs `def` handlers: as many as it has places, and others for those that hang."""

from __future__ import annotations

import contextvars
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from sagabus.runtime.job import Job
from sagabus.runtime.surroundings import Finished, Surroundings
from sagabus.runtime.ticket import Trouble

Through = SimpleQueue[tuple[Job, Finished]]
"""Jobs that are through, for the lane."""


class HandlerThreads:
    """Runs `def` handlers in at most *places* threads. All methods are called by the lane's thread.

    Args:
        through: takes what is through.
    """

    def __init__(self, surroundings: Surroundings, places: int, name: str, through: Through) -> None:
        self._surroundings, self._places, self._name, self._through = surroundings, places, name, through
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._count = self._made = 0

    def start(self, job: Job) -> None:
        """Have *job* run as soon as there is a place."""
        self._count += 1
        self._fill()
        self._jobs.put(job)

    def through(self, _job: Job) -> None:
        """Note that a job came back."""
        self._count -= 1

    def leave_behind(self, job: Job) -> None:
        """Give the place of *job* to a new thread; nobody waits for its own any more, which ends when the job does."""
        self._count -= 1
        assert job.thread is not None
        self._threads.discard(job.thread)
        self._fill()

    def close(self) -> None:
        """Have the threads end when they have done what they are at; what waits for a place is not begun any more."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)

    def _fill(self) -> None:
        if len(self._threads) < min(self._count, self._places):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True)
            self._made += 1
            self._threads.add(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.thread = threading.current_thread()
            job.began_at = time.monotonic()
            try:
                finished = contextvars.copy_context().run(self._surroundings.call, job.work)
            except BaseException as error:
                # sys.exit() in a handler: the thread would end, and its message be held for ever.
                finished = Finished(job.work.ticket, (), Trouble.of(error))
            job.ended = True
            if not job.end.take():
                return
            self._through.put((job, finished))
