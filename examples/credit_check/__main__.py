"""Run it: `python -m examples.credit_check --help`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.credit_check.applicants import applicants
from examples.credit_check.history import Races, races_of
from examples.credit_check.ledger import Audit
from examples.credit_check.office import Office, Plan
from examples.credit_check.report import last_line, show_table, show_trouble, write_decisions
from examples.racing.tidy import forget_queues
from sagabus import SagabusError
from sagabus.observe.log import configure


@click.command()
@click.option("--applicants", "count", type=click.IntRange(1), default=1000, show_default=True, help="How many apply.")
@click.option("--processes", type=click.IntRange(1), default=4, show_default=True, help="How many worker processes.")
@click.option("--store", help="URL of the store; SAGABUS_STORE, else an embedded Valkey in ./.sagabus.")
@click.option("--transport", help="URL of the transport; SAGABUS_TRANSPORT, else the store's server.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of scores, latencies, and who is killed.")
@click.option(
    "--kill-every", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Kill a worker that often."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("decisions.csv"), show_default=True)
@click.option(
    "--patience", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds without a decision."
)
def main(
    count: int,
    processes: int,
    store: str | None,
    transport: str | None,
    seed: int,
    kill_every: float,
    out: Path,
    patience: float,
) -> None:
    """Decide on applicants for credit with worker processes whose replies race.

    Exits with 1 unless everybody got exactly one decision and, where two or more processes were left alive, sagas
    forked.
    """
    configure(level="ERROR")
    plan = Plan(applicants(count), processes, seed, kill_every, patience, store, transport)
    try:
        office = Office(plan)
        with office.bus:
            run(office)
            audit = office.ledger.audit([applicant.customer for applicant in plan.applicants])
            decisions = office.ledger.decisions()
            races = races_of(office.bus.store, decisions)
            fine = office.quiet and is_fine(audit, races, racing=processes > 1 and not kill_every)
            if fine:
                forget_queues(office.bus)
            else:
                show_trouble(office, audit, races)
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped; the workers have ended, and what was in their queues is left there", err=True)
        sys.exit(130)
    write_decisions(out, plan.applicants, decisions)
    show_table(office, audit, races, decisions, out)
    print(last_line(audit, races, office.seconds), flush=True)
    sys.exit(0 if fine else 1)


def is_fine(audit: Audit, races: Races, racing: bool) -> bool:
    """Return whether everybody got one decision and, where workers were *racing*, there was a race to speak of."""
    return audit.clean and (not racing or races.forks > 0)


def run(office: Office) -> None:
    """Run *office* behind a progress bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("decided", total=len(office.plan.applicants))
        office.run(lambda decided: bar.update(task, completed=decided))


if __name__ == "__main__":
    main()
