"""Run it: `python -m examples.transfer --help`."""

from __future__ import annotations

import sys
from collections import Counter

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.transfer.findings import Finding, findings
from examples.transfer.rush import Plan, Rush
from examples.transfer.tidy import forget
from examples.transfer.town import make_town
from sagabus import SagabusError
from sagabus.observe.log import configure
from sagas.transfer import Books, MoneyTransferred


@click.command()
@click.option("--transfers", type=click.IntRange(1), default=10_000, show_default=True, help="How many.")
@click.option("--accounts", type=click.IntRange(4), default=50, show_default=True, help="How many, in groups of ten.")
@click.option("--processes", type=click.IntRange(1), default=4, show_default=True, help="How many worker processes.")
@click.option(
    "--kill-every",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Kill a worker with SIGKILL that often; 0 for never.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of accounts, coins and transfers.")
def main(transfers: int, accounts: int, processes: int, kill_every: float, seed: int) -> None:
    """Move money between accounts while workers die, and see whether every promise was kept.

    Exits with 1 unless all were.
    """
    configure(level="ERROR")
    town = make_town(accounts, transfers, seed)
    try:
        rush = Rush(Plan(town, processes, kill_every))
        with rush.bus:
            run(rush)
            found = findings(town, Books.read(rush.bus.documents, town.groups), rush.ledger.outcomes())
            found.append(Finding("nothing was given up, and all queues are empty", tuple(trouble(rush))))
            fine = all(finding.kept for finding in found)
            if fine:
                forget(rush.bus, town.groups)
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("stopped; the workers have ended, and what was under way is left as it is", err=True)
        sys.exit(130)
    for line in report(rush, found):
        click.echo(line)
    if not fine:
        click.echo(f"what is stored is left as it is, in namespace {rush.namespace}", err=True)
    sys.exit(0 if fine else 1)


def run(rush: Rush) -> None:
    """Run *rush* behind a progress bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("ended", total=len(rush.plan.town.wishes))
        rush.run(lambda ended: bar.update(task, completed=ended))


def trouble(rush: Rush) -> list[str]:
    """Return what is left in queues, and what was given up."""
    left = [f"{queue.endpoint} holds {queue.depth}" for queue in rush.bus.transport.queues() if queue.depth]
    return left + [f"{letter.type} at {letter.endpoint}: {letter.error}" for letter in rush.bus.store.dead(5)]


def report(rush: Rush, found: list[Finding]) -> list[str]:
    """Return what is printed: what happened, and every promise."""
    town, outcomes = rush.plan.town, rush.ledger.outcomes()
    firsts = [heard[0] for heard in outcomes.values()]
    home = sum(wish.order.within_one_group for wish in town.wishes)
    reasons = Counter("transferred" if isinstance(m, MoneyTransferred) else str(m.reason) for m in firsts)
    rate = f", {len(firsts) / rush.seconds:.0f} a second" if rush.seconds else ""
    return [
        f"{len(town.accounts)} accounts in {len(town.groups)} groups; {len(town.wishes)} transfers, {home} of them "
        f"within a group; {rush.plan.processes} workers",
        "  ".join(f"{reason} {count}" for reason, count in reasons.most_common()),
        *map(str, found),
        f"transfers={len(town.wishes)} ended={len(firsts)} kills={rush.kills} seconds={rush.seconds:.1f}{rate}",
    ]


if __name__ == "__main__":
    main()
