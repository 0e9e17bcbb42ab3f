"""What travels: the command that users send, what they hear of it, and what saga and bank say to each other."""

from __future__ import annotations

from typing import Any

from attrs import field

from sagabus import DocumentKey, message
from sagas.transfer.account import Reason, an_amount
from sagas.transfer.leg import Order, a_transfer, an_account


def _check_within(instance: object, attribute: object, within_s: Any) -> None:
    if within_s is not None and not within_s > 0:
        raise ValueError(f"within_s={within_s!r} is no time; give seconds over 0, or None to wait for ever")


# -- for users -----------------------------------------------------------------------------------------------------


@message("sagas.transfer.transfer-money")
class TransferMoney:
    """Move money from one account to another. Safe to deliver twice, and to send twice.

    Attributes:
        transfer: an id of your own, unique in the whole bank.
        source: the account that pays: its document, in a group.
        target: the account that receives, in the same group or in another.
        cents: how much, at least 1.
        within_s: between groups: cancel if the money is not on its way after so many seconds; None never does.
        reply: whether the outcome goes to whoever sent this, who then needs a reply address, and to nobody else;
            otherwise it is published.
    """

    transfer: str = field(validator=a_transfer)
    source: DocumentKey = field(validator=an_account)
    target: DocumentKey = field(validator=an_account)
    cents: int = field(validator=an_amount)
    within_s: float | None = field(default=None, validator=_check_within)
    reply: bool = False

    @property
    def order(self) -> Order:
        """Return what it says of the money."""
        return Order(self.transfer, self.source, self.target, self.cents)


@message("sagas.transfer.money-transferred")
class MoneyTransferred:
    """The money is where it should be, and all books are closed."""

    transfer: str
    source: DocumentKey
    target: DocumentKey
    cents: int


@message("sagas.transfer.transfer-refused")
class TransferRefused:
    """No money was moved, and all books are closed."""

    transfer: str
    source: DocumentKey
    target: DocumentKey
    cents: int
    reason: Reason


# -- within a group ------------------------------------------------------------------------------------------------


@message("sagas.transfer.move-money")
class MoveMoney:
    """Move money between two accounts of one group, in one write."""

    order: Order


@message("sagas.transfer.money-moved")
class MoneyMoved:
    """It has been moved."""

    transfer: str


@message("sagas.transfer.move-refused")
class MoveRefused:
    """It stays where it is, for good."""

    transfer: str
    reason: Reason


# -- between groups ------------------------------------------------------------------------------------------------


@message("sagas.transfer.reserve-money")
class ReserveMoney:
    """Set money aside at the source."""

    order: Order


@message("sagas.transfer.money-reserved")
class MoneyReserved:
    """It has been set aside, until it is confirmed or released."""

    transfer: str


@message("sagas.transfer.reservation-refused")
class ReservationRefused:
    """Nothing was set aside, and nothing will be."""

    transfer: str
    reason: Reason


@message("sagas.transfer.deposit-money")
class DepositMoney:
    """Put what was set aside at the source into the target."""

    order: Order


@message("sagas.transfer.money-deposited")
class MoneyDeposited:
    """The target has it."""

    transfer: str


@message("sagas.transfer.deposit-refused")
class DepositRefused:
    """The target has not taken it, and will not."""

    transfer: str
    reason: Reason


@message("sagas.transfer.confirm-transfer")
class ConfirmTransfer:
    """Drop what was set aside at the source: the target has it."""

    order: Order


@message("sagas.transfer.transfer-confirmed")
class TransferConfirmed:
    """It has been dropped."""

    transfer: str


@message("sagas.transfer.release-money")
class ReleaseMoney:
    """Give back what was set aside at the source, and set nothing aside for this transfer any more."""

    order: Order
    reason: Reason


@message("sagas.transfer.money-released")
class MoneyReleased:
    """The source has it back, or never had it set aside."""

    transfer: str


@message("sagas.transfer.deadline")
class TransferDeadline:
    """The time in which the money had to be on its way is over."""
