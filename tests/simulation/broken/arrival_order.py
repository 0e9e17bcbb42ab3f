"""The last answer to arrive wins, but nothing promises an order, so the parcel goes where chance says.

It looks right because the newer address is usually sent, and therefore handled, last. Queues, retries and workers
change that order. The merger cannot help: the state does not say which address is newer.

Mend: let the message say when its fact was true, keep that beside the value, and let the later fact win, in the handler
and in the merger.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import fieldwise, first_of, highest, latest, union
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.arrival_order.find-address")
class FindAddress:
    order: str


@message("broken.arrival_order.address-reported")
class AddressReported:
    order: str
    source: str
    address: str
    changed_at: int


@message("broken.arrival_order.ship-to")
class ShipTo:
    order: str
    address: str


@define
class LastSaid:
    answered: Annotated[set[str], union] = field(factory=set)
    address: Annotated[str | None, first_of] = None


class TakesLastArrival(Saga[LastSaid], key="order", merger=fieldwise(LastSaid)):
    @starts
    def asked(self, m: FindAddress) -> None:
        pass

    @handles
    def reported(self, m: AddressReported) -> None:
        self.state.answered.add(m.source)
        self.state.address = m.address

    def decide(self) -> None:
        if len(self.state.answered) == 2:
            self.send(ShipTo(self.id, self.state.address), to="shipping")
            self.complete()


@define
class NewestSaid:
    answered: Annotated[set[str], union] = field(factory=set)
    address: Annotated[str | None, latest(by="changed_at")] = None
    changed_at: Annotated[int, highest] = 0


class TakesNewest(Saga[NewestSaid], key="order", merger=fieldwise(NewestSaid)):
    @starts
    def asked(self, m: FindAddress) -> None:
        pass

    @handles
    def reported(self, m: AddressReported) -> None:
        self.state.answered.add(m.source)
        if m.changed_at > self.state.changed_at:
            self.state.address, self.state.changed_at = m.address, m.changed_at

    def decide(self) -> None:
        if len(self.state.answered) == 2:
            self.send(ShipTo(self.id, self.state.address), to="shipping")
            self.complete()


ARGUMENTS = {
    "start": [FindAddress("7")],
    "messages": [AddressReported("7", "shop", "Old Road 1", 2019), AddressReported("7", "bank", "New Street 2", 2024)],
    "outcomes": [(ShipTo("7", "New Street 2"),)],
}
BROKEN = Exhibit("The last writer wins, in the order of arrival", TakesLastArrival, ARGUMENTS, ("outcome",), length=6)
MENDED = Exhibit("The latest fact wins, in any order of arrival", TakesNewest, ARGUMENTS)
