"""The merger takes the first two siblings and forgets that there may be more.

It looks right because two was all that anybody ever saw: any two siblings are merged as they should be. A third worker
makes a third sibling, and what that one learnt is lost.

Mend: fold all siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, lowest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.first_two_siblings.ask-for-rates")
class AskForRates:
    parcel: str


@message("broken.first_two_siblings.rate-offered")
class RateOffered:
    parcel: str
    carrier: str
    cents: int


@message("broken.first_two_siblings.book-carrier")
class BookCarrier:
    parcel: str
    carrier: str


@define
class Rates:
    offers: Annotated[dict[str, int], by_key(lowest)] = field(factory=dict)


def both(siblings: Sequence[Rates]) -> Rates:
    """Keep the lower offer of each carrier."""
    left, right = siblings[0].offers, siblings[1].offers
    return Rates({carrier: min(s[carrier] for s in (left, right) if carrier in s) for carrier in {**left, **right}})


class MergesTwo(Saga[Rates], key="parcel", merger=both):
    @starts
    def asked(self, m: AskForRates) -> None:
        pass

    @handles
    def offered(self, m: RateOffered) -> None:
        self.state.offers[m.carrier] = m.cents

    def decide(self) -> None:
        if len(self.state.offers) == 3:
            self.send(BookCarrier(self.id, min(self.state.offers, key=self.state.offers.__getitem__)), to="carriers")
            self.complete()


class MergesAll(MergesTwo, key="parcel", merger=fieldwise(Rates)):
    """The same saga; only the merger differs."""


ARGUMENTS = {
    "start": [AskForRates("7")],
    "messages": [RateOffered("7", "post", 700), RateOffered("7", "rail", 500), RateOffered("7", "van", 900)],
    "workers": 3,  # two workers never leave three siblings
}
BROKEN = Exhibit(
    "A merger of the first two siblings", MergesTwo, ARGUMENTS, ("merger", "lost-effect", "stuck"), length=9
)
MENDED = Exhibit("A merger of all siblings", MergesAll, ARGUMENTS)
