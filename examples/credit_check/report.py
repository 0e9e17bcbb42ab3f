"""What a run shows: a table, a file of decisions, one last line; and where to look when something went wrong."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from examples.credit_check.applicants import Applicant
from examples.credit_check.history import Races
from examples.credit_check.ledger import Audit
from examples.credit_check.messages import CreditDecided
from examples.credit_check.office import Office

_SHOWN: Final = 5


def last_line(audit: Audit, races: Races, seconds: float) -> str:
    """Return the line that scripts read."""
    return (
        f"applicants={audit.applicants} decided={audit.decided} lost={audit.lost} twice={audit.twice} "
        f"contradictory={audit.contradictory} forks={races.forks} merges={races.merges} seconds={seconds:.1f}"
    )


def write_decisions(
    path: Path, applicants: Sequence[Applicant], decisions: Mapping[str, Sequence[CreditDecided]]
) -> None:
    """Write a line for every decision, in the order of the applicants; one without decision has an empty line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("customer", "name", "decision", "average", "scores"))
        for applicant in applicants:
            who = (applicant.customer, applicant.name)
            for decided in decisions.get(applicant.customer, ()):
                scores = " ".join(f"{bureau}={score}" for bureau, score in sorted(decided.scores.items()))
                writer.writerow((*who, _verdict(decided), f"{decided.average:.1f}", scores))
            if applicant.customer not in decisions:
                writer.writerow((*who, "", "", ""))


def show_table(
    office: Office, audit: Audit, races: Races, decisions: Mapping[str, Sequence[CreditDecided]], path: Path
) -> None:
    """Print what happened, for people, on stdout."""
    table = Table(
        title=f"{audit.applicants} credit checks, {office.plan.processes} worker processes", title_justify="left"
    )
    table.add_column("what")
    table.add_column("how many", justify="right")
    table.add_column("which means")
    firsts = [entries[0] for entries in decisions.values()]
    accepted = sum(decided.accepted for decided in firsts)
    rate = f"{audit.decided / office.seconds:.0f} a second" if office.seconds else ""
    rows: list[tuple[str, int, str]] = [
        ("accepted", accepted, "an average over 700"),
        ("declined", len(firsts) - accepted, ""),
        (
            "on three scores",
            sum(len(decided.scores) > 2 for decided in firsts),
            "two replies in one batch or one merge",
        ),
        ("forks", races.forks, "two workers wrote at once; neither waited"),
        ("merges", races.merges, "siblings became one version again"),
        ("late scores", races.late, "came after the decision, and changed nothing"),
        ("workers killed", office.kills, "with SIGKILL, and started again"),
        ("repeated copies", audit.repeats, "of a decision message, counted once"),
        ("decided", audit.decided, rate),
    ]
    for what, count, meaning in rows:
        table.add_row(what, str(count), meaning)
    Console().print(table)
    click.echo(f"every decision is in {path}")
    if races.forked:
        click.echo(f"a check that forked: {_inspect(office, races.forked)}")


def show_trouble(office: Office, audit: Audit, races: Races) -> None:
    """Print on stderr what to look at. The run's queues and sagas stay where they are."""
    bus = office.bus
    decisions = office.ledger.decisions()
    lost = [a.customer for a in office.plan.applicants if a.customer not in decisions]
    doubled = [customer for customer, entries in decisions.items() if len(entries) > 1]
    click.echo(f"the run in namespace {office.namespace} did not end well:", err=True)
    if not office.quiet:
        depths = ", ".join(f"{queue.endpoint} {queue.depth}" for queue in bus.transport.queues() if queue.depth)
        click.echo(f"  messages are left in queues: {depths or 'none by now'}", err=True)
    if audit.clean and not races.forks:
        click.echo("  no saga forked: the workers did not run at the same time; try again on an idle machine", err=True)
    for what, customers in (("no decision", lost), ("more than one decision", doubled)):
        if customers:
            click.echo(
                f"  {what}: {', '.join(customers[:_SHOWN])}{' ...' if len(customers) > _SHOWN else ''}", err=True
            )
    for letter in bus.store.dead(_SHOWN):
        click.echo(f"  dead letter at {letter.endpoint}: {letter.reason}: {letter.error}", err=True)
    waiting = bus.store.scheduled(_SHOWN)
    if waiting:
        click.echo(f"  messages wait for another try, such as {waiting[0].id}", err=True)
    if lost or doubled:
        click.echo(f"look at one with: {_inspect(office, (lost or doubled)[0])}", err=True)


def _inspect(office: Office, customer: str) -> str:
    """Return the command that shows one check, as long as the store has it."""
    variables = [f"CREDIT_CHECK_NAMESPACE={office.namespace}"]
    if office.plan.store:
        variables.insert(0, f"SAGABUS_STORE={shlex.quote(office.plan.store)}")
    return f"{' '.join(variables)} sagabus inspect examples.credit_check.app:bus CreditCheck/{customer}"


def _verdict(decided: CreditDecided) -> str:
    return "accepted" if decided.accepted else "declined"
