"""The handler of MergeSagaState compensates for a double booking, and does so anew with every merge.

It looks right because one fork has one merge. But where a third booking was being handled meanwhile there is a second
fork, and a second merge. It finds the two bookings still, and cancels the same one again. (It looks in the wrong place
as well: bookings that come one after the other never merge, and none is cancelled.)

Mend: take the decision which booking stays in `decide()`, and keep in the state what was cancelled.
"""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define, field

from mergers import fieldwise, union
from sagabus import MergeSagaState, Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.compensated_on_merge.find-room")
class FindRoom:
    guest: str


@message("broken.compensated_on_merge.room-booked")
class RoomBooked:
    guest: str
    hotel: str


@message("broken.compensated_on_merge.cancel-room")
class CancelRoom:
    guest: str
    hotel: str


@define
class Stay:
    rooms: Annotated[set[str], union] = field(factory=set)
    cancelled: Annotated[set[str], union] = field(factory=set)


class CancelsOnMerge(Saga[Stay], key="guest", merger=fieldwise(Stay)):
    @starts
    def asked(self, m: FindRoom) -> None:
        pass

    @handles
    def booked(self, m: RoomBooked) -> None:
        self.state.rooms.add(m.hotel)

    @handles
    def merged(self, m: MergeSagaState) -> None:
        for hotel in sorted(self.state.rooms)[1:]:
            self.send(CancelRoom(self.id, hotel), to="hotels")

    def decide(self) -> None:
        if len(self.state.rooms) == 3:
            self.complete()


class CancelsInDecide(Saga[Stay], key="guest", merger=fieldwise(Stay)):
    @starts
    def asked(self, m: FindRoom) -> None:
        pass

    @handles
    def booked(self, m: RoomBooked) -> None:
        self.state.rooms.add(m.hotel)

    def decide(self) -> None:
        while len(self.state.rooms) - len(self.state.cancelled) > 1:
            hotel = max(self.state.rooms - self.state.cancelled)
            self.state.cancelled.add(hotel)
            self.send(CancelRoom(self.id, hotel), to="hotels")
        if len(self.state.rooms) == 3:
            self.complete()


def no_room_cancelled_twice(moment: Any) -> bool:
    """A hotel is told once."""
    cancelled = [m for m in (*moment.sent, *moment.decisions) if isinstance(m, CancelRoom)]
    return len(cancelled) == len(set(cancelled))


ARGUMENTS = {
    "start": [FindRoom("Ada")],
    "messages": [RoomBooked("Ada", "Astoria"), RoomBooked("Ada", "Bristol"), RoomBooked("Ada", "Carlton")],
    "always": [no_room_cancelled_twice],
    "outcome": lambda final: final.completed,  # which rooms are cancelled depends on which came first
}
BROKEN = Exhibit("A compensation with every merge", CancelsOnMerge, ARGUMENTS, ("invariant",), length=12)
MENDED = Exhibit("A compensation that remembers itself", CancelsInDecide, ARGUMENTS)
