"""Run it: `python -m benchmarks.concurrency --help`."""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click

from benchmarks.__main__ import machine, progress
from benchmarks.concurrency import figure, page, report
from benchmarks.concurrency.app import WAYS
from benchmarks.concurrency.cells import Cell, Fleet, Options
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure

PART: Final = "concurrency"
REPLIES: Final = (10, 100, 1000)


@click.command()
@click.option("--replies", "-n", type=click.IntRange(2), multiple=True, help="How many, to one saga. [10, 100, 1000]")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of each cell; medians count.")
@click.option("--processes", type=click.IntRange(2), default=4, show_default=True, help="Worker processes.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Messages a worker takes at once.")
@click.option("--cap-s", type=click.FloatRange(1), default=60.0, show_default=True, help="When a cell is given up.")
@click.option("--write", type=click.Path(path_type=Path, file_okay=False, exists=True), help="The docs/ to write into.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def main(
    replies: tuple[int, ...], rounds: int, processes: int, batch: int, cap_s: float, write: Path | None, as_json: bool
) -> None:
    """Compare three ways to cope with many replies to one saga: merged, run again, and one at a time under a lease.

    On worker processes and an embedded Valkey of its own. Whether each reply was handled is looked at in every cell.
    """
    configure(level="CRITICAL")
    try:
        if write is not None:
            figure.require()
        with tempfile.TemporaryDirectory(prefix="sagabus-") as folder, Bus(f"embedded:{folder}/store") as holder:
            holder.store.open()
            place = machine(holder)
            cells = list(measure(holder.store_url, Options(processes, batch, cap_s), replies or REPLIES, rounds))
        medians = medians_of(cells)
        how = {"rounds": rounds, "processes": processes, "batch": batch, "cap_s": cap_s, **place}
        if as_json:
            click.echo(json.dumps({**how, "cells": [attrs.asdict(cell) for cell in medians]}))
        else:
            click.echo(f"{report.table(medians)}\n\n{report.ratios(medians)}\n\n{report.plot(medians)}")
            click.echo(f"\n{conditions(how)}")
        if write is not None:
            publish(write, medians, cells, how)
    except (SagabusError, TimeoutError, figure.NoPlotterError, page.NoPlaceError) as error:
        raise click.ClickException(str(error)) from error


def measure(url: str, options: Options, replies: Sequence[int], rounds: int) -> Iterator[Cell]:
    """Yield every cell of every round; the ways take turns, so that none of them has the quiet hour."""
    fleet = Fleet(url, options)
    capped = False
    try:
        for number in range(rounds):
            for count in sorted(replies):
                for way in WAYS:
                    if capped:
                        # What is still under way there would get in the way of the next cell.
                        fleet.close(at_once=True)
                        fleet = Fleet(url, options)
                    progress(f"round {number + 1} of {rounds}: {count:,} replies, {way}")
                    cell = fleet.measure(way, count)
                    capped = cell.capped
                    if capped:
                        click.echo(f"{way}, {count:,} replies: given up after {options.cap_s:g} s", err=True)
                    yield cell
    finally:
        fleet.close(at_once=capped or sys.exc_info()[0] is not None)


def medians_of(cells: Sequence[Cell]) -> list[Cell]:
    """Return one cell for all rounds of it, in the order measured."""
    kinds = dict.fromkeys((cell.way, cell.replies) for cell in cells)
    return [Cell.median([cell for cell in cells if (cell.way, cell.replies) == kind]) for kind in kinds]


def conditions(how: dict[str, Any]) -> str:
    """Return how it was measured, in a sentence or two."""
    rounds = "one round" if how["rounds"] == 1 else f"medians of {how['rounds']} rounds, interleaved"
    return (
        f"{how['processes']} worker processes that take {how['batch']} messages at once; {rounds}; a cell is given up "
        f"after {how['cap_s']:g} s. {how['cores']} cores ({how['processor']}) for workers, store and driver; "
        f"{how['server']} with AOF, Python {how['python']}, redis-py {how['redis-py']}, sagabus {how['sagabus']}."
    )


def publish(docs: Path, medians: Sequence[Cell], cells: Sequence[Cell], how: dict[str, Any]) -> None:
    """Write what was measured into the pages."""
    day = datetime.date.today().isoformat()  # noqa: DTZ011 - a day as people here call it
    text = (
        f"Measured on {day}: {conditions(how)}\n\n{report.table(medians)}\n\n{report.ratios(medians)}\n\n"
        f"```text\n{report.plot(medians)}\n```\n"
    )
    figure.draw(medians, cells, docs / "concurrency.png")
    page.rewrite(docs / "concurrency.md", PART, text)
    page.rewrite(docs / "measured.md", PART, f"Measured on {day}.\n\n{report.ratios(medians)}")


if __name__ == "__main__":
    main()
