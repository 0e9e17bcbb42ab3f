"""Run it: `python -m examples.quorum --help`."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from examples.credit_check.applicants import Applicant, applicants
from examples.credit_check.messages import CreditDecided
from examples.credit_check.saga import BUREAUS
from examples.quorum.bank import open_bank
from examples.racing.tidy import forget_queues
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure
from sagas import QuorumMissed

KEPT_FOR: Final = timedelta(hours=1)
_PATIENCE_S: Final = 30.0
_WIDTH: Final = 100

Ends = Mapping[str, CreditDecided | QuorumMissed]


@click.command()
@click.option("--applicants", "count", type=click.IntRange(1), default=8, show_default=True, help="How many apply.")
@click.option("--closed", type=click.Choice(BUREAUS), multiple=True, help="A bureau that does not answer.")
@click.option("--store", help="URL of the store; SAGABUS_STORE, else an embedded Valkey in ./.sagabus.")
def main(count: int, closed: Sequence[str], store: str | None) -> None:
    """Decide on applicants for credit as soon as two of three bureaus have answered.

    Exits with 1 unless every check has ended: with a decision, or with a quorum that was missed after two seconds.
    """
    configure(level="ERROR")
    people = applicants(count)
    try:
        with Bus(store, namespace=f"quorum-{uuid.uuid4().hex[:12]}", dedupe_window=KEPT_FOR) as bus:
            ends = run(bus, people, closed)
            forget_queues(bus)
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    show(people, ends)
    sys.exit(0 if len(ends) == count else 1)


def run(bus: Bus, people: Sequence[Applicant], closed: Sequence[str]) -> Ends:
    """Check *people* with a worker in a thread of this process, and return how each check ended."""
    desk = open_bank(bus, closed)
    worker = bus.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        bus.send_many([person.check() for person in people], to="credit")
        return desk.wait_for([person.customer for person in people], _PATIENCE_S)
    finally:
        worker.stop()
        thread.join()


def show(people: Sequence[Applicant], ends: Ends) -> None:
    """Print how each check ended."""
    table = Table("customer", "name", "end", *BUREAUS, "average")
    for person in people:
        match ends.get(person.customer):
            case CreditDecided(_, accepted, average, scores):
                said = {bureau: str(points) for bureau, points in scores.items()}
                end, mean = "accepted" if accepted else "declined", f"{average:.0f}"
            case QuorumMissed(missing=missing):
                said, end, mean = dict.fromkeys(missing, "silent"), "missed", ""
            case _:
                said, end, mean = {}, "unknown", ""
        table.add_row(person.customer, person.name, end, *(said.get(bureau, "") for bureau in BUREAUS), mean)
    Console(width=_WIDTH).print(table)


if __name__ == "__main__":
    main()
