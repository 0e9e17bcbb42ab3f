"""The merger keeps one sibling whole, and what the other had learnt is lost.

It looks right because every law of mergers holds: the choice is by revision, ties are broken by content, so order,
grouping and repetition change nothing. But a revision counts writes along one branch; the branch that lost holds a
message that was acked and comes never again.

Mend: merge field by field, so that what either branch learnt is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from attrs import define

from mergers import fieldwise, first_of
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.keeps_one_side.book-trip")
class BookTrip:
    trip: str


@message("broken.keeps_one_side.flight-booked")
class FlightBooked:
    trip: str
    flight: str


@message("broken.keeps_one_side.hotel-booked")
class HotelBooked:
    trip: str
    hotel: str


@message("broken.keeps_one_side.trip-booked")
class TripBooked:
    trip: str
    flight: str
    hotel: str


@define
class RevisedTrip:
    revision: int = 0
    flight: str = ""
    hotel: str = ""


def newest(siblings: Sequence[RevisedTrip]) -> RevisedTrip:
    """Keep the sibling of the highest revision."""
    return max(siblings, key=lambda s: (s.revision, s.flight, s.hotel))


class KeepsNewest(Saga[RevisedTrip], key="trip", merger=newest):
    @starts
    def asked(self, m: BookTrip) -> None:
        self.state.revision += 1

    @handles
    def flown(self, m: FlightBooked) -> None:
        self.state.revision += 1
        self.state.flight = m.flight

    @handles
    def housed(self, m: HotelBooked) -> None:
        self.state.revision += 1
        self.state.hotel = m.hotel

    def decide(self) -> None:
        if self.state.flight and self.state.hotel:
            self.publish(TripBooked(self.id, self.state.flight, self.state.hotel))
            self.complete()


@define
class Trip:
    flight: Annotated[str | None, first_of] = None
    hotel: Annotated[str | None, first_of] = None


class KeepsBoth(Saga[Trip], key="trip", merger=fieldwise(Trip)):
    @starts
    def asked(self, m: BookTrip) -> None:
        pass

    @handles
    def flown(self, m: FlightBooked) -> None:
        self.state.flight = m.flight

    @handles
    def housed(self, m: HotelBooked) -> None:
        self.state.hotel = m.hotel

    def decide(self) -> None:
        if self.state.flight and self.state.hotel:
            self.publish(TripBooked(self.id, self.state.flight, self.state.hotel))
            self.complete()


ARGUMENTS = {"start": [BookTrip("7")], "messages": [FlightBooked("7", "LH 400"), HotelBooked("7", "Astoria")]}
BROKEN = Exhibit("A merger that keeps one side", KeepsNewest, ARGUMENTS, ("lost-effect", "stuck"), length=8)
MENDED = Exhibit("A merger that keeps what each side learnt", KeepsBoth, ARGUMENTS)
