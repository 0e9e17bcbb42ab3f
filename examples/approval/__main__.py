"""Run it: `python -m examples.approval --help`."""

from __future__ import annotations

import sys
import threading
import uuid
from datetime import timedelta
from typing import Final

import click

from examples.approval.messages import RequestPurchase
from examples.approval.office import Office
from examples.racing.tidy import forget_queues
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure

KEPT_FOR: Final = timedelta(hours=1)
_PATIENCE_S: Final = 30.0


@click.command()
@click.option("--rejects/--approves", default=False, help="What Carla, who is asked last, says.")
@click.option("--store", help="URL of the store; SAGABUS_STORE, else an embedded Valkey in ./.sagabus.")
def main(rejects: bool, store: str | None) -> None:
    """Have a purchase approved by people who do not answer, until somebody above them does."""
    configure(level="ERROR")
    try:
        with Bus(store, namespace=f"approval-{uuid.uuid4().hex[:12]}", dedupe_window=KEPT_FOR) as bus:
            office = Office(bus, votes={"carla": not rejects})
            ended = run(bus, office)
            forget_queues(bus)
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(office.lines))
    sys.exit(0 if ended else 1)


def run(bus: Bus, office: Office) -> bool:
    """Ask for a desk with a worker in a thread of this process, and return whether the story came to its end."""
    worker = bus.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        bus.send(RequestPurchase("P-1", "a desk that stands", 79_900), to="approvals")
        return office.closed.wait(_PATIENCE_S)
    finally:
        worker.stop()
        thread.join()


if __name__ == "__main__":
    main()
