"""A handler raises where its message comes after one that should have followed it.

It looks right because the bank settles only what it has authorised, so an authorisation after the settlement must be an
error. But nothing orders the bank's messages on their way here. The settlement overtakes the authorisation, which then
fails however often it is tried, and ends as a dead letter; and the saga waits for it.

Mend: note whatever comes, in any order, and let `decide()` wait for the whole.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.expects_order.take-payment")
class TakePayment:
    order: str


@message("broken.expects_order.payment-authorised")
class PaymentAuthorised:
    order: str


@message("broken.expects_order.payment-settled")
class PaymentSettled:
    order: str


@message("broken.expects_order.order-paid")
class OrderPaid:
    order: str


@define
class Payment:
    authorised: Annotated[bool, any_true] = False
    settled: Annotated[bool, any_true] = False


class RefusesDisorder(Saga[Payment], key="order", merger=fieldwise(Payment)):
    @starts
    def asked(self, m: TakePayment) -> None:
        pass

    @handles
    def authorised(self, m: PaymentAuthorised) -> None:
        if self.state.settled:
            raise ValueError(f"the payment for order {m.order} is settled, and cannot be authorised any more")
        self.state.authorised = True

    @handles
    def settled(self, m: PaymentSettled) -> None:
        self.state.settled = True

    def decide(self) -> None:
        if self.state.authorised and self.state.settled:
            self.publish(OrderPaid(self.id))
            self.complete()


class TakesAnyOrder(RefusesDisorder, key="order", merger=fieldwise(Payment)):
    @handles
    def authorised(self, m: PaymentAuthorised) -> None:
        self.state.authorised = True


ARGUMENTS = {"start": [TakePayment("7")], "messages": [PaymentAuthorised("7"), PaymentSettled("7")]}
BROKEN = Exhibit("A handler that raises on disorder", RefusesDisorder, ARGUMENTS, ("dead-letter", "stuck"), length=4)
MENDED = Exhibit("A handler that notes whatever comes", TakesAnyOrder, ARGUMENTS)
