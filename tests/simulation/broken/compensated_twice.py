"""A message handler compensates, guarded by the state; two refusals handled at once refund the money twice.

It looks right because the guard is there, and one refusal after the other refunds once. What a message handler sends is
a fact and leaves from a fork too: each branch reads the guard from before the fork, finds it open, and refunds.

Mend: compensate in `decide()`, and write the guard there. A decision leaves only from a state that has seen every
stored version.
"""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define, field

from mergers import any_true, fieldwise, union
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.compensated_twice.book-trip")
class BookTrip:
    trip: str


@message("broken.compensated_twice.booking-refused")
class BookingRefused:
    trip: str
    what: str


@message("broken.compensated_twice.refund-payment")
class RefundPayment:
    trip: str


@message("broken.compensated_twice.trip-cancelled")
class TripCancelled:
    trip: str


@define
class Trip:
    refused: Annotated[set[str], union] = field(factory=set)
    refunded: Annotated[bool, any_true] = False


class RefundsInHandler(Saga[Trip], key="trip", merger=fieldwise(Trip)):
    @starts
    def asked(self, m: BookTrip) -> None:
        pass

    @handles
    def refused(self, m: BookingRefused) -> None:
        self.state.refused.add(m.what)
        if not self.state.refunded:
            self.send(RefundPayment(m.trip), to="bank")
            self.state.refunded = True

    def decide(self) -> None:
        if len(self.state.refused) == 2:
            self.publish(TripCancelled(self.id))
            self.complete()


class RefundsInDecide(Saga[Trip], key="trip", merger=fieldwise(Trip)):
    @starts
    def asked(self, m: BookTrip) -> None:
        pass

    @handles
    def refused(self, m: BookingRefused) -> None:
        self.state.refused.add(m.what)

    def decide(self) -> None:
        if self.state.refused and not self.state.refunded:
            self.send(RefundPayment(self.id), to="bank")
            self.state.refunded = True
        if len(self.state.refused) == 2:
            self.publish(TripCancelled(self.id))
            self.complete()


def refunded_at_most_once(moment: Any) -> bool:
    """Nobody gets the money back twice."""
    return [*moment.sent, *moment.decisions].count(RefundPayment("7")) <= 1


ARGUMENTS = {
    "start": [BookTrip("7")],
    "messages": [BookingRefused("7", "hotel"), BookingRefused("7", "car")],
    "always": [refunded_at_most_once],
}
BROKEN = Exhibit("A compensation that both branches send", RefundsInHandler, ARGUMENTS, ("invariant",), length=6)
MENDED = Exhibit("A compensation that is decided", RefundsInDecide, ARGUMENTS)
