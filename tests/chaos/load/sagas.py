"""Two sagas beside the credit check: one gathers a hundred replies, the other waits for a bell."""

from __future__ import annotations

from typing import Annotated, Final

from attrs import define, field

from mergers import any_true, fieldwise, highest, union
from sagabus import Saga, handles, starts
from tests.chaos.load.messages import (
    Bell,
    CallOff,
    Gather,
    Gathered,
    MakePiece,
    Never,
    PieceMade,
    Rung,
    SetBell,
    WatchEnded,
)

PIECES: Final = "pieces"
LONG_S: Final = 36_000.0
"""Later than every run ends."""


@define
class GatherState:
    wanted: Annotated[int, highest] = 0
    made: Annotated[set[int], union] = field(factory=set)


class Gathering(Saga[GatherState], key="number", merger=fieldwise(GatherState)):
    """One start, a hundred requests, a hundred replies that race, one result that names all of them."""

    @starts
    def asked(self, m: Gather) -> None:
        self.state.wanted = m.parts
        for part in range(m.parts):
            self.send(MakePiece(m.number, part), to=PIECES)

    @handles
    def made(self, m: PieceMade) -> None:
        self.state.made.add(m.part)

    def decide(self) -> None:
        if self.state.wanted and len(self.state.made) == self.state.wanted:
            self.publish(Gathered(self.key, sorted(self.state.made)))
            self.complete()


@define
class WatchState:
    rung: Annotated[bool, any_true] = False
    called_off: Annotated[bool, any_true] = False


class Watch(Saga[WatchState], key="number", merger=fieldwise(WatchState)):
    """A timer that fires once, or is cancelled; and one that completion cancels."""

    @starts
    def begun(self, m: SetBell) -> None:
        self.defer(Bell(), after=m.after_s, name="bell")
        self.defer(Never(), after=LONG_S, name="never")

    @handles(key="number")
    def called_off(self, m: CallOff) -> None:
        self.state.called_off = True
        self.cancel("bell")

    @handles
    def rang(self, m: Bell) -> None:
        self.state.rung = True
        self.publish(Rung(self.key))

    @handles
    def never(self, m: Never) -> None:
        raise AssertionError("a timer of ten hours has fired")

    def decide(self) -> None:
        if self.state.rung or self.state.called_off:
            self.publish(WatchEnded(self.key, "rung" if self.state.rung else "called off"))
            self.complete()
