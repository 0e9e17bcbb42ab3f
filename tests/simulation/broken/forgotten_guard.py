"""The guard against saying a thing twice is merged so that one ignorant branch opens it again.

It looks right because decisions leave only from a settled saga, the guard is written with them, and "every branch must
agree that it was said" sounds careful. But the branch that forked off before knows nothing of it: after the merge the
guard is open, and the customer is told again.

Mend: what was said stays said, whoever knows it: `any_true`.
"""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define

from mergers import all_true, any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.forgotten_guard.place-order")
class PlaceOrder:
    order: str


@message("broken.forgotten_guard.order-paid")
class OrderPaid:
    order: str


@message("broken.forgotten_guard.parcel-delivered")
class ParcelDelivered:
    order: str


@message("broken.forgotten_guard.order-confirmed")
class OrderConfirmed:
    order: str


@define
class Order:
    paid: Annotated[bool, any_true] = False
    delivered: Annotated[bool, any_true] = False
    confirmed: Annotated[bool, any_true] = False


class ForgetsGuard(Saga[Order], key="order", merger=fieldwise(Order, confirmed=all_true)):
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
        if self.state.paid and not self.state.confirmed:
            self.publish(OrderConfirmed(self.id))
            self.state.confirmed = True
        if self.state.paid and self.state.delivered:
            self.complete()


class KeepsGuard(ForgetsGuard, key="order", merger=fieldwise(Order)):
    """The same saga; only the merger differs."""


def confirmed_at_most_once(moment: Any) -> bool:
    """A customer is told once."""
    return moment.decisions.count(OrderConfirmed("7")) <= 1


ARGUMENTS = {
    "start": [PlaceOrder("7")],
    "messages": [OrderPaid("7"), ParcelDelivered("7")],
    "always": [confirmed_at_most_once],
}
BROKEN = Exhibit(
    "A guard that a merge forgets", ForgetsGuard, ARGUMENTS, ("invariant", "lost-effect", "outcome"), length=8
)
MENDED = Exhibit("A guard that a merge keeps", KeepsGuard, ARGUMENTS)
