"""A timeout decides although the reply it waited for is there, so money is captured for a cancelled order.

It looks right because the reply usually ends the waiting. Here the order waits for the goods as well: the card is
authorised, the goods are late, the timer fires, and its handler does not look whether there is still anything to time
out.

Mend: a timer's handler asks the state whether it still matters; the reply cancels the timer; and the merger says which
wins where reply and timer meet. (An authorisation that comes too late is not captured, and lapses by itself.)
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from attrs import define

from mergers import any_true, either, fieldwise
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.timer_after_reply.place-order")
class PlaceOrder:
    order: str


@message("broken.timer_after_reply.card-authorised")
class CardAuthorised:
    order: str


@message("broken.timer_after_reply.goods-reserved")
class GoodsReserved:
    order: str


@message("broken.timer_after_reply.card-timed-out")
class CardTimedOut:
    order: str


@message("broken.timer_after_reply.capture-money")
class CaptureMoney:
    order: str


@message("broken.timer_after_reply.order-accepted")
class OrderAccepted:
    order: str


@message("broken.timer_after_reply.order-cancelled")
class OrderCancelled:
    order: str


@define
class Order:
    card: Annotated[
        Literal["authorised", "timed out", "asked"], either(priority=["authorised", "timed out", "asked"])
    ] = "asked"
    reserved: Annotated[bool, any_true] = False


class TimerAlwaysDecides(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        self.defer(CardTimedOut(m.order), after=timedelta(minutes=15), name="card")

    @handles
    def authorised(self, m: CardAuthorised) -> None:
        self.state.card = "authorised"
        self.send(CaptureMoney(m.order), to="bank")

    @handles
    def goods(self, m: GoodsReserved) -> None:
        self.state.reserved = True

    @handles
    def timed_out(self, m: CardTimedOut) -> None:
        self.state.card = "timed out"

    def decide(self) -> None:
        if self.state.card == "timed out":
            self.publish(OrderCancelled(self.id))
            self.complete()
        elif self.state.card == "authorised" and self.state.reserved:
            self.publish(OrderAccepted(self.id))
            self.complete()


class TimerLooksFirst(TimerAlwaysDecides, key="order", merger=fieldwise(Order)):
    @handles
    def authorised(self, m: CardAuthorised) -> None:
        self.state.card = "authorised"
        self.cancel("card")
        self.send(CaptureMoney(m.order), to="bank")

    @handles
    def timed_out(self, m: CardTimedOut) -> None:
        if self.state.card == "asked":
            self.state.card = "timed out"


def no_money_for_a_cancelled_order(moment: Any) -> bool:
    """Money is never captured for an order that is cancelled."""
    return not (CaptureMoney("7") in moment.sent and OrderCancelled("7") in moment.decisions)


ARGUMENTS = {
    "start": [PlaceOrder("7")],
    "messages": [CardAuthorised("7"), GoodsReserved("7")],
    "outcomes": [(OrderAccepted("7"),), (OrderCancelled("7"),)],
    "always": [no_money_for_a_cancelled_order],
}
BROKEN = Exhibit(
    "A timer that fires after the reply, and decides", TimerAlwaysDecides, ARGUMENTS, ("invariant",), length=6
)
MENDED = Exhibit("A timer that looks whether it still matters", TimerLooksFirst, ARGUMENTS)
