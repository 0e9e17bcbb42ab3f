"""Run it: `python -m tests.chaos --help`."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click
from attrs import evolve

from sagabus.observe.log import configure
from tests.chaos.row import SEEDS, Row, all_rows
from tests.chaos.table import write
from tests.chaos.verdict import Run, Verdict


def _seeds(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers; write it as 1,2,3") from error


@click.command()
@click.option("--row", "numbers", type=int, multiple=True, metavar="N", help="Only this row; may be given again.")
@click.option("--seeds", default=",".join(map(str, SEEDS)), show_default=True, callback=_seeds, help="One run each.")
@click.option("--write", "page", type=click.Path(path_type=Path, dir_okay=False), help="The page with the table.")
@click.option("--quick", is_flag=True, help="The fast versions, as the test suite runs them.")
def main(numbers: tuple[int, ...], seeds: tuple[int, ...], page: Path | None, quick: bool) -> None:
    """Make the faults of the table, and say what became of everything. Exits with 1 where a row fails."""
    configure(level="ERROR")
    # Told to end, it ends what it started first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = all_rows()
    if unknown := sorted(set(numbers) - rows.keys()):
        raise click.UsageError(f"no row {unknown[0]}; there are {', '.join(map(str, rows))}")
    chosen = [row for number, row in rows.items() if not numbers or number in numbers]
    runs: list[Run] = []
    for row in chosen:
        click.echo(f"row {row.number}: {row.fault}; must hold: {row.holds}")
        if quick and not row.quick_errands:
            click.echo(f"  no fast version: {row.slow}")
            continue
        for seed in seeds:
            run = _performed(row, seed, quick)
            runs.append(run)
            click.echo(f"  {_line(run)}")
        if page is not None:
            # After every row: what has been shown stays shown where a later row is interrupted.
            options = " ".join([*(f"--row {n}" for n in numbers), f"--seeds {','.join(map(str, seeds))}"])
            command = f"python -m tests.chaos {options}{' --quick' if quick else ''}"
            done = [run for run in runs if run.row == row.number]
            write(page, rows, done, command, datetime.now(UTC).date().isoformat())
    failed = sorted({run.row for run in runs if not run.ok})
    if failed:
        click.echo(f"failed: rows {', '.join(map(str, failed))}", err=True)
    sys.exit(1 if failed else 0)


def _performed(row: Row, seed: int, quick: bool) -> Run:
    """Run a row; one that breaks fails, and the rows behind it are run all the same."""
    began_at = time.monotonic()
    try:
        return row.perform(seed, quick=quick)
    except Exception as error:
        traceback.print_exc()
        broken = Verdict(seconds=time.monotonic() - began_at).objecting(f"it broke: {type(error).__name__}: {error}")
        return Run(row.number, seed, evolve(broken, faults=0))


def _line(run: Run) -> str:
    """Return what one run came to, in a line; more where it failed."""
    if run.excused:
        return f"seed {run.seed}: not permitted here: {run.excused}"
    v = run.verdict
    counts = f"messages={v.messages} faults={v.faults} lost={v.lost} twice={v.twice} repeats={v.repeats}"
    line = f"seed {run.seed}: {'ok' if v.ok else 'FAILED'} {counts} seconds={v.seconds:.1f}"
    return "\n  ".join([line, *(f"  {note}" for note in v.notes), *([f"  {v.complaint()}"] if not v.ok else [])])


if __name__ == "__main__":
    main()
