"""Run it: `python -m benchmarks.simulator --help`. How fast `explore` looks at every schedule of the credit check."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any, Final

import click
from attrs import evolve
from rich import box
from rich.console import Console
from rich.table import Table

from examples.credit_check.messages import CheckCredit, ScoreReported
from examples.credit_check.saga import CreditCheck
from sagabus.testing.exploration import inquiry_of
from sagabus.testing.simulator.search import Search

SCORES: Final = (710, 705, 650, 730, 720, 740)
CASES: Final = (*((k, 2) for k in range(2, 7)), *((k, 3) for k in range(2, 6)))
MAX_STATES: Final = 5_000_000


@click.command()
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True, help="Runs a case; the fastest counts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def main(repeat: int, as_json: bool) -> None:
    """Explore the credit check with two to six concurrent replies and two or three workers, exhaustively.

    "Checked" is what users get: each new run is made again, for its purity, mergers are tried for their laws, and
    settled states are compared with serial orders. "Searched" is the search alone.
    """
    rows = [measure(replies, workers, repeat) for replies, workers in CASES]
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * (1024 if sys.platform == "darwin" else 1))
    if as_json:
        print(json.dumps({"cases": rows, "memory_mb": round(memory_mb)}))
        return
    table = Table(
        title="the credit check, every schedule; transitions checked and searched a second", box=box.SIMPLE_HEAD
    )
    for column in (
        "replies",
        "workers",
        "states",
        "transitions",
        "schedules",
        "seconds",
        "checked a second",
        "searched",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            str(row["replies"]),
            str(row["workers"]),
            f"{row['states']:,}",
            f"{row['transitions']:,}",
            f"{row['schedules']:,}",
            f"{row['seconds']:.3f}",
            f"{row['transitions_per_s']:,.0f}",
            f"{row['searched_per_s']:,.0f}",
        )
    Console().print(table)
    print(f"peak memory {memory_mb:.0f} MB")


def measure(replies: int, workers: int, repeat: int) -> dict[str, Any]:
    """Return the figures of one case: what there was to look at, and the fastest of *repeat* runs from scratch."""
    seconds, search = fastest(replies, workers, repeat, checked=True)
    alone_s, alone = fastest(replies, workers, repeat, checked=False)
    if search.failure is not None or not search.complete:
        raise click.ClickException(f"{replies} replies, {workers} workers: {search.failure or 'not complete'}")
    return {
        "replies": replies,
        "workers": workers,
        "states": search.states,
        "transitions": search.transitions,
        "schedules": int(search.schedules),
        "seconds": seconds,
        "transitions_per_s": search.transitions / seconds,
        "searched_per_s": alone.transitions / alone_s,
    }


def fastest(replies: int, workers: int, repeat: int, *, checked: bool) -> tuple[float, Search]:
    """Return the fastest of *repeat* searches from scratch, and its seconds."""
    runs = []
    for _ in range(repeat):
        started_at = time.perf_counter()
        search = run(replies, workers, checked=checked)
        runs.append((time.perf_counter() - started_at, search))
    return min(runs, key=lambda timed: timed[0])


def run(replies: int, workers: int, *, checked: bool = True) -> Search:
    """Explore the check of one customer with some replies on their way at once."""
    inquiry = inquiry_of(
        CreditCheck,
        start=[CheckCredit(customer="42")],
        messages=[ScoreReported(bureau=f"bureau-{number}", score=SCORES[number]) for number in range(replies)],
        workers=workers,
        outcome=lambda final: len(final.decisions),
        serial_merges=checked,
    )
    _, search = evolve(inquiry, examined=checked).search(MAX_STATES)
    return search


if __name__ == "__main__":
    main()
