"""Readings from the inside of the worker processes, asked for over the bus that is measured."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import field

from sagabus import Bus, Context, message
from sagabus.errors import UnknownEndpointError

METER: Final = "meter"
_READINGS: Final = "readings"
_PAUSE_S: Final = 0.05


@message("benchmark.read-meter")
class ReadMeter:
    """Ask whoever gets this what it has used so far."""

    number: int


@message("benchmark.meter-read")
class MeterRead:
    """What one worker process has used since it was started.

    Attributes:
        number: of the request.
        cpu_s: processor time, all threads, user and system.
        round_trips: to the server, for load, commit, dispatch and receive, those included that found nothing.
        counts: what else is counted there.
    """

    number: int
    pid: int
    cpu_s: float
    round_trips: int
    counts: Mapping[str, int] = field(factory=dict)


def open_meter(bus: Bus, counts: Callable[[], Mapping[str, int]] = dict) -> None:
    """Have the workers of *bus* answer, one request at a time, so that each of them gets one.

    Args:
        counts: returns what else a worker counts.
    """
    desk = bus.endpoint(METER, batch=1, concurrency=1)

    @desk.consumer
    def read(m: ReadMeter, context: Context) -> None:
        context.reply(MeterRead(m.number, os.getpid(), cpu_s(), round_trips(bus), counts()))


def cpu_s() -> float:
    """Return the processor time of this process, all threads, user and system, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def round_trips(bus: Bus) -> int:
    """Return how many round trips *bus* has made in this process, over all connections of store and transport."""
    links: Sequence[Any] = [getattr(part, "link", None) for part in (bus.store, bus.transport)]
    return sum(link.round_trips for link in links if link is not None)


class Readings:
    """The answers. Thread-safe.

    Args:
        bus: the caller's own bus, which gets an endpoint for them.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._number = 0
        self._answers: dict[int, MeterRead] = {}
        self.endpoint = bus.endpoint(_READINGS)
        self.endpoint.consumer(self.read)

    def read(self, m: MeterRead) -> None:
        """Note an answer to the latest request; the first of each process counts."""
        with self._lock:
            if m.number == self._number:
                self._answers.setdefault(m.pid, m)

    def take(self, pids: Sequence[int], timeout_s: float = 30.0) -> list[MeterRead]:
        """Return a reading of each of *pids*.

        Raises:
            TimeoutError: some did not answer.
        """
        with self._lock:
            self._number += 1
            self._answers.clear()
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                missing = set(pids) - set(self._answers)
                if not missing:
                    return [self._answers[pid] for pid in pids]
            if time.monotonic() > deadline:
                raise TimeoutError(f"workers {sorted(missing)} did not answer within {timeout_s:g} s")
            with suppress(UnknownEndpointError):  # as long as no worker has come as far as declaring it
                self._bus.send_many([ReadMeter(self._number)] * len(missing), to=METER, reply_to=_READINGS)
            time.sleep(_PAUSE_S)
