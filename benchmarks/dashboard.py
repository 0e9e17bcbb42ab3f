"""How fast the dashboard's pages are with many sagas, and what it costs workers to have it open.

`python -m benchmarks.dashboard`; with `--write docs` the figures go into docs/dashboard.md. Linux only, as the load of
each process is read from /proc.
"""

from __future__ import annotations

import datetime
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from attrs import frozen

from benchmarks.concurrency.page import NoPlaceError, rewrite
from benchmarks.peers import course
from benchmarks.peers.__main__ import place_of, server
from benchmarks.peers.alone import store_live
from benchmarks.peers.course import Pace
from benchmarks.peers.ours import APP, Ours
from examples.credit_check.messages import CheckCredit, ScoreReported
from examples.credit_check.saga import CreditCheck
from sagabus import Bus, SagabusError
from sagabus.advance import advance
from sagabus.commit import Want
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming, SagaKey, encode, wrap
from sagabus.observe.log import configure
from sagabus.store.protocol import Bookkeeping, DeadLetter, Store

PART: Final = "dashboard"
TARGET_MS: Final = 300
TARGET_LOSS: Final = 0.05
_FORKED: Final = 1_000
_LETTERS: Final = 10_000
_T_95: Final = {5: 2.015, 10: 1.833, 20: 1.729}
"""One-sided 95% quantiles of Student's t distribution, by the number of pairs."""
_OPEN_S: Final = 30.0


@frozen
class Page:
    """How long one page takes, ms."""

    name: str
    path: str
    p50_ms: float
    p95_ms: float
    bytes: int


@frozen
class Loss:
    """What workers lose while the dashboard is open: shares of their checks a second.

    Attributes:
        pairs: with and without, checks a second.
        mean: the mean loss.
        upper: the upper bound of a one-sided 95% confidence interval for it.
    """

    pairs: tuple[tuple[float, float], ...]
    mean: float
    upper: float


# -- what there is to look at ------------------------------------------------------------------------------------


def furnish(url: str, client: Any, namespace: str, number: int) -> None:
    """Store so many live sagas, some with siblings, some completed, and dead letters for three errors."""
    store_live(url, client, namespace, number)
    with Bus(url, url, namespace=namespace) as bus:
        bus.endpoint("credit", CreditCheck)
        bus.transport.queues()
        definition = bus.saga("CreditCheck")
        assert definition is not None
        for number in range(_FORKED):
            _fork(bus.store, definition, SagaKey("CreditCheck", f"forked{number:06}"))
        now_ms = time.time_ns() // 1_000_000
        errors = ("ValueError: no such customer", "TimeoutError: the register did not answer", "KeyError: 'limit'")
        for first in range(0, _LETTERS, 500):
            letters = tuple(_letter(n, errors[n % 3], now_ms - n) for n in range(first, first + 500))
            bus.store.note(Bookkeeping(buried=letters))
        bus.store.index.rebuild()


def _fork(store: Store, definition: SagaDefinition, key: SagaKey) -> None:
    def scored(bureau: str, score: int) -> Incoming:
        envelope = wrap(ScoreReported(bureau, score), id=f"{key.id}-{bureau}", source=f"/{bureau}", now_ms=0)
        return Incoming(msgspec.structs.replace(envelope, saga=str(key), sagalife=1))

    def read() -> Any:
        (snapshot,) = store.load([Want(key)])
        return snapshot

    begin = Incoming(wrap(CheckCredit(customer=key.id), id=key.id, source="/client", now_ms=0))
    store.commit([advance(definition, read(), [begin])], by="a")
    begun = read()
    for by, bureau in (("a", "equifax"), ("b", "experian")):
        store.commit([advance(definition, begun, [scored(bureau, 700)])], by=by)


def _letter(number: int, error: str, at_ms: int) -> DeadLetter:
    body = encode(wrap(CheckCredit(customer=f"d{number}"), id=f"d{number}", source="/client", now_ms=at_ms))
    return DeadLetter(f"d{number}", "credit", "failed", error, "", 5, at_ms, body, "credit.check")


# -- a dashboard of one's own ------------------------------------------------------------------------------------


class Visitor:
    """Somebody with the token, who keeps the cookie."""

    def __init__(self, address: str) -> None:
        self.origin = address.partition("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self._opener.open(address, timeout=_OPEN_S).read()

    def get(self, path: str) -> bytes:
        """Return what is at *path*."""
        try:
            with self._opener.open(self.origin + path, timeout=_OPEN_S) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            said = re.sub("<[^>]*>|\\s+", " ", error.read().decode())
            raise SagabusError(f"{path}: {error.code}: {said[-300:]}") from error

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have the overview open until the block is left: what it is told is read in a thread."""
        answer = self._opener.open(self.origin + "/live", timeout=_OPEN_S)

        def read() -> None:
            try:
                while answer.readline():
                    pass
            except (OSError, ValueError, AttributeError):
                return  # closed below, in the middle of a line

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            answer.close()


@contextmanager
def dashboard(url: str, namespace: str) -> Iterator[Visitor]:
    """Run `sagabus dashboard` until the block is left; yield somebody who may look."""
    environment = {"SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url, "PEERS_NAMESPACE": namespace}
    process = subprocess.Popen(
        [sys.executable, "-m", "sagabus", "dashboard", APP, "--port", "0"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Visitor(process.stdout.readline().rpartition(" ")[2].strip())
    finally:
        process.terminate()
        process.wait(_OPEN_S)


# -- measured ----------------------------------------------------------------------------------------------------


def pages(visitor: Visitor, times: int) -> list[Page]:
    """Return how long each page takes."""
    more = re.search(rb'hx-get="(/sagas\?[^"]*cursor=[^"]*)"', visitor.get("/sagas"))
    group = re.search(rb'href="(/failures/group\?[^"]*)"', visitor.get("/failures"))
    saga = "/saga?key=CreditCheck/forked000001"
    commit = re.search(rb'hx-get="(/saga/commit\?[^"]*)"', visitor.get(saga))
    asked = {
        "overview": "/",
        "sagas": "/sagas",
        "sagas, the next page": more[1].decode().replace("&amp;", "&") if more else "/sagas",
        "sagas with siblings": "/sagas?state=forked",
        "sagas of a class, older than an hour": "/sagas?name=CreditCheck&state=live&age=3600",
        "completed sagas": "/sagas?state=completed",
        "sagas by the beginning of an id": "/sagas?q=stored000500",
        "one saga": saga,
        "one commit of it": commit[1].decode().replace("&amp;", "&") if commit else saga,
        "its merge view": "/saga/merge-view?key=CreditCheck/forked000001",
        "what-if": "/saga/what-if?key=CreditCheck/forked000001",
        "as a test": "/saga/test?key=CreditCheck/forked000001",
        "failures": "/failures",
        "one group of failures": group[1].decode().replace("&amp;", "&") if group else "/failures",
        "endpoints": "/endpoints",
        "timers": "/timers",
        "workers": "/workers",
        "audit": "/audit",
    }
    found = []
    for name, path in asked.items():
        took: list[float] = []
        size = 0
        for _ in range(times):
            began = time.perf_counter()
            size = len(visitor.get(path))
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        found.append(Page(name, path, statistics.median(took), took[round(0.95 * (len(took) - 1))], size))
    return found


def loss(url: str, folder: Path, client: Any, pairs: int, seconds: float) -> Loss:
    """Run the credit check with the dashboard open and without, in turns, the first one first every other time."""
    pace = Pace(warm_s=1.0, measured_s=seconds)
    with Ours().running(url, folder) as running, dashboard(url, running.namespace) as visitor:
        names = course.new_names()
        course.throughput(running, client, names, pace)

        def run(is_open: bool) -> float:
            if not is_open:
                return course.throughput(running, client, names, pace).checks_per_s
            with visitor.watching():
                return course.throughput(running, client, names, pace).checks_per_s

        found = []
        for number in range(pairs):
            order = (True, False) if number % 2 else (False, True)
            rates = {is_open: run(is_open) for is_open in order}
            found.append((rates[True], rates[False]))
    losses = [1 - with_it / without for with_it, without in found]
    mean = statistics.mean(losses)
    spread = statistics.stdev(losses) / len(losses) ** 0.5
    return Loss(tuple(found), mean, mean + _T_95[pairs] * spread)


def table(found: list[Page], lost: Loss | None, stored: int, place: Mapping[str, Any], command: str) -> str:
    """Return the figures as Markdown."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    where = f"{place['cores']} cores, {place['processor']}"
    lines = [f"{today}, {where}; `{command}`: {stored:,} live sagas, {_FORKED:,} of them with siblings.", ""]
    lines += ["| page | p50, ms | p95, ms | kB |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {p.name} | {p.p50_ms:.0f} | {p.p95_ms:.0f} | {p.bytes / 1000:.0f} |" for p in found]
    if lost is not None:
        pairs = ", ".join(f"{with_it:,.0f}/{without:,.0f}" for with_it, without in lost.pairs)
        lines += [
            "",
            f"With the overview open workers did {lost.mean:.1%} fewer checks a second than without; with 95% "
            f"confidence less than {lost.upper:.1%} ({len(lost.pairs)} interleaved pairs, checks a second with and "
            f"without: {pairs}).",
        ]
    return "\n".join(lines)


@click.command()
@click.option("--sagas", type=click.IntRange(1), default=1_000_000, show_default=True, help="How many are stored.")
@click.option("--times", type=click.IntRange(3), default=20, show_default=True, help="How often a page is asked for.")
@click.option("--pairs", type=click.Choice(["0", "5", "10", "20"]), default="10", show_default=True, help="Of runs.")
@click.option("--seconds", type=float, default=8.0, show_default=True, help="How long each run is measured.")
@click.option("--write", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where dashboard.md is.")
def main(sagas: int, times: int, pairs: str, seconds: float, folder: Path | None) -> None:
    """Measure the pages of the dashboard with many sagas stored, and what it costs to have it open."""
    configure(level="ERROR")
    command = f"python -m benchmarks.dashboard --sagas {sagas} --times {times} --pairs {pairs} --seconds {seconds:g}"
    lost, place = None, {}
    try:
        with server() as (url, _, client):
            click.echo(f"storing {sagas:,} sagas", err=True)
            place = place_of(url)
            furnish(url, client, "dashboard", sagas)
            click.echo("looking at pages", err=True)
            with dashboard(url, "dashboard") as visitor:
                found = pages(visitor, times)
        if int(pairs):
            click.echo("with and without", err=True)
            with server() as (url, run_folder, client):
                lost = loss(url, run_folder, client, int(pairs), seconds)
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    text = table(found, lost, sagas, place, command)
    click.echo(text)
    if folder is not None:
        try:
            rewrite(folder / "dashboard.md", PART, text)
        except NoPlaceError as error:
            raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
