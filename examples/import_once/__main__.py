"""Run it: `python -m examples.import_once --help`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from examples.import_once.run import Audit, Imports, Plan
from sagabus import SagabusError
from sagabus.observe.log import configure


@click.command()
@click.option("--keys", type=click.IntRange(1), default=100, show_default=True, help="How many files.")
@click.option("--notifications", type=click.IntRange(1), default=20, show_default=True, help="How many for each file.")
@click.option("--processes", type=click.IntRange(1), default=4, show_default=True, help="How many worker processes.")
@click.option(
    "--kill-every",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Kill a worker that often while it imports; 0 for never.",
)
@click.option("--store", help="URL of the store; SAGABUS_STORE, else an embedded Valkey in ./.sagabus.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of who is killed.")
def main(keys: int, notifications: int, processes: int, kill_every: float, store: str | None, seed: int) -> None:
    """Import files once each, though each is announced many times at once and workers are killed while they import.

    Exits with 1 unless the importing service has counted one import for each file, and calls were repeated only where
    a worker was killed.
    """
    configure(level="ERROR")
    plan = Plan(keys, notifications, processes, kill_every, store, seed)
    try:
        with tempfile.TemporaryDirectory(prefix="import-once-") as folder:
            imports = Imports(plan, Path(folder))
            with imports.bus:
                before: list[Audit] = []
                audit = imports.run(before.append)
                troubles = audit.troubles(plan.paths(), imports.killed)
                show(imports, before[0], audit)
                imports.tidy()
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped; the workers have ended", err=True)
        sys.exit(130)
    again = len(audit.calls) - len(before[0].calls)
    if again:
        troubles.append(f"the republication has called the service {again} times")
    for trouble in troubles:
        click.echo(trouble, err=True)
    sys.exit(1 if troubles else 0)


def show(imports: Imports, before: Audit, after: Audit) -> None:
    """Print what happened; the last line is for scripts."""
    plan, total = imports.plan, imports.plan.keys * imports.plan.notifications
    click.echo(f"{total} notifications of {plan.keys} files, {plan.processes} worker processes")
    click.echo(f"{len(imports.killed)} workers were killed, each in the middle of an import")
    click.echo(f"{len(before.calls)} calls of the service, {before.repeats} of them repeats after a kill")
    click.echo(f"{total} notifications once more, and {len(after.calls) - len(before.calls)} calls")
    click.echo(
        f"keys={plan.keys} notifications={total} imports={len(after.imports)} calls={len(before.calls)} "
        f"repeats={before.repeats} kills={len(imports.killed)} again={len(after.calls) - len(before.calls)} "
        f"seconds={imports.seconds:.1f}"
    )


if __name__ == "__main__":
    main()
