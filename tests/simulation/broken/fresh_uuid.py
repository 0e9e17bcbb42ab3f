"""A payment's reference is a fresh UUID, so the bank takes a run that is made again for a second payment.

It looks right because idempotency keys should be unique. They should also be the same when the same thing is asked
again, and here every run, and each of two concurrent starts, asks under a new one.

Mend: derive the reference from what identifies the payment, with `uuid5`.
"""

from __future__ import annotations

from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.fresh_uuid.pay-bill")
class PayBill:
    bill: str


@message("broken.fresh_uuid.transfer-money")
class TransferMoney:
    bill: str
    reference: UUID


@message("broken.fresh_uuid.money-transferred")
class MoneyTransferred:
    bill: str


@message("broken.fresh_uuid.bill-paid")
class BillPaid:
    bill: str


@define
class Bill:
    transferred: Annotated[bool, any_true] = False


class FreshReference(Saga[Bill], key="bill", merger=fieldwise(Bill)):
    @starts
    def asked(self, m: PayBill) -> None:
        self.send(TransferMoney(m.bill, uuid4()), to="bank")

    @handles
    def transferred(self, m: MoneyTransferred) -> None:
        self.state.transferred = True

    def decide(self) -> None:
        if self.state.transferred:
            self.publish(BillPaid(self.id))
            self.complete()


class DerivedReference(FreshReference, key="bill", merger=fieldwise(Bill)):
    @starts
    def asked(self, m: PayBill) -> None:
        self.send(TransferMoney(m.bill, uuid5(NAMESPACE_URL, f"shop:bill:{m.bill}")), to="bank")


ARGUMENTS = {"start": [PayBill("7")], "messages": [MoneyTransferred("7")]}
BROKEN = Exhibit("A reference that is new with every run", FreshReference, ARGUMENTS, ("impure",), length=1)
MENDED = Exhibit("A reference that is the same with every run", DerivedReference, ARGUMENTS)
