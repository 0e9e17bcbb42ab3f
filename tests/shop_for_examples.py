"""A shop whose sagas wait, fork and fail, for the examples of what commands print."""

from __future__ import annotations

import os
from typing import Annotated

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Bus, RetryPolicy, Saga, handles, message, starts


class CardDeclinedError(Exception):
    """The bank said no."""


@message("shop.order")
class PlaceOrder:
    order: str


@message("shop.take-payment")
class TakePayment:
    order: str


@message("shop.payment-taken")
class PaymentTaken:
    order: str


@message("shop.parcel-packed")
class ParcelPacked:
    order: str


@message("shop.too-late")
class TooLate:
    order: str


@define
class OrderState:
    paid: Annotated[bool, any_true] = False
    packed: Annotated[bool, any_true] = False


class Order(Saga[OrderState], key="order", merger=fieldwise(OrderState)):
    """Paid, packed, and then over."""

    @starts
    def placed(self, m: PlaceOrder) -> None:
        """Ask for the money, and do not wait for ever."""
        self.send(TakePayment(m.order), to="till")
        self.defer(TooLate(m.order), after=3600.0, name="too-late")

    @handles
    def paid(self, m: PaymentTaken) -> None:
        """Note it."""
        self.state.paid = True

    @handles
    def packed(self, m: ParcelPacked) -> None:
        """Note it."""
        self.state.packed = True

    @handles
    def late(self, m: TooLate) -> None:
        """End what nobody answered."""
        self.complete()

    def decide(self) -> None:
        """End where both are there."""
        if self.state.paid and self.state.packed:
            self.complete()


bus = Bus(
    os.environ.get("SHOP_STORE", "memory:"),
    os.environ.get("SHOP_STORE", "memory:"),
    namespace=os.environ.get("SHOP_NAMESPACE", "shop"),
)
bus.endpoint("orders", Order)
till = bus.endpoint("till", retry=RetryPolicy(never=(CardDeclinedError,)))


@till.consumer
def take(m: TakePayment) -> None:
    """Be refused."""
    raise CardDeclinedError(m.order)
