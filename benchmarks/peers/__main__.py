"""Run it: `python -m benchmarks.peers --help`. Each peer runs on a private server of its own, one after the other."""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import redis

from benchmarks.__main__ import machine, progress
from benchmarks.peers import alone as by_itself
from benchmarks.peers import course, page, table
from benchmarks.peers.alone import MANY
from benchmarks.peers.celery_chord import Celery
from benchmarks.peers.course import Pace
from benchmarks.peers.dbos_steps import Dbos
from benchmarks.peers.dramatiq_group import Dramatiq
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import MissingError, Peer
from benchmarks.peers.restate_object import Restate
from benchmarks.peers.streams import ByHand
from benchmarks.peers.taskiq_watch import Taskiq
from benchmarks.server import Server
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure

PEERS: dict[str, Peer] = {
    "sagabus": Ours(),
    "batch": ByHand("by hand, bare: a pipeline a batch", "atomic state", "batch"),
    "script": ByHand("by hand: a Lua script a reply", "atomic state and ack", "script"),
    "watch": ByHand("by hand: WATCH and MULTI", "atomic state and ack", "watch"),
    "dramatiq": Dramatiq(),
    "restate": Restate(),
    "taskiq": Taskiq(),
    "celery": Celery(),
    "dbos": Dbos(),
}
USUAL = ("sagabus", "batch", "script", "watch", "dramatiq", "restate")
"""Those that run where none is named."""


@click.command()
@click.option("--peer", "names", multiple=True, type=click.Choice(list(PEERS)), help="Only this one; may be repeated.")
@click.option("--all", "every", is_flag=True, help=f"Not only {', '.join(USUAL)}, but all that are installed.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Medians are taken over them.")
@click.option("--seconds", type=click.FloatRange(0.5), default=8.0, show_default=True, help="Of throughput, each run.")
@click.option("--checks", type=click.IntRange(1), default=150, show_default=True, help="For latency, each run.")
@click.option("--width", "widths", type=click.IntRange(4), multiple=True, help="Replies to a hot check; repeatable.")
@click.option("--alone", is_flag=True, help="Measure more of sagabus: processes, stored sagas, starts, rest.")
@click.option("--stored", type=click.IntRange(2_000), default=MANY, show_default=True, help="Sagas, with --alone.")
@click.option(
    "--write", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Put all into this folder."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def main(
    names: tuple[str, ...],
    every: bool,
    runs: int,
    seconds: float,
    checks: int,
    widths: tuple[int, ...],
    alone: bool,
    stored: int,
    write: Path | None,
    as_json: bool,
) -> None:
    """Run the credit check by several tools on this machine, each on a server of its own with the same settings.

    Peers take turns, run by run, so that what else the machine does counts for all. Every decision is verified.
    """
    configure(level="ERROR")
    pace = Pace(warm_s=min(2.0, seconds), measured_s=seconds, checks=checks, widths=widths or Pace().widths, runs=runs)
    try:
        if write is not None:
            page.require()
        chosen = ready(names or (PEERS if every else USUAL), names)
        place, figures = measure(chosen, pace)
        report = partial(_report, chosen, place, figures, write)
        text, whole = report(None)
        if alone:
            text, whole = report(by_itself.figures(server, pace, stored, progress))
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(whole))
    else:
        sys.stdout.write(text)


def _report(
    peers: Mapping[str, Peer],
    place: Mapping[str, Any],
    figures: Mapping[str, Any],
    write: Path | None,
    alone: Mapping[str, Any] | None,
) -> tuple[str, dict[str, Any]]:
    """Return what was measured, as text and as data, and put it where it is to be written."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = table.rendered(figures, {name: peer.keeps for name, peer in peers.items()}, place, today, alone)
    whole = {"date": today, **place, "peers": figures, "ratios": table.ratios(figures), "alone": alone}
    if write is not None:
        page.write(write, text, whole)
    return text, whole


def ready(wanted: Iterable[str], named: Collection[str]) -> dict[str, Peer]:
    """Return those of *wanted* that can run here; who cannot is skipped, and stderr says why.

    Raises:
        MissingError: one that was *named* cannot.
    """
    found: dict[str, Peer] = {}
    for name in wanted:
        try:
            PEERS[name].ready()
        except MissingError as error:
            if name in named:
                raise
            click.echo(f"skipped: {error}", err=True)
        else:
            found[name] = PEERS[name]
    return found


def measure(peers: dict[str, Peer], pace: Pace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what it was measured on, and the figures of each peer: medians over the runs, and all runs."""
    place: dict[str, Any] = {}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    for number in range(pace.runs):
        for name, peer in peers.items():
            progress(f"{peer.name}, run {number + 1} of {pace.runs}")
            with server() as (url, folder, client):
                place = place or place_of(url)
                runs[name].append(one_run(peer, url, folder, client, pace))
    return place, {name: table.summary(peers[name].name, found) for name, found in runs.items()}


def place_of(url: str) -> dict[str, Any]:
    """Return what the figures are measured on."""
    with Bus(url, url) as bus:
        return machine(bus)


def one_run(peer: Peer, url: str, folder: Path, client: Any, pace: Pace) -> dict[str, Any]:
    """Return the figures of one run of one peer."""
    names = course.new_names()
    with peer.running(url, folder) as running:
        course.latency(running, names, 5)  # until everybody is awake
        wait = course.latency(running, names, pace.checks)
        rate = course.quiet(lambda: course.throughput(running, client, names, pace))
        widths = {width: median(course.hot_often(running, names, width, pace)) for width in pace.widths}
    return table.figures_of(rate, wait, widths)


@contextmanager
def server() -> Iterator[tuple[str, Path, Any]]:
    """Run a private server with an append-only file, synced every second, as all peers get it."""
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        server = Server(Path(folder), appendfsync="everysec")
        server.start()
        try:
            with redis.Redis.from_url(server.url, protocol=2) as client:
                yield server.url, Path(folder), client
        finally:
            server.close()


if __name__ == "__main__":
    main()
