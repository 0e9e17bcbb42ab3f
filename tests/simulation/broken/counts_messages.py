"""The saga counts messages instead of remembering which ones it saw, so a message sent twice counts twice.

It looks right because the runtime handles one message id once. But a sender that is not sure resends under a new id:
another message to the runtime, the same parcel to the shop. The order is charged for one book twice, and for the pen
not at all. The merger is blameless: it adds what each branch counted.

Mend: keep the identities, and derive number and sum from them.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, highest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.counts_messages.pack-order")
class PackOrder:
    order: str


@message("broken.counts_messages.item-packed")
class ItemPacked:
    order: str
    item: str
    price: int


@message("broken.counts_messages.order-charged")
class OrderCharged:
    order: str
    total: int


@define
class Counted:
    packed: int = 0
    total: int = 0


def added(a: Counted, b: Counted, ancestor: Counted) -> Counted:
    """Apply to the ancestor what either branch counted."""
    return Counted(a.packed + b.packed - ancestor.packed, a.total + b.total - ancestor.total)


class CountsMessages(Saga[Counted], key="order", merger=added):
    @starts
    def asked(self, m: PackOrder) -> None:
        pass

    @handles
    def packed(self, m: ItemPacked) -> None:
        self.state.packed += 1
        self.state.total += m.price

    def decide(self) -> None:
        if self.state.packed >= 2:
            self.publish(OrderCharged(self.id, self.state.total))
            self.complete()


@define
class Packed:
    prices: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class RemembersItems(Saga[Packed], key="order", merger=fieldwise(Packed)):
    @starts
    def asked(self, m: PackOrder) -> None:
        pass

    @handles
    def packed(self, m: ItemPacked) -> None:
        self.state.prices[m.item] = m.price

    def decide(self) -> None:
        if len(self.state.prices) >= 2:
            self.publish(OrderCharged(self.id, sum(self.state.prices.values())))
            self.complete()


ARGUMENTS = {
    "start": [PackOrder("7")],
    "messages": [ItemPacked("7", "book", 20), ItemPacked("7", "pen", 3)],
    "resends": 1,
    "outcomes": [(OrderCharged("7", 23),)],
}
BROKEN = Exhibit("A counter instead of a set of ids", CountsMessages, ARGUMENTS, ("outcome",), length=6)
MENDED = Exhibit("Numbers derived from what was seen", RemembersItems, ARGUMENTS)
