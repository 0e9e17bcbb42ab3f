"""An impatient customer orders twice, and two workers that handle both clicks at once charge the card twice.

It looks right because the order is one saga by its key, and the second start finds the guard. Two concurrent starts
find no saga, either of them, so both make their requests.

Mend: charge in `decide()`, and write the guard there.
"""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define

from mergers import any_true, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.double_start.place-order")
class PlaceOrder:
    order: str


@message("broken.double_start.charge-card")
class ChargeCard:
    order: str


@message("broken.double_start.card-charged")
class CardCharged:
    order: str


@message("broken.double_start.order-paid")
class OrderPaid:
    order: str


@define
class Order:
    asked: Annotated[bool, any_true] = False
    paid: Annotated[bool, any_true] = False


class ChargesAtStart(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        if not self.state.asked:
            self.send(ChargeCard(m.order), to="bank")
            self.state.asked = True

    @handles
    def charged(self, m: CardCharged) -> None:
        self.state.paid = True

    def decide(self) -> None:
        if self.state.paid:
            self.publish(OrderPaid(self.id))
            self.complete()


class ChargesInDecide(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        pass

    @handles
    def charged(self, m: CardCharged) -> None:
        self.state.paid = True

    def decide(self) -> None:
        if not self.state.asked:
            self.send(ChargeCard(self.id), to="bank")
            self.state.asked = True
        if self.state.paid:
            self.publish(OrderPaid(self.id))
            self.complete()


def charged_at_most_once(moment: Any) -> bool:
    """One order, one charge."""
    return [*moment.sent, *moment.decisions].count(ChargeCard("7")) <= 1


ARGUMENTS = {
    "start": [PlaceOrder("7"), PlaceOrder("7")],
    "messages": [CardCharged("7")],
    "always": [charged_at_most_once],
}
BROKEN = Exhibit("A request made by each of two starts", ChargesAtStart, ARGUMENTS, ("invariant",), length=4)
MENDED = Exhibit("A request that is decided", ChargesInDecide, ARGUMENTS)
