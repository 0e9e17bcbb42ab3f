"""The agency: the saga, its companies, and a journal that hears how each trip ended."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from examples.itinerary.companies import Register, open_airline, open_car_rental, open_hotel
from examples.itinerary.messages import BookTrip
from examples.itinerary.saga import Trip
from sagabus import Bus
from sagas import ItineraryAbandoned, ItineraryCompleted, ItineraryOutcome, ItineraryUndone, Slip

AGENCY: Final = "agency"


@define
class Journal:
    """What happened to each trip. Thread-safe.

    Attributes:
        entries: trip -> what its companies did, in order.
        outcomes: trip -> how it ended, as often as that was said.
    """

    entries: dict[str, list[str]] = field(factory=dict)
    outcomes: dict[str, list[ItineraryOutcome]] = field(factory=dict)
    _changed: threading.Condition = field(factory=threading.Condition)

    def tell(self, slip: Slip, what: str) -> None:
        """Enter what a company did."""
        with self._changed:
            self.entries.setdefault(slip.id, []).append(what)

    def ended(self, m: ItineraryCompleted | ItineraryUndone | ItineraryAbandoned) -> None:
        """Enter how a trip ended."""
        with self._changed:
            self.outcomes.setdefault(m.id, []).append(m)
            self._changed.notify_all()

    def wait(self, count: int, timeout_s: float) -> bool:
        """Return whether *count* trips have ended within *timeout_s*."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.outcomes) >= count, timeout_s)


@define
class Agency:
    """A travel agency on a bus.

    Attributes:
        journal: what happened to each trip.
        registers: step -> what that company has booked.
    """

    journal: Journal
    registers: dict[str, Register]

    @classmethod
    def open(cls, bus: Bus) -> Agency:
        """Put an agency with all its companies on *bus*."""
        journal = Journal()
        bus.endpoint(AGENCY, Trip)
        # One at a time, so that the journal has things in the order in which they were heard.
        bus.endpoint("journal", concurrency=1).consumer(journal.ended)
        registers = {
            "flight": open_airline(bus, journal.tell),
            "hotel": open_hotel(bus, journal.tell),
            "car": open_car_rental(bus, journal.tell),
        }
        return cls(journal, registers)

    def booked(self, trip: str) -> list[str]:
        """Return the steps for which a company has a booking of *trip*."""
        return [step for step, register in self.registers.items() if f"Trip/{trip}/{step}" in register.numbers]

    def disagreements(self, trips: Sequence[BookTrip]) -> list[str]:
        """Return where what the companies have booked is not what was said of a trip, or was not said once."""
        wrong = []
        for trip in trips:
            said = self.journal.outcomes.get(trip.trip, [])
            expected = list(self.registers) if any(isinstance(m, ItineraryCompleted) for m in said) else []
            booked = self.booked(trip.trip)
            if len(said) != 1 or booked != expected:
                wrong.append(f"{trip.trip}: said {said or 'nothing'}, booked {booked or 'nothing'}")
        return wrong
