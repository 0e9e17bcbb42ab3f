"""The roll call: wait until every worker process is at work, so that the race is fair from the first applicant."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from sagabus import Bus, Context, message
from sagabus.errors import UnknownEndpointError

ROLLCALL: Final = "rollcall"
_ANSWERS: Final = "rollcall-answers"
_PAUSE_S: Final = 0.1


@message("racing.call-roll")
class CallRoll:
    """Ask whoever gets this for its process id."""


@message("racing.roll-called")
class RollCalled:
    """A worker is at work."""

    pid: int


def open_rollcall(bus: Bus) -> None:
    """Have the workers of *bus* answer the roll call, one call at a time, so that each of them gets one."""
    desk = bus.endpoint(ROLLCALL, batch=1, concurrency=1)

    @desk.consumer
    def answer(m: CallRoll, context: Context) -> None:
        context.reply(RollCalled(pid=os.getpid()))


class Rollcall:
    """Who has answered so far. Thread-safe.

    Args:
        bus: the caller's own bus, which gets an endpoint for the answers.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self.endpoint = bus.endpoint(_ANSWERS)
        self.endpoint.consumer(self.answered)

    def answered(self, m: RollCalled) -> None:
        """Note an answer."""
        with self._lock:
            self._pids.add(m.pid)

    def missing(self, pids: Iterable[int]) -> set[int]:
        """Return those of *pids* that have not answered yet, and call them."""
        with self._lock:
            missing = set(pids) - self._pids
        if missing:
            with suppress(UnknownEndpointError):  # as long as no worker has come as far as declaring it
                self._bus.send_many([CallRoll()] * len(missing), to=ROLLCALL, reply_to=_ANSWERS)
        return missing

    def wait_for(self, pids: Callable[[], Sequence[int]], timeout_s: float) -> set[int]:
        """Call until all of *pids* have answered, for up to *timeout_s* seconds; return those that have not."""
        deadline = time.monotonic() + timeout_s
        while (missing := self.missing(pids())) and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        return missing
