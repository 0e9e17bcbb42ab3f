"""The course that every peer runs: many checks at once, one at a time, and all replies to one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, Final

from attrs import frozen

from benchmarks.peers.load import Mark, Usage
from benchmarks.peers.peer import Running
from benchmarks.peers.task import BUREAUS, HOT, until

REPLIES: Final = len(BUREAUS)
QUIET_CORES: Final = 0.2
"""A measurement during which others used more than this is made once more."""
_CHUNK: Final = 50
_GAP_S: Final = 0.05
_UNCOUNTED: Final = 20


@frozen
class Pace:
    """How long everything is measured.

    Attributes:
        warm_s, measured_s: of throughput, seconds.
        checks: for latency.
        widths: of hot checks.
        hot_runs: of each width, at least.
        hot_s: for so long each width is tried, and on until it was often enough, seconds.
        runs: of everything, one after the other; medians count.
    """

    warm_s: float = 2.0
    measured_s: float = 8.0
    checks: int = 150
    widths: tuple[int, ...] = (10, 100, 1000)
    hot_runs: int = 3
    hot_s: float = 1.5
    runs: int = 3


@frozen
class Rate:
    """Throughput: completed checks a second, and who used how many cores for it."""

    checks_per_s: float
    usage: Usage

    @property
    def noisy(self) -> bool:
        """Return whether others used the machine too."""
        return self.usage.others > QUIET_CORES


@frozen
class Wait:
    """Latency at low load, milliseconds: from before the sending to the decision."""

    p50_ms: float
    p99_ms: float


def throughput(running: Running, client: Any, names: Iterator[str], pace: Pace) -> Rate:
    """Keep as many checks under way as suits the peer, and count those decided within the measured time.

    Raises:
        UndoneError: a decision is missing, wrong, or there twice.
    """
    books, sent = running.books, 0
    began_at = time.perf_counter()
    first: Mark | None = None
    done_first = 0
    while True:
        done = books.done()
        now = time.perf_counter()
        if first is None and now - began_at >= pace.warm_s:
            first, done_first = Mark.now(running.pids, client, running.servers), books.done()
        if first is not None and now - first.at >= pace.measured_s:
            last, done_last = Mark.now(running.pids, client, running.servers), books.done()
            break
        room = running.window - (sent - done)
        if room >= min(_CHUNK, running.window // 2):
            checks = list(islice(names, min(room, 10 * _CHUNK)))
            running.start(checks, REPLIES)
            sent += len(checks)
        else:
            time.sleep(0.004)
    until(books, sent)
    books.close(sent)
    usage = first.until(last)
    return Rate((done_last - done_first) / usage.seconds, usage)


def quiet(measure: Callable[[], Rate]) -> Rate:
    """Measure, and once more where others used the machine meanwhile; return the quieter of both."""
    found = measure()
    return min(found, measure(), key=lambda rate: rate.usage.others) if found.noisy else found


def latency(running: Running, names: Iterator[str], checks: int) -> Wait:
    """Start one check at a time, twenty a second.

    Raises:
        UndoneError: a decision is missing, wrong, or there twice.
    """
    sent: dict[str, float] = {}
    for check in islice(names, checks + _UNCOUNTED):
        sent[check] = time.time()
        running.start([check], REPLIES)
        time.sleep(max(sent[check] + _GAP_S - time.time(), 0.0))
    until(running.books, len(sent))
    counted = list(sent)[_UNCOUNTED:]
    times = running.books.times(counted)
    taken = sorted((at - sent[check]) * 1000 for check, at in zip(counted, times, strict=True))
    running.books.close(len(sent))
    return Wait(statistics.median(taken), taken[round(0.99 * (len(taken) - 1))])


def hot(running: Running, names: Iterator[str], width: int) -> float:
    """Return the time a reply takes when *width* replies go to one check, microseconds.

    From before the sending of the start to the decision on all scores.

    Raises:
        UndoneError: there was none, or more than one.
    """
    check = f"{HOT}{next(names)}"
    began_at = time.time()
    running.start([check], width)
    until(running.books, 1)
    (decided_at,) = running.books.times([check])
    running.books.close(1)
    return (decided_at - began_at) / width * 1e6


def hot_often(running: Running, names: Iterator[str], width: int, pace: Pace) -> list[float]:
    """Return what `hot` does, again and again: where it is quick one run says little."""
    began_at = time.monotonic()
    times: list[float] = []
    while len(times) < pace.hot_runs or time.monotonic() - began_at < pace.hot_s:
        times.append(hot(running, names, width))
    return times


def new_names() -> Iterator[str]:
    """Yield the names of customers, none twice."""
    return (f"c{number:08}" for number in count())
