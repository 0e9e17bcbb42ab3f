"""A million pending timers: how late due ones come, and what all cost other messages. `python -m benchmarks.timers`."""

from __future__ import annotations

import datetime
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import click
from attrs import define, field, frozen

from benchmarks import measure
from benchmarks.__main__ import machine, progress
from benchmarks.concurrency.page import NoPlaceError, rewrite
from benchmarks.listening import listening
from benchmarks.witness import Witness, WrongResultError
from sagabus import Bus, Context, SagabusError, message
from sagabus.envelope import encode, wrap
from sagabus.observe.log import configure
from sagabus.store.protocol import Bookkeeping, Scheduled
from sagabus.supervisor import Supervisor

PART: Final = "timers"
_FAR_MS: Final = 30 * 24 * 3_600_000
_LOADED_AT_ONCE: Final = 10_000
_STREAM_TURN_S: Final = 0.1
_AHEAD_MS: Final = 1000
_DRAIN_S: Final = 60.0


@message("benchmark.bell")
class Bell:
    """A timer that is measured.

    Attributes:
        due_ms: when it is due, ms since 1970, store's clock.
    """

    due_ms: int


class Clock:
    """Hears bells, and how late each came. Thread-safe.

    Args:
        bus: gets an endpoint for them.
    """

    def __init__(self, bus: Bus) -> None:
        self._lock = threading.Lock()
        self._late_ms: dict[str, float] = {}
        self.repeats = 0
        self.endpoint = bus.endpoint("bells")
        self.endpoint.consumer(self.rang)

    def rang(self, m: Bell, context: Context) -> None:
        """Enter a bell: from when it was due to when its consumer runs, another process and queue in between."""
        # The store is on this machine, so that its clock is ours.
        late_ms = time.time() * 1000 - m.due_ms
        with self._lock:
            self.repeats += context.message_id in self._late_ms
            self._late_ms.setdefault(context.message_id, late_ms)

    def take(self) -> list[float]:
        """Return how late the bells heard so far came, ms, and begin anew."""
        with self._lock:
            taken, self._late_ms = list(self._late_ms.values()), {}
            return taken


@frozen
class Cell:
    """One measurement on one side.

    Attributes:
        checks_per_s: credit checks decided a second, 8 messages or more each.
        late_ms: how late each bell came; none on the empty side.
    """

    checks_per_s: float
    late_ms: Sequence[float] = ()


@define
class Side:
    """A store with its workers, and who drives them. A context."""

    name: str
    bus: Bus
    witness: Witness
    clock: Clock
    workers: Supervisor
    _numbers: Iterator[int] = field(factory=itertools.count)
    _stack: ExitStack = field(factory=ExitStack)

    @classmethod
    def on(cls, folder: Path, name: str, processes: int) -> Side:
        """Return a side on an embedded Valkey of its own in *folder*."""
        bus = Bus(f"embedded:{folder / name}", namespace=name)
        environment = {
            "SAGABUS_STORE": bus.store_url,
            "SAGABUS_TRANSPORT": bus.transport_url,
            "BENCHMARK_NAMESPACE": name,
        }
        workers = Supervisor("benchmarks.app:bus", processes, options=["--log-level", "ERROR"], env=environment)
        return cls(name, bus, Witness(bus), Clock(bus), workers)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.bus)
        self._stack.enter_context(listening(self.bus, [self.witness.endpoint.name, self.clock.endpoint.name]))
        self._stack.enter_context(self.workers)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def load(self, count: int) -> float:
        """Have *count* messages wait for a time that is far, a second to the next, and return how long that took."""
        now_ms, _ = self.bus.store.next_due_ms()
        began_at = time.perf_counter()
        for first in range(0, count, _LOADED_AT_ONCE):
            numbers = range(first, min(first + _LOADED_AT_ONCE, count))
            items = [_bell(f"far-{number}", now_ms + _FAR_MS + 1000 * number) for number in numbers]
            self.bus.store.note(Bookkeeping(scheduled=tuple(items)))
        return time.perf_counter() - began_at

    def measure(self, checks: int, bells_per_s: int) -> Cell:
        """Have *checks* customers decided, while bells ring, if any.

        Raises:
            WrongResultError: a decision is missing, wrong or there twice, or a bell is missing.
        """
        customers = [f"{self.name}{next(self._numbers):09}" for _ in range(checks)]
        stop = threading.Event()
        sent: list[int] = []
        thread = threading.Thread(target=self._ring, args=(bells_per_s, stop, sent))
        began_at = time.perf_counter()
        if bells_per_s:
            thread.start()
        try:
            measure.decide(self.bus, self.witness, customers)
        finally:
            stop.set()
            if bells_per_s:
                thread.join()
        seconds = self.witness.last_at - began_at
        late_ms: list[float] = []
        give_up_at = time.perf_counter() + _DRAIN_S
        while len(late_ms) < sum(sent) or any(queue.depth for queue in self.bus.transport.queues()):
            late_ms += self.clock.take()
            if time.perf_counter() > give_up_at:
                raise WrongResultError(f"{sum(sent) - len(late_ms)} of {sum(sent)} timers did not come")
            time.sleep(0.02)
        return Cell(checks / seconds, late_ms)

    def _ring(self, per_s: int, stop: threading.Event, sent: list[int]) -> None:
        while not stop.is_set():
            now_ms, _ = self.bus.store.next_due_ms()
            count = max(1, round(per_s * _STREAM_TURN_S))
            step_ms = _STREAM_TURN_S * 1000 / count
            items = [
                _bell(f"near-{next(self._numbers)}", now_ms + _AHEAD_MS + round(n * step_ms)) for n in range(count)
            ]
            self.bus.store.note(Bookkeeping(scheduled=tuple(items)))
            sent.append(count)
            stop.wait(_STREAM_TURN_S)


def _bell(id_: str, due_ms: int) -> Scheduled:
    return Scheduled(id_, "bells", encode(wrap(Bell(due_ms), id=id_, source="/benchmark", now_ms=due_ms)), due_ms)


@frozen
class Result:
    """Both sides, a cell a round each, measured by turns."""

    timers: int
    load_s: float
    bytes_a_timer: float
    empty: Sequence[Cell]
    full: Sequence[Cell]
    repeats: int

    @property
    def ratio(self) -> float:
        """Return the throughput with the timers as a share of that without: the median over the rounds."""
        return statistics.median(b.checks_per_s / a.checks_per_s for a, b in zip(self.empty, self.full, strict=True))

    @property
    def late_ms(self) -> list[float]:
        """Return how late all bells came, sorted."""
        return sorted(late for cell in self.full for late in cell.late_ms)


def run(folder: Path, timers: int, checks: int, rounds: int, bells_per_s: int, processes: int) -> Result:
    """Measure both sides by turns, the first one changing every round."""
    with Side.on(folder, "empty", processes) as empty, Side.on(folder, "full", processes) as full:
        progress(f"loading {timers:,} timers")
        before = _used(full.bus)
        load_s = full.load(timers)
        bytes_a_timer = (_used(full.bus) - before) / timers
        for side in (empty, full):
            side.measure(checks, 0)  # a first one, which nobody counts: workers start, caches fill
        cells: dict[str, list[Cell]] = {"empty": [], "full": []}
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for side in (empty, full) if number % 2 else (full, empty):
                cells[side.name].append(side.measure(checks, bells_per_s if side is full else 0))
        return Result(timers, load_s, bytes_a_timer, cells["empty"], cells["full"], full.clock.repeats)


def _used(bus: Bus) -> int:
    link: Any = bus.store.link  # type: ignore[attr-defined]
    info = dict(line.split(":", 1) for line in link.on_node("", "INFO", "memory").decode().split("\r\n") if ":" in line)
    return int(info["used_memory"])


def report(result: Result, bells_per_s: int, checks: int) -> str:
    """Return the result, Markdown."""
    late = result.late_ms
    empty = statistics.median(cell.checks_per_s for cell in result.empty)
    full = statistics.median(cell.checks_per_s for cell in result.full)
    p99 = late[max(0, round(len(late) * 0.99) - 1)]
    ratios = sorted(b.checks_per_s / a.checks_per_s for a, b in zip(result.empty, result.full, strict=True))
    return f"""| {result.timers:,} timers pending, {bells_per_s} more due every second | |
| --- | ---: |
| a due one comes late by, median of {len(late):,} | {statistics.median(late):.0f} ms |
| 99th percentile; the worst | {p99:.0f} ms; {late[-1]:.0f} ms |
| came twice | {result.repeats} |
| credit checks a second, no timer at all | {empty:,.0f} |
| credit checks a second, with all of them | {full:,.0f} |
| the second as a share of the first, median of {len(ratios)} rounds of {checks:,} checks | {result.ratio:.1%} |
| the lowest and the highest round | {ratios[0]:.1%}, {ratios[-1]:.1%} |
| one timer takes, in the store | {result.bytes_a_timer:.0f} bytes |
| loading them | {result.timers / result.load_s:,.0f} a second |"""


@click.command()
@click.option("--timers", type=click.IntRange(1), default=1_000_000, show_default=True, help="Pending, and far.")
@click.option("--bells-per-s", type=click.IntRange(1), default=100, show_default=True, help="Due ones beside them.")
@click.option("--checks", type=click.IntRange(100), default=5_000, show_default=True, help="Of each cell.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Both sides, by turns.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Worker processes a side.")
@click.option("--write", type=click.Path(path_type=Path, file_okay=False, exists=True), help="The docs/ to write into.")
def main(timers: int, bells_per_s: int, checks: int, rounds: int, processes: int, write: Path | None) -> None:
    """Measure how late timers come while a million others are pending, and what all of them cost other messages.

    Two embedded stores with workers of their own, measured by turns: one with no timers at all, one with all of them.
    """
    configure(level="ERROR")
    try:
        with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
            with Bus(f"embedded:{folder}/place") as holder:
                place = machine(holder)
            result = run(Path(folder), timers, checks, rounds, bells_per_s, processes)
        text = report(result, bells_per_s, checks)
        click.echo(text)
        if write is not None:
            today = datetime.datetime.now(datetime.UTC).date()
            how = (
                f"`make bench-timers` on {today:%Y-%m-%d}: {processes} worker processes, {place['cores']} cores "
                f"({place['processor']}) for workers, store and driver; {place['server']} with AOF, Python "
                f"{place['python']}, sagabus {place['sagabus']}."
            )
            rewrite(write / "capacity.md", PART, f"{how}\n\n{text}")
    except (SagabusError, TimeoutError, NoPlaceError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
