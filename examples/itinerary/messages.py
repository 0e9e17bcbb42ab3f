"""What travels between the agency and its companies. Each command carries a slip, and the answer brings it back."""

from __future__ import annotations

from sagabus import message
from sagas import Slip


@message("trips.book")
class BookTrip:
    """Ask the agency for a trip."""

    trip: str
    traveller: str
    city: str


@message("trips.cancel")
class CancelTrip:
    """Ask the agency to undo a trip that is being booked."""

    trip: str


@message("trips.flight.book")
class BookFlight:
    """Ask the airline for a seat."""

    slip: Slip
    traveller: str
    city: str


@message("trips.flight.cancel")
class CancelFlight:
    """Ask the airline to give the seat to somebody else, if there is one."""

    slip: Slip


@message("trips.hotel.book")
class BookRoom:
    """Ask the hotel for a room, from the flight's arrival on."""

    slip: Slip
    city: str
    arrival: str


@message("trips.hotel.cancel")
class CancelRoom:
    """Ask the hotel to forget the room, if there is one."""

    slip: Slip


@message("trips.car.rent")
class RentCar:
    """Ask for a car at the airport."""

    slip: Slip
    city: str


@message("trips.car.give-back")
class GiveCarBack:
    """Say that no car is wanted, if there is one."""

    slip: Slip
