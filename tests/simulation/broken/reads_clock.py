"""A handler reads the clock, so a run that is made again writes another state.

It looks right because a handler seems to run once a message. It runs again whenever another worker was faster, when a
worker dies, and in a replay; each run then tells another time, and two workers may both be believed.

Mend: `self.now` is the store's time when the run was loaded, and the same wherever that run is repeated. Where it
matters when something happened, the message should say so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from attrs import define

from mergers import any_true, fieldwise, lowest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.reads_clock.open-rental")
class OpenRental:
    rental: str


@message("broken.reads_clock.car-returned")
class CarReturned:
    rental: str


@message("broken.reads_clock.keys-returned")
class KeysReturned:
    rental: str


@message("broken.reads_clock.rental-closed")
class RentalClosed:
    rental: str


@define
class Rental:
    car_back_at: Annotated[datetime | None, lowest] = None
    keys_back: Annotated[bool, any_true] = False


class ReadsWallClock(Saga[Rental], key="rental", merger=fieldwise(Rental)):
    @starts
    def opened(self, m: OpenRental) -> None:
        pass

    @handles
    def car(self, m: CarReturned) -> None:
        self.state.car_back_at = datetime.now(UTC)

    @handles
    def keys(self, m: KeysReturned) -> None:
        self.state.keys_back = True

    def decide(self) -> None:
        if self.state.car_back_at and self.state.keys_back:
            self.publish(RentalClosed(self.id))
            self.complete()


class ReadsStoreTime(ReadsWallClock, key="rental", merger=fieldwise(Rental)):
    @handles
    def car(self, m: CarReturned) -> None:
        self.state.car_back_at = self.now


ARGUMENTS = {"start": [OpenRental("7")], "messages": [CarReturned("7"), KeysReturned("7")]}
BROKEN = Exhibit("A handler that reads the clock", ReadsWallClock, ARGUMENTS, ("impure",), length=3)
MENDED = Exhibit("A handler that takes the time it is given", ReadsStoreTime, ARGUMENTS)
