"""Run it: `python -m examples.itinerary --help`."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from datetime import timedelta
from typing import Final

import click

from examples.itinerary.agency import AGENCY, Agency
from examples.itinerary.messages import BookTrip
from examples.racing.tidy import forget_queues
from sagabus import Bus, SagabusError
from sagabus.observe.log import configure
from sagas import ItineraryCompleted, ItineraryOutcome, ItineraryUndone

TRIPS: Final = (
    BookTrip("T1", "Ada", "Rome"),
    BookTrip("T2", "Ben", "Venice"),
    BookTrip("T3", "Cleo", "Atlantis"),
    BookTrip("T4", "Dan", "Oslo"),
    BookTrip("T5", "Eve", "Lima"),
)
KEPT_FOR: Final = timedelta(hours=1)


@click.command()
@click.option("--store", envvar="SAGABUS_STORE", default="memory:", show_default=True, help="URL of the store.")
@click.option("--transport", envvar="SAGABUS_TRANSPORT", help="URL of the transport; else the store's server.")
@click.option("--patience", type=click.FloatRange(1), default=30.0, show_default=True, help="Seconds to wait at most.")
def main(store: str, transport: str | None, patience: float) -> None:
    """Book five trips; two of them fail half-way and are undone.

    Exits with 1 unless each trip was said to have ended once, and what the companies have booked is what was said.
    """
    configure(level="CRITICAL")
    started = time.monotonic()
    try:
        with Bus(store, transport, namespace=f"itinerary-{uuid.uuid4().hex[:8]}", dedupe_window=KEPT_FOR) as bus:
            agency = Agency.open(bus)
            worker = bus.worker()
            running = threading.Thread(target=worker.run)
            running.start()
            try:
                bus.send_many(TRIPS, to=AGENCY)
                agency.journal.wait(len(TRIPS), patience)
            finally:
                worker.stop()
                running.join()
            if not bus.transport_url.startswith("memory:"):
                forget_queues(bus)
    except SagabusError as error:
        raise click.ClickException(str(error)) from error
    wrong = agency.disagreements(TRIPS)
    for trip in TRIPS:
        show(trip, agency)
    for line in wrong:
        click.echo(line, err=True)
    outcomes = [outcome for said in agency.journal.outcomes.values() for outcome in said]
    completed = sum(isinstance(outcome, ItineraryCompleted) for outcome in outcomes)
    undone = sum(isinstance(outcome, ItineraryUndone) for outcome in outcomes)
    print(
        f"trips={len(TRIPS)} completed={completed} undone={undone} wrong={len(wrong)} "
        f"seconds={time.monotonic() - started:.1f}",
        flush=True,
    )
    sys.exit(1 if wrong else 0)


def show(trip: BookTrip, agency: Agency) -> None:
    """Print what happened to one trip."""
    print(f"{trip.trip}  {trip.traveller} to {trip.city}")
    for entry in agency.journal.entries.get(trip.trip, []):
        print(f"      {entry}")
    for outcome in agency.journal.outcomes.get(trip.trip, []):
        print(f"    {said(outcome)}")


def said(outcome: ItineraryOutcome) -> str:
    """Return an outcome for people."""
    match outcome:
        case ItineraryCompleted(results=results):
            return "completed: " + ", ".join(result["number"] for result in results.values())
        case ItineraryUndone(reason=reason, undone=undone):
            return f"undone: {reason}; given back: {', '.join(undone) or 'nothing'}"
        case _:
            return f"abandoned at {outcome.step}: {outcome.reason}; left: {', '.join(outcome.left)}"


if __name__ == "__main__":
    main()
