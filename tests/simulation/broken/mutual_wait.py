"""Two sagas wait for each other: no parcel before the money, no money before the parcel.

It looks right because each rule is prudent alone, and each saga passes its own tests, where the test sends what the
saga waits for. Together neither ever moves.

Mend: one of the two must go first with something it can take back: the card is authorised at once, the parcel leaves on
that, and the money is captured when it has left.
"""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.mutual_wait.collect-payment")
class CollectPayment:
    order: str


@message("broken.mutual_wait.ship-order")
class ShipOrder:
    order: str


@message("broken.mutual_wait.money-secured")
class MoneySecured:
    order: str


@message("broken.mutual_wait.parcel-left")
class ParcelLeft:
    order: str


@message("broken.mutual_wait.money-captured")
class MoneyCaptured:
    order: str


@define
class Waiting:
    heard: Annotated[bool, any_true] = False


class PaysOnParcel(Saga[Waiting], key="order", merger=fieldwise(Waiting)):
    @starts
    def asked(self, m: CollectPayment) -> None:
        pass

    @handles
    def left(self, m: ParcelLeft) -> None:
        self.state.heard = True

    def decide(self) -> None:
        if self.state.heard:
            self.publish(MoneySecured(self.id))
            self.complete()


class ShipsOnMoney(Saga[Waiting], key="order", merger=fieldwise(Waiting)):
    @starts
    def asked(self, m: ShipOrder) -> None:
        pass

    @handles
    def secured(self, m: MoneySecured) -> None:
        self.state.heard = True

    def decide(self) -> None:
        if self.state.heard:
            self.publish(ParcelLeft(self.id))
            self.complete()


class SecuresFirst(Saga[Waiting], key="order", merger=fieldwise(Waiting)):
    @starts
    def asked(self, m: CollectPayment) -> None:
        self.publish(MoneySecured(m.order))

    @handles
    def left(self, m: ParcelLeft) -> None:
        self.state.heard = True

    def decide(self) -> None:
        if self.state.heard:
            self.publish(MoneyCaptured(self.id))
            self.complete()


def both_ended(payment: type[Saga[Waiting]]) -> Any:
    """Return an outcome: whether payment and shipment ended, whichever of them was started first."""
    return lambda final: (final.saga(payment, "7").completed, final.saga(ShipsOnMoney, "7").completed)


STARTS = [CollectPayment("7"), ShipOrder("7")]
BROKEN = Exhibit(
    "Two sagas that wait for each other",
    (PaysOnParcel, ShipsOnMoney),
    {"start": STARTS, "outcome": both_ended(PaysOnParcel)},
    ("stuck",),
    length=4,
)
MENDED = Exhibit(
    "Two sagas, of which one goes first",
    (SecuresFirst, ShipsOnMoney),
    {"start": STARTS, "outcome": both_ended(SecuresFirst)},
)
