"""What finding sagas costs where there are a million of them. `python -m benchmarks.index`."""

from __future__ import annotations

import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from attrs import frozen

from benchmarks.__main__ import machine, progress
from benchmarks.concurrency.page import NoPlaceError, rewrite
from sagabus import Bus, SagabusError
from sagabus.commit import Commit, Half, Lifecycle, Want
from sagabus.envelope import SagaKey
from sagabus.health.gather import gather
from sagabus.index.query import SagaQuery
from sagabus.observe.log import configure
from sagabus.store.protocol import Store

PART: Final = "index"
_WAVE: Final = 500
_NAMES: Final = ("CreditCheck", "Order", "Parcel", "Refund")
_LIVE_EVERY: Final = 10
_FORKED_EVERY: Final = 1000
_PAGE: Final = 50
_STATE: Final = b'{"scores":{"equifax":720,"experian":690}}'


@frozen
class Row:
    """What one question costs.

    Attributes:
        name: the question.
        median_ms, worst_ms: of the answers.
        rows: in the last answer.
    """

    name: str
    median_ms: float
    worst_ms: float
    rows: int


# -- what is stored ------------------------------------------------------------------------------------------------


def fill(store: Store, count: int) -> None:
    """Store *count* sagas: one of ten live, one of a thousand with siblings, the others completed."""
    for first in range(0, count, _WAVE):
        numbers = range(first, min(first + _WAVE, count))
        keys = [SagaKey(_NAMES[n % len(_NAMES)], f"C{n:09}") for n in numbers]
        snapshots = store.load([Want(key) for key in keys])
        commits = []
        for number, snapshot in zip(numbers, snapshots, strict=True):
            ends = bool(number % _LIVE_EVERY)
            commits.append(
                Commit(snapshot.key, ("m1",), begins_life=True, facts=Half(_STATE), starter=b"s", completes=ends)
            )
        store.commit(commits, by="bench")
        again = [key for number, key in zip(numbers, keys, strict=True) if number % _FORKED_EVERY == 0]
        # Written from nothing: a first write that raced the one before.
        store.commit([Commit(key, ("m2",), begins_life=True, facts=Half(_STATE + b" ")) for key in again], by="bench")
        if first % 100_000 == 0:
            progress(f"{first:,} sagas stored")


# -- what is asked -------------------------------------------------------------------------------------------------


def questions(store: Store, count: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield each question, and what asks it once and returns how many rows came."""
    index = store.index
    now_ms, _ = store.next_due_ms()

    def page(query: SagaQuery, pages: int = 1) -> Callable[[], int]:
        """Return what asks for one page, the last of so many."""
        cursor = ""
        for _ in range(pages - 1):
            cursor = index.find(query, 500, cursor).cursor
        return lambda: len(index.find(query, _PAGE, cursor).rows)

    live, completed = Lifecycle.LIVE, Lifecycle.COMPLETED
    middle = index.find(SagaQuery(lifecycle=live), 500).rows[-1].started_ms
    last = f"C{count - 1:09}"
    yield "the first page: no filter", page(SagaQuery())
    yield "live", page(SagaQuery(lifecycle=live))
    yield "completed", page(SagaQuery(lifecycle=completed))
    yield "of one class", page(SagaQuery("Order"))
    yield "of two classes, completed", page(SagaQuery(("Order", "Refund"), completed))
    yield "with siblings", page(SagaQuery(forked=True))
    yield "of one class, with siblings", page(SagaQuery(_NAMES[0], forked=True))
    yield "begun before a moment", page(SagaQuery(started_before_ms=middle))
    yield (
        "completed, and begun before a moment that few were",
        page(SagaQuery(lifecycle=completed, started_before_ms=middle)),
    )
    yield (
        "completed, and begun before a moment that all were",
        page(SagaQuery(lifecycle=completed, started_before_ms=now_ms)),
    )
    yield "page 200: no filter, behind 100,000 rows", page(SagaQuery(), 200)
    yield "an id that begins as one of a thousand does", page(SagaQuery(id_prefix=last[:-3]))
    yield "an id that begins as all do", page(SagaQuery(id_prefix="C"))
    yield f"an id that begins as none does: one call of about {_calls(index)}", page(SagaQuery(id_prefix="none"))
    yield "one id, of any class", page(SagaQuery(id=last))
    yield "a page of 500", lambda: len(index.find(SagaQuery(), 500).rows)
    yield "counts of all classes", lambda: len(index.counts())
    yield "how many have siblings, and since when", lambda: index.forked().count


def _calls(index: Any) -> int:
    cursor, calls = "", 0
    while True:
        cursor, calls = index.find(SagaQuery(id_prefix="none"), _PAGE, cursor).cursor, calls + 1
        if not cursor:
            return calls


def measured(name: str, ask: Callable[[], int], times: int) -> Row:
    """Return what one question costs."""
    took = []
    rows = 0
    for _ in range(times):
        at = time.perf_counter()
        rows = ask()
        took.append((time.perf_counter() - at) * 1000)
    return Row(name, statistics.median(took), max(took), rows)


def _timed(what: Callable[[], Any]) -> float:
    at = time.perf_counter()
    what()
    return time.perf_counter() - at


@contextmanager
def _bus(folder: Path) -> Iterator[Bus]:
    with Bus(f"embedded:{folder / 'store'}", namespace="index") as bus:
        yield bus


def _weight(bus: Bus) -> int:
    """Return what the keys of the index take, bytes."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    return sum(
        int(link.on_node("", "MEMORY", "USAGE", key, "SAMPLES", "1000"))
        for page in link.scan("index:{index:index*")
        for key in page
    )


def _slowest_us(bus: Bus) -> int:
    """Return how long the longest command took that the server has noted, us."""
    link: Any = bus.store.link  # type: ignore[attr-defined]
    return max((int(entry[2]) for entry in link.on_node("", "SLOWLOG", "GET", "128")), default=0)


def table(rows: list[Row], more: Mapping[str, str]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| a page of 50, unless it says otherwise | median, ms | worst, ms | rows |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [f"| {row.name} | {row.median_ms:.1f} | {row.worst_ms:.1f} | {row.rows} |" for row in rows]
    lines += ["", "| | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in more.items())]
    return "\n".join(lines)


@click.command()
@click.option("--sagas", type=click.IntRange(5000), default=1_000_000, show_default=True, help="How many are stored.")
@click.option(
    "--times", type=click.IntRange(1), default=30, show_default=True, help="How often each question is asked."
)
@click.option("--write", type=click.Path(path_type=Path, file_okay=False), help="Put the figures into a page there.")
def main(sagas: int, times: int, write: Path | None) -> None:
    """Measure how long pages of the index take, and what a rebuild of it does."""
    configure(level="CRITICAL")
    try:
        with tempfile.TemporaryDirectory(prefix="sagabus-") as folder, _bus(Path(folder)) as bus:
            link: Any = bus.store.link  # type: ignore[attr-defined]
            stored_s = _timed(lambda: fill(bus.store, sagas))
            link.on_node("", "CONFIG", "SET", "slowlog-log-slower-than", "1000")
            link.on_node("", "SLOWLOG", "RESET")
            rows = []
            for name, ask in questions(bus.store, sagas):
                progress(name)
                rows.append(measured(name, ask, times))
            slowest_us = _slowest_us(bus)
            checked_s = _timed(lambda: gather(bus, 1000))
            weight = _weight(bus)
            for page in link.scan("index:{index:index*"):
                for key in page:
                    link.on_node("", "UNLINK", key)
            rebuilt_s = _timed(bus.store.index.rebuild)
            more = {
                "the longest that one command of these kept the server": f"{slowest_us / 1000:.1f} ms"
                if slowest_us
                else "under 1 ms",
                "one saga takes in the index": f"{weight / sagas:.0f} bytes",
                "rebuild of the whole index": f"{rebuilt_s:.0f} s",
                "`sagabus doctor`, a thousand sagas looked at": f"{checked_s:.1f} s",
            }
            text = table(rows, more)
            click.echo(f"{text}\n\nstored in {stored_s:.0f} s")
            if write is not None:
                place = machine(bus)
                today = datetime.datetime.now(datetime.UTC).date()
                how = f"`make bench-index` on {today:%Y-%m-%d}: {sagas:,} sagas of {len(_NAMES)} classes, "
                how += f"one of ten live, one of a thousand with siblings; {place['server']} on the same machine "
                how += f"({place['cores']} cores, {place['processor']}), sagabus {place['sagabus']}."
                rewrite(write / "operations.md", PART, f"{how}\n\n{text}")
    except (SagabusError, NoPlaceError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
