"""A timer sets itself again and again, so an order that nobody pays never ends.

It looks right because the payment ends the waiting; in tests it always comes. Where it never comes the saga is neither
stuck nor done: it lives, and keeps the timers busy, for ever.

Mend: count the rounds in the state, and give up after the last.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from attrs import define

from mergers import any_true, fieldwise, highest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.endless_waiting.place-order")
class PlaceOrder:
    order: str


@message("broken.endless_waiting.payment-received")
class PaymentReceived:
    order: str


@message("broken.endless_waiting.look-again")
class LookAgain:
    order: str


@message("broken.endless_waiting.order-paid")
class OrderPaid:
    order: str


@message("broken.endless_waiting.order-expired")
class OrderExpired:
    order: str


@define
class Order:
    paid: Annotated[bool, any_true] = False
    looked: Annotated[int, highest] = 0  # only one timer is ever set, so no two branches count


class WaitsForEver(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        self.defer(LookAgain(m.order), after=timedelta(days=1), name="look")

    @handles
    def received(self, m: PaymentReceived) -> None:
        self.state.paid = True

    @handles
    def look(self, m: LookAgain) -> None:
        self.defer(LookAgain(m.order), after=timedelta(days=1), name="look")

    def decide(self) -> None:
        if self.state.paid:
            self.publish(OrderPaid(self.id))
            self.complete()


class GivesUp(WaitsForEver, key="order", merger=fieldwise(Order)):
    @handles
    def look(self, m: LookAgain) -> None:
        self.state.looked += 1
        if self.state.looked < 2:
            self.defer(LookAgain(m.order), after=timedelta(days=1), name="look")

    def decide(self) -> None:
        if self.state.paid:
            self.publish(OrderPaid(self.id))
            self.complete()
        elif self.state.looked == 2:
            self.publish(OrderExpired(self.id))
            self.complete()


BROKEN = Exhibit("A timer that is set for ever", WaitsForEver, {"start": [PlaceOrder("7")]}, ("livelock",), length=4)
MENDED = Exhibit(
    "A timer that gives up",
    GivesUp,
    {
        "start": [PlaceOrder("7")],
        "messages": [PaymentReceived("7")],
        "outcomes": [(OrderPaid("7"),), (OrderExpired("7"),)],
    },
)
