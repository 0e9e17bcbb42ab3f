"""The saga strikes off whom it waits for, and a merge by union brings the struck ones back.

It looks right because `union` obeys every law and loses nothing. That is the fault: a removal is something too. Each
branch struck off one bureau, the union has both again, and the saga waits for replies it has had.

Mend: let sets only grow. Keep whom was asked and who answered; whoever is missing is the difference.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import fieldwise, union
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.removal_returns.close-account")
class CloseAccount:
    customer: str


@message("broken.removal_returns.data-erased")
class DataErased:
    customer: str
    system: str


@message("broken.removal_returns.account-closed")
class AccountClosed:
    customer: str


@define
class Remaining:
    waiting_for: Annotated[set[str], union] = field(factory=set)


class StrikesOff(Saga[Remaining], key="customer", merger=fieldwise(Remaining)):
    @starts
    def asked(self, m: CloseAccount) -> None:
        self.state.waiting_for = {"shop", "billing"}

    @handles
    def erased(self, m: DataErased) -> None:
        self.state.waiting_for.discard(m.system)

    def decide(self) -> None:
        if not self.state.waiting_for:
            self.publish(AccountClosed(self.id))
            self.complete()


@define
class Progress:
    asked: Annotated[set[str], union] = field(factory=set)
    erased: Annotated[set[str], union] = field(factory=set)


class TicksOff(Saga[Progress], key="customer", merger=fieldwise(Progress)):
    @starts
    def asked(self, m: CloseAccount) -> None:
        self.state.asked = {"shop", "billing"}

    @handles
    def erased(self, m: DataErased) -> None:
        self.state.erased.add(m.system)

    def decide(self) -> None:
        if self.state.asked <= self.state.erased:
            self.publish(AccountClosed(self.id))
            self.complete()


ARGUMENTS = {"start": [CloseAccount("42")], "messages": [DataErased("42", "shop"), DataErased("42", "billing")]}
BROKEN = Exhibit("A removal that a merge takes back", StrikesOff, ARGUMENTS, ("lost-effect", "stuck"), length=8)
MENDED = Exhibit("Sets that only grow", TicksOff, ARGUMENTS)
