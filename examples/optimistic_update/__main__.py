"""Run it: `python -m examples.optimistic_update`."""

from __future__ import annotations

import uuid

import click

from examples.optimistic_update.guests import WAYS, Outcome, race
from sagabus import Bus, SagabusError


@click.command()
@click.option("--store", default="memory:", show_default=True, help="URL of the store.")
def main(store: str) -> None:
    """Have two writers who read the same document write it, in three ways."""
    try:
        with Bus(store=store, transport="memory:") as bus:
            documents = bus.documents.group(f"examples.optimistic_update/{uuid.uuid4().hex}")
            outcomes = [race(documents, way) for way in WAYS]
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    print("Zoe is invited. Two writers read that; one adds Ann, the other Ben.\n")
    print(f"{'':21}{'refused':9}{'lost':6}invited in the end")
    for outcome in outcomes:
        print(row(outcome))
    for refusal in outcomes[0].refused.values():
        print(f"\nThe one who was refused: {refusal}")


def row(outcome: Outcome) -> str:
    """Return one way as a line of the table."""
    names = ", ".join(sorted(outcome.names))
    return f"{outcome.way:21}{', '.join(outcome.refused) or '-':9}{', '.join(outcome.lost) or '-':6}{names}"


if __name__ == "__main__":
    main()
