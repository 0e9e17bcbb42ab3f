"""A payment that comes after the order was cancelled is kept, and nobody gives it back.

It looks right because each order is either paid or cancelled. But the money may be on its way when the time is up: the
message finds a completed saga, is late, and without `on_late` nothing comes of it.

Mend: say in `on_late` what is to be done, as far as the last state asks for it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.late_payment.place-order")
class PlaceOrder:
    order: str


@message("broken.late_payment.payment-received")
class PaymentReceived:
    order: str


@message("broken.late_payment.payment-overdue")
class PaymentOverdue:
    order: str


@message("broken.late_payment.refund-payment")
class RefundPayment:
    order: str


@message("broken.late_payment.order-paid")
class OrderPaid:
    order: str


@message("broken.late_payment.order-cancelled")
class OrderCancelled:
    order: str


@define
class Order:
    paid: Annotated[bool, any_true] = False
    overdue: Annotated[bool, any_true] = False


class KeepsLateMoney(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        self.defer(PaymentOverdue(m.order), after=timedelta(days=14), name="payment")

    @handles
    def received(self, m: PaymentReceived) -> None:
        self.state.paid = True

    @handles
    def overdue(self, m: PaymentOverdue) -> None:
        self.state.overdue = True

    def decide(self) -> None:
        if self.state.paid:
            self.publish(OrderPaid(self.id))
            self.complete()
        elif self.state.overdue:
            self.publish(OrderCancelled(self.id))
            self.complete()


class RefundsLateMoney(KeepsLateMoney, key="order", merger=fieldwise(Order)):
    def on_late(self, message: Any) -> None:
        if isinstance(message, PaymentReceived) and not self.state.paid:
            self.send(RefundPayment(self.id), to="bank")


def cancelled_means_refunded(final: Any) -> bool:
    """The money for a cancelled order goes back; it was paid in every schedule."""
    return OrderCancelled("7") not in final.decisions or RefundPayment("7") in final.sent


ARGUMENTS = {
    "start": [PlaceOrder("7")],
    "messages": [PaymentReceived("7")],
    "outcomes": [(OrderPaid("7"),), (OrderCancelled("7"),)],
    "finally_": [cancelled_means_refunded],
}
BROKEN = Exhibit("A late payment that is kept", KeepsLateMoney, ARGUMENTS, ("finally",), length=4)
MENDED = Exhibit("A late payment that is refunded", RefundsLateMoney, ARGUMENTS)
