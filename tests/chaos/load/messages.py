"""What travels in the load, beside the messages of the credit check."""

from __future__ import annotations

from sagabus import message


@message("chaos.gather")
class Gather:
    """Have so many pieces made, and say when all of them are there."""

    number: str
    parts: int


@message("chaos.make-piece")
class MakePiece:
    number: str
    part: int


@message("chaos.piece-made")
class PieceMade:
    part: int


@message("chaos.gathered")
class Gathered:
    """All pieces are there."""

    number: str
    parts: list[int]


@message("chaos.set-bell")
class SetBell:
    """Start a watch whose bell rings after *after_s* seconds."""

    number: str
    after_s: float


@message("chaos.call-off")
class CallOff:
    """End a watch before its bell rings."""

    number: str


@message("chaos.bell")
class Bell:
    """The timer that rings."""


@message("chaos.never")
class Never:
    """A timer that completion cancels."""


@message("chaos.rung")
class Rung:
    """The bell of a watch has rung."""

    number: str


@message("chaos.watch-ended")
class WatchEnded:
    number: str
    how: str
