"""The companies: consumers with a register each. They may be asked twice, late, and to cancel what they never had."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from attrs import define, field

from examples.itinerary.messages import BookFlight, BookRoom, CancelFlight, CancelRoom, GiveCarBack, RentCar
from sagabus import Bus, Context, RetryPolicy
from sagas import Slip

CITY_WITHOUT_HOTELS: Final = "Atlantis"
CITY_WITHOUT_CARS: Final = "Venice"
CITY_WITH_A_BAD_LINE: Final = "Oslo"
CITY_WHERE_MAIL_IS_LOST: Final = "Lima"
_RETRY: Final = RetryPolicy(first_delay_s=0.1)

Tell = Callable[[Slip, str], None]
"""Told of a slip, and what was done about it."""


@define
class Register:
    """What one company has booked. Thread-safe.

    Attributes:
        tell: told of everything that happens.
        numbers: idempotency key -> booking number, of what stands.
        cancelled: the keys that were cancelled, also those never booked: nothing is booked under them any more.
    """

    tell: Tell
    numbers: dict[str, str] = field(factory=dict)
    cancelled: set[str] = field(factory=set)
    _last: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def book(self, slip: Slip, what: str) -> str | None:
        """Return the booking number for a slip, the same each time; None where it was cancelled before."""
        with self._lock:
            if slip.key in self.cancelled:
                return None
            number = self.numbers.get(slip.key)
            if number is None:
                self._last += 1
                number = self.numbers[slip.key] = f"{slip.step}-{self._last}"
                self.tell(slip, f"{what} booked")
            else:
                self.tell(slip, f"{what} asked for again, and booked already")
            return number

    def cancel(self, slip: Slip, what: str) -> None:
        """Make sure that nothing is booked under the key of a slip, now or later."""
        with self._lock:
            self.cancelled.add(slip.key)
            booked = self.numbers.pop(slip.key, None)
            self.tell(slip, f"{what} cancelled" if booked else f"no {what} to cancel")


def open_airline(bus: Bus, tell: Tell) -> Register:
    """Put the airline on *bus*. Its line breaks down at the first try for one city; the runtime tries again."""
    register, desk = Register(tell), bus.endpoint("airline", retry=_RETRY)

    @desk.consumer
    def book(m: BookFlight, context: Context) -> None:
        if m.city == CITY_WITH_A_BAD_LINE and context.attempt == 1:
            tell(m.slip, "the line to the airline broke down")
            raise ConnectionError("no answer from the airline")
        number = register.book(m.slip, "flight")
        context.reply(m.slip.done(number=number, lands="noon") if number else m.slip.failed("cancelled before"))

    @desk.consumer
    def cancel(m: CancelFlight, context: Context) -> None:
        register.cancel(m.slip, "flight")
        context.reply(m.slip.done())

    return register


def open_hotel(bus: Bus, tell: Tell) -> Register:
    """Put the hotel on *bus*. One city has none; from another one, the first answer is lost on its way."""
    register, desk = Register(tell), bus.endpoint("hotel")

    @desk.consumer
    def book(m: BookRoom, context: Context) -> None:
        if m.city == CITY_WITHOUT_HOTELS:
            tell(m.slip, "no hotel")
            context.reply(m.slip.failed(f"there is no hotel in {m.city}"))
            return
        number = register.book(m.slip, "room")
        if m.city == CITY_WHERE_MAIL_IS_LOST and m.slip.attempt == 1:
            tell(m.slip, "the hotel's answer was lost")
            return
        context.reply(m.slip.done(number=number) if number else m.slip.failed("cancelled before"))

    @desk.consumer
    def cancel(m: CancelRoom, context: Context) -> None:
        register.cancel(m.slip, "room")
        context.reply(m.slip.done())

    return register


def open_car_rental(bus: Bus, tell: Tell) -> Register:
    """Put the car rental on *bus*. One city has no cars."""
    register, desk = Register(tell), bus.endpoint("cars")

    @desk.consumer
    def rent(m: RentCar, context: Context) -> None:
        if m.city == CITY_WITHOUT_CARS:
            tell(m.slip, "no car")
            context.reply(m.slip.failed(f"there are no cars in {m.city}"))
            return
        number = register.book(m.slip, "car")
        context.reply(m.slip.done(number=number) if number else m.slip.failed("cancelled before"))

    @desk.consumer
    def give_back(m: GiveCarBack, context: Context) -> None:
        register.cancel(m.slip, "car")
        context.reply(m.slip.done())

    return register
