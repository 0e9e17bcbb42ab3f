"""A reply may start the saga, "so that none is lost"; the real start then resets what the reply had brought.

It looks right because a reply that overtakes the start is kept instead of tried again. But the start's handler was
written for a saga that is not there yet, and begins with a fresh state. The offer is consumed and gone, and the saga
waits for it for ever.

Mend: let only the request start the saga. The runtime keeps an early reply and tries it again by itself.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, highest, lowest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.early_reply.insure-car")
class InsureCar:
    car: str
    insurers: int


@message("broken.early_reply.offer-made")
class OfferMade:
    car: str
    insurer: str
    premium: int


@message("broken.early_reply.accept-offer")
class AcceptOffer:
    car: str
    insurer: str


@define
class Offers:
    wanted: Annotated[int, highest] = 0
    premiums: Annotated[dict[str, int], by_key(lowest)] = field(factory=dict)


class StartsWithAnything(Saga[Offers], key="car", merger=fieldwise(Offers)):
    @starts
    def asked(self, m: InsureCar) -> None:
        self.state = Offers(wanted=m.insurers)

    @starts
    def offered(self, m: OfferMade) -> None:
        self.state.premiums[m.insurer] = m.premium

    def decide(self) -> None:
        premiums = self.state.premiums
        if self.state.wanted and len(premiums) == self.state.wanted:
            self.send(AcceptOffer(self.id, min(premiums, key=premiums.__getitem__)), to="insurers")
            self.complete()


class StartsWithRequest(StartsWithAnything, key="car", merger=fieldwise(Offers)):
    @handles
    def offered(self, m: OfferMade) -> None:
        self.state.premiums[m.insurer] = m.premium


ARGUMENTS = {
    "start": [InsureCar("B-XY 7", 2)],
    "messages": [OfferMade("B-XY 7", "a", 90), OfferMade("B-XY 7", "b", 80)],
}
BROKEN = Exhibit(
    "An early reply starts the saga, and is forgotten", StartsWithAnything, ARGUMENTS, ("stuck",), length=6
)
MENDED = Exhibit("Only the request starts the saga", StartsWithRequest, ARGUMENTS)
