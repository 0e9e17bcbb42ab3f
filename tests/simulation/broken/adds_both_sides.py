"""The merger adds the sums of both sides, and what stood there before the fork is counted twice.

It looks right because two payments that meet on an empty account do add up. With a deposit paid before the fork, each
side holds the deposit and one payment: the sum of both has the deposit twice.

Mend: add the changes, not the sums: a + b - ancestor. Or keep the payments by id, and derive the sum.
"""

from __future__ import annotations

from attrs import define

from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.adds_both_sides.open-invoice")
class OpenInvoice:
    invoice: str
    amount: int
    deposit: int


@message("broken.adds_both_sides.payment-received")
class PaymentReceived:
    invoice: str
    amount: int


@message("broken.adds_both_sides.invoice-paid")
class InvoicePaid:
    invoice: str
    paid: int


@define
class Account:
    due: int = 0
    paid: int = 0


def both_sums(a: Account, b: Account, ancestor: Account) -> Account:
    """Add what either branch holds."""
    return Account(max(a.due, b.due), a.paid + b.paid)


def both_changes(a: Account, b: Account, ancestor: Account) -> Account:
    """Add to the ancestor what either branch added."""
    return Account(max(a.due, b.due), a.paid + b.paid - ancestor.paid)


class AddsSums(Saga[Account], key="invoice", merger=both_sums):
    @starts
    def opened(self, m: OpenInvoice) -> None:
        self.state.due = m.amount
        self.state.paid += m.deposit

    @handles
    def received(self, m: PaymentReceived) -> None:
        self.state.paid += m.amount

    def decide(self) -> None:
        if self.state.due and self.state.paid >= self.state.due:
            self.publish(InvoicePaid(self.id, self.state.paid))
            self.complete()


class AddsChanges(AddsSums, key="invoice", merger=both_changes):
    """The same saga; only the merger differs."""


ARGUMENTS = {
    "start": [OpenInvoice("7", 100, 40)],
    "messages": [PaymentReceived("7", 25), PaymentReceived("7", 35)],
    "outcomes": [(InvoicePaid("7", 100),)],
}
BROKEN = Exhibit(
    "A sum merged by adding both sides", AddsSums, ARGUMENTS, ("merger", "lost-effect", "outcome"), length=7
)
MENDED = Exhibit("A sum merged by adding both changes", AddsChanges, ARGUMENTS)
