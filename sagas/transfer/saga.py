"""The saga: one write within a group; between groups reserve, deposit, confirm, or release what was reserved."""

from __future__ import annotations

import enum
from typing import Any, Final

from attrs import define

from sagabus import Saga, handles, starts
from sagas.transfer.account import Reason
from sagas.transfer.errors import TransferTakenError
from sagas.transfer.leg import Order
from sagas.transfer.messages import (
    ConfirmTransfer,
    DepositMoney,
    DepositRefused,
    MoneyDeposited,
    MoneyMoved,
    MoneyReleased,
    MoneyReserved,
    MoneyTransferred,
    MoveMoney,
    MoveRefused,
    ReleaseMoney,
    ReservationRefused,
    ReserveMoney,
    TransferConfirmed,
    TransferDeadline,
    TransferMoney,
    TransferRefused,
)

DEADLINE: Final = "deadline"
"""The name of a transfer's timer."""


class Phase(enum.StrEnum):
    """What a transfer waits for, or how it has ended."""

    NEW = "new"
    MOVING = "moving"
    RESERVING = "reserving"
    DEPOSITING = "depositing"
    CONFIRMING = "confirming"
    RELEASING = "releasing"
    TRANSFERRED = "transferred"
    REFUSED = "refused"


@define
class TransferState:
    """What a transfer knows.

    Attributes:
        order: which money is to go where.
        phase: what it waits for. It takes only the answer to what it has asked last; all others are old news.
        reason: why it is, or will be, refused.
        reply: whether the outcome goes to the sender alone.
    """

    order: Order | None = None
    phase: Phase = Phase.NEW
    reason: Reason | None = None
    reply: bool = False


class Transfer(Saga[TransferState], key="transfer"):
    """Move money from one account to another, under rules, with one outcome.

    Serial: the order of what it does is what it promises. `open_bank` opens the endpoint that changes the accounts.
    """

    @starts
    def requested(self, m: TransferMoney) -> None:
        """Move within a group, or reserve at the source."""
        if self.state.order is not None:
            self._check_same(m)
            return
        order = self.state.order = m.order
        self.state.reply = m.reply
        if order.source == order.target:
            self._end(Phase.REFUSED, Reason.SAME_ACCOUNT)
        elif order.within_one_group:
            self._ask(Phase.MOVING, MoveMoney(order))
        else:
            self._ask(Phase.RESERVING, ReserveMoney(order))
            if m.within_s is not None:
                self.defer(TransferDeadline(), after=m.within_s, name=DEADLINE)

    @handles
    def moved(self, m: MoneyMoved) -> None:
        """Both accounts of one group have been changed."""
        if self.state.phase is Phase.MOVING:
            self._end(Phase.TRANSFERRED)

    @handles
    def move_refused(self, m: MoveRefused) -> None:
        """Neither account of one group has been changed."""
        if self.state.phase is Phase.MOVING:
            self._end(Phase.REFUSED, m.reason)

    @handles
    def reserved(self, m: MoneyReserved) -> None:
        """Go forward; from here on no deadline cancels."""
        if self.state.phase is Phase.RESERVING:
            self.cancel(DEADLINE)
            self._ask(Phase.DEPOSITING, DepositMoney(self._order))

    @handles
    def reservation_refused(self, m: ReservationRefused) -> None:
        """There is nothing to give back."""
        if self.state.phase is Phase.RESERVING:
            self._end(Phase.REFUSED, m.reason)

    @handles
    def overdue(self, m: TransferDeadline) -> None:
        """Give back what may have been reserved, or will be: whether it was, is not known yet."""
        if self.state.phase is Phase.RESERVING:
            self._give_back(Reason.OVERDUE)

    @handles
    def deposited(self, m: MoneyDeposited) -> None:
        """Close the source's books. After a failover that lost what was decided, a release may find the money there."""
        if self.state.phase in (Phase.DEPOSITING, Phase.RELEASING):
            self._ask(Phase.CONFIRMING, ConfirmTransfer(self._order))

    @handles
    def deposit_refused(self, m: DepositRefused) -> None:
        """Give back what was reserved."""
        if self.state.phase is Phase.DEPOSITING:
            self._give_back(m.reason)

    @handles
    def confirmed(self, m: TransferConfirmed) -> None:
        """The source's books are closed."""
        if self.state.phase is Phase.CONFIRMING:
            self._end(Phase.TRANSFERRED)

    @handles
    def released(self, m: MoneyReleased) -> None:
        """The source has its money."""
        if self.state.phase is Phase.RELEASING:
            self._end(Phase.REFUSED, self.state.reason)

    def decide(self) -> None:
        """Announce the outcome, when there is one."""
        outcome = self._outcome()
        if outcome is None:
            return
        if self.state.reply:
            self.reply_to_starter(outcome)
        else:
            self.publish(outcome)
        self.complete()

    def on_late(self, message: Any) -> None:
        """Tell who asks again, and wants a reply, how it ended; nothing else is news any more."""
        if not isinstance(message, TransferMoney):
            return
        self._check_same(message)
        outcome = self._outcome()
        if message.reply and outcome is not None:
            self.reply(outcome)

    # -- how -----------------------------------------------------------------------------------------------------

    @property
    def _order(self) -> Order:
        assert self.state.order is not None
        return self.state.order

    def _check_same(self, m: TransferMoney) -> None:
        if m.order != self._order:
            raise TransferTakenError(m.transfer, self._order, m.order)

    def _ask(self, phase: Phase, command: object) -> None:
        self.state.phase = phase
        self.send(command)

    def _give_back(self, reason: Reason) -> None:
        self.state.reason = reason
        self._ask(Phase.RELEASING, ReleaseMoney(self._order, reason))

    def _end(self, phase: Phase, reason: Reason | None = None) -> None:
        self.state.phase, self.state.reason = phase, reason

    def _outcome(self) -> MoneyTransferred | TransferRefused | None:
        state = self.state
        if state.phase is Phase.TRANSFERRED:
            order = self._order
            return MoneyTransferred(order.transfer, order.source, order.target, order.cents)
        if state.phase is Phase.REFUSED and state.reason is not None:
            order = self._order
            return TransferRefused(order.transfer, order.source, order.target, order.cents, state.reason)
        return None
