"""The saga: a flight, a hotel, a car, in this order, and what undoes each."""

from __future__ import annotations

from datetime import timedelta

from attrs import define

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
from sagabus import handles, starts
from sagas import Itinerary, ItineraryState, Slip, Step


@define
class TripState(ItineraryState):
    """What the steps need to know, beside the results of those before them.

    Attributes:
        traveller: who travels.
        city: where to.
    """

    traveller: str = ""
    city: str = ""


def room_from_arrival(state: TripState, slip: Slip) -> BookRoom:
    """Return the command for the hotel, which has to know when the flight lands."""
    return BookRoom(slip, state.city, arrival=state.results["flight"]["lands"])


class Trip(Itinerary[TripState], key="trip"):
    """One trip, from the request to the last booking, or back."""

    steps = (
        Step(
            "flight",
            lambda state, slip: BookFlight(slip, state.traveller, state.city),
            undo=lambda state, slip: CancelFlight(slip),
            to="airline",
            within=timedelta(seconds=10),
        ),
        Step(
            "hotel",
            room_from_arrival,
            undo=lambda state, slip: CancelRoom(slip),
            to="hotel",
            within=timedelta(seconds=0.5),
            attempts=5,
        ),
        Step(
            "car",
            lambda state, slip: RentCar(slip, state.city),
            undo=lambda state, slip: GiveCarBack(slip),
            to="cars",
            within=timedelta(seconds=10),
        ),
    )

    @starts
    def requested(self, m: BookTrip) -> None:
        """Note who travels where; the first step is asked for by itself."""
        self.state.traveller, self.state.city = m.traveller, m.city

    @handles
    def cancelled(self, m: CancelTrip) -> None:
        """Undo the trip, if it is still being booked."""
        self.turn_back("cancelled by the traveller")
