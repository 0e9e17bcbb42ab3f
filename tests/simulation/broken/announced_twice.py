"""A verdict is published although the saga goes on, and published again with every later message.

It looks right because the verdict leaves from a settled saga, and only once all facts are there. But `decide()` runs
after every message, and without `complete()` nothing ends the saga: the delivery note finds the same picture, and the
customer gets a second confirmation.

Mend: write in the state, in `decide()` itself, that it was said; a merge must never forget it.
"""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.announced_twice.place-order")
class PlaceOrder:
    order: str


@message("broken.announced_twice.order-paid")
class OrderPaid:
    order: str


@message("broken.announced_twice.parcel-delivered")
class ParcelDelivered:
    order: str


@message("broken.announced_twice.order-confirmed")
class OrderConfirmed:
    order: str


@define
class Order:
    paid: Annotated[bool, any_true] = False
    delivered: Annotated[bool, any_true] = False
    confirmed: Annotated[bool, any_true] = False


class ConfirmsAgain(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        pass

    @handles
    def payment(self, m: OrderPaid) -> None:
        self.state.paid = True

    @handles
    def delivery(self, m: ParcelDelivered) -> None:
        self.state.delivered = True

    def decide(self) -> None:
        if self.state.paid:
            self.publish(OrderConfirmed(self.id))
        if self.state.paid and self.state.delivered:
            self.complete()


class ConfirmsOnce(ConfirmsAgain, key="order", merger=fieldwise(Order)):
    def decide(self) -> None:
        if self.state.paid and not self.state.confirmed:
            self.publish(OrderConfirmed(self.id))
            self.state.confirmed = True
        if self.state.paid and self.state.delivered:
            self.complete()


def confirmed_at_most_once(moment: Any) -> bool:
    """A customer is told once."""
    return moment.decisions.count(OrderConfirmed("7")) <= 1


ARGUMENTS = {
    "start": [PlaceOrder("7")],
    "messages": [OrderPaid("7"), ParcelDelivered("7")],
    "always": [confirmed_at_most_once],
}
BROKEN = Exhibit("A verdict before the end, said twice", ConfirmsAgain, ARGUMENTS, ("invariant", "outcome"), length=6)
MENDED = Exhibit("A verdict before the end, guarded by the state", ConfirmsOnce, ARGUMENTS)
