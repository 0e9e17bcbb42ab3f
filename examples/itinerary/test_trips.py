"""What a trip promises, whatever fails, is late or comes twice. Copy it, and put your itinerary in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from examples.itinerary.agency import AGENCY, Agency
from examples.itinerary.messages import (
    BookFlight,
    BookRoom,
    BookTrip,
    CancelFlight,
    CancelRoom,
    CancelTrip,
    GiveCarBack,
    RentCar,
)
from examples.itinerary.saga import Trip
from sagabus import Bus, Context
from sagabus.testing import Moment, Sent, explore
from sagas import ItineraryAbandoned, ItineraryCompleted, ItineraryUndone, Slip

ROOT: Final = Path(__file__).resolve().parents[2]
BOOK: Final = BookTrip("7", "Ada", "Rome")


def agency_without_registers() -> Bus:
    """Return the agency with companies that only answer: an exploration calls them in no order."""
    bus = Bus("memory:", "memory:")
    bus.endpoint(AGENCY, Trip)
    airline, hotel, cars = bus.endpoint("airline"), bus.endpoint("hotel"), bus.endpoint("cars")

    @airline.consumer
    def fly(m: BookFlight, context: Context) -> None:
        context.reply(m.slip.done(number="LH1", lands="noon"))

    @hotel.consumer
    def sleep(m: BookRoom, context: Context) -> None:
        context.reply(m.slip.failed("no hotel") if m.city == "Atlantis" else m.slip.done(number="H1"))

    @cars.consumer
    def drive(m: RentCar, context: Context) -> None:
        context.reply(m.slip.failed("no car") if m.city == "Venice" else m.slip.done(number="C1"))

    for company in (airline, hotel, cars):

        def undo(m: CancelFlight | CancelRoom | GiveCarBack, context: Context) -> None:
            context.reply(m.slip.done())

        company.consumer(undo)
    return bus


def outcomes(moment: Moment) -> tuple[str, ...]:
    """Return how the trip was said to have ended."""
    kinds = (ItineraryCompleted, ItineraryUndone, ItineraryAbandoned)
    return tuple(type(m).__name__ for m in moment.decisions if isinstance(m, kinds))


@pytest.mark.parametrize(
    ("city", "cancelled", "expected"),
    [
        ("Rome", False, {("ItineraryCompleted",)}),
        ("Venice", False, {("ItineraryUndone",)}),
        ("Atlantis", False, {("ItineraryUndone",)}),
        ("Rome", True, {("ItineraryCompleted",), ("ItineraryUndone",)}),
        ("Venice", True, {("ItineraryUndone",)}),
    ],
)
def test_trip_in_every_order_ends_once(city: str, cancelled: bool, expected: set[Any]) -> None:
    """Whenever the traveller cancels, and whatever is delivered twice, one outcome is published, and the right one."""
    result = explore(
        agency_without_registers(),
        start=[BookTrip("7", "Ada", city)],
        messages=[CancelTrip("7")] if cancelled else [],
        duplicates=1,
        batch=2,
        timeouts=False,
        outcome=outcomes,
        outcomes=expected,
        mode="exhaustive",
    ).assert_ok()
    assert set(result.outcomes) == expected


def test_trip_books_the_room_from_the_arrival_of_the_flight(saga_harness: Any) -> None:
    """A step knows what those before it have answered."""
    trip = saga_harness(Trip)
    slip = Slip("Trip", "7", "flight")
    assert trip.give(BOOK)[0] == Sent(BookFlight(slip, "Ada", "Rome"), to="airline")
    left = trip.give(slip.done(number="LH1", lands="noon"))
    assert left[0] == Sent(BookRoom(Slip("Trip", "7", "hotel"), "Rome", "noon"), to="hotel")


def test_trip_that_is_cancelled_gives_the_flight_back(saga_harness: Any) -> None:
    """What is under way is waited for, and undone."""
    trip = saga_harness(Trip)
    trip.give(BOOK)
    trip.give(CancelTrip("7"))
    slip = Slip("Trip", "7", "flight")
    sent = [effect for effect in trip.give(slip.done(number="LH1", lands="noon")) if isinstance(effect, Sent)]
    assert sent == [Sent(CancelFlight(Slip("Trip", "7", "flight", undo=True)), to="airline")]


def test_agency_has_booked_what_it_says(sagabus_bus: Bus) -> None:
    """On a real store: every trip is said to have ended once, and the registers of all companies agree."""
    agency = Agency.open(sagabus_bus)
    cities = ("Rome", "Venice", "Atlantis")
    trips = [BookTrip(f"T{number}", "Ada", cities[number % 3]) for number in range(15)]
    sagabus_bus.send_many(trips, to=AGENCY)
    sagabus_bus.worker().run_until_idle()
    assert agency.disagreements(trips) == []
    assert [agency.booked(trip.trip) for trip in trips[:2]] == [["flight", "hotel", "car"], []]


def test_run_ends_well_by_itself() -> None:
    """Three trips are completed and two undone, a lost answer and a broken line notwithstanding."""
    command = [sys.executable, "-m", "examples.itinerary", "--store", "memory:"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^trips=5 completed=3 undone=2 wrong=0 seconds=\d+\.\d$", done.stdout, re.MULTILINE)
    assert "the hotel's answer was lost\n      room asked for again, and booked already" in done.stdout
