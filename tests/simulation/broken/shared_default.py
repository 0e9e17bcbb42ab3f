"""The state's default is one list that all new sagas share, so an order starts with the lines of the others.

It looks right because every state read from the store has a list of its own: only the first run of a saga, on a state
that was just made, writes into the default. The first test passes, the second finds strange goods in its order.

Mend: `field(factory=list)`.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import any_true, fieldwise, first_of
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.shared_default.place-order")
class PlaceOrder:
    order: str
    goods: str


@message("broken.shared_default.order-paid")
class OrderPaid:
    order: str


@message("broken.shared_default.ship-goods")
class ShipGoods:
    order: str
    goods: tuple[str, ...]


@define
class SharedOrder:
    goods: Annotated[list[str], first_of] = field(default=[])
    paid: Annotated[bool, any_true] = False


class SharesDefault(Saga[SharedOrder], key="order", merger=fieldwise(SharedOrder)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        self.state.goods.append(m.goods)

    @handles
    def payment(self, m: OrderPaid) -> None:
        self.state.paid = True

    def decide(self) -> None:
        if self.state.paid:
            self.send(ShipGoods(self.id, tuple(self.state.goods)), to="shipping")
            self.complete()


@define
class Order:
    goods: Annotated[list[str], first_of] = field(factory=list)
    paid: Annotated[bool, any_true] = False


class OwnsDefault(Saga[Order], key="order", merger=fieldwise(Order)):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        self.state.goods.append(m.goods)

    @handles
    def payment(self, m: OrderPaid) -> None:
        self.state.paid = True

    def decide(self) -> None:
        if self.state.paid:
            self.send(ShipGoods(self.id, tuple(self.state.goods)), to="shipping")
            self.complete()


ARGUMENTS = {"start": [PlaceOrder("7", "book")], "messages": [OrderPaid("7")]}
BROKEN = Exhibit("A mutable default shared by all sagas", SharesDefault, ARGUMENTS, ("impure",), length=1)
MENDED = Exhibit("A default made anew for each saga", OwnsDefault, ARGUMENTS)
