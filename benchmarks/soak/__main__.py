"""Run it: `python -m benchmarks.soak --help`."""

from __future__ import annotations

import datetime
import signal
import sys
import tempfile
import threading
from pathlib import Path

import click

from benchmarks.__main__ import machine
from benchmarks.soak import report
from benchmarks.soak.run import Plan, Soak
from benchmarks.soak.samples import write_csv
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure


@click.command()
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="Of load.")
@click.option("--window-s", type=click.FloatRange(1), default=60.0, show_default=True, help="Retention, and window.")
@click.option("--kill-worker-every-s", type=click.FloatRange(0), default=5.0, show_default=True, help="0: never.")
@click.option("--kill-store-every-s", type=click.FloatRange(0), default=300.0, show_default=True, help="0: never.")
@click.option("--sample-every-s", type=click.FloatRange(0.1), default=10.0, show_default=True)
@click.option("--write", type=click.Path(path_type=Path, file_okay=False, exists=True), help="The docs/ to write into.")
def main(
    minutes: float,
    window_s: float,
    kill_worker_every_s: float,
    kill_store_every_s: float,
    sample_every_s: float,
    write: Path | None,
) -> None:
    """Run the soak on a Valkey of its own, and say whether anything was lost, done twice, contradictory, or leaks.

    Ctrl-C ends the load early; what there is by then is judged and reported. The exit code is 0 where all is right,
    and, of a run long enough to say so, flat.
    """
    configure(level="CRITICAL")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    plan = Plan(minutes * 60, window_s, kill_worker_every_s, kill_store_every_s, sample_every_s)
    # Where the page goes is no part of what was done.
    chosen = [part for part in sys.argv[1:] if part != "--write" and Path(part) != write]
    command = f"python -m benchmarks.soak {' '.join(chosen)}".strip()
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        with Bus(f"embedded:{folder}/place") as holder:
            place = machine(holder)
        try:
            verdict = Soak(Path(folder), plan, stop, lambda text: click.echo(text, err=True)).run()
        except SagabusError as error:
            raise click.ClickException(str(error)) from error
    for line in report.lines(verdict):
        click.echo(line)
    if write is not None:
        today = datetime.datetime.now(datetime.UTC).date()
        (write / "soak.md").write_text(report.page(verdict, place, command, today), encoding="utf-8")
        write_csv(write / "soak.csv", verdict.samples)
    if not verdict.right or (report.curves(verdict) and not report.is_flat(verdict)):
        sys.exit(1)


if __name__ == "__main__":
    main()
