"""What an approval knows, and what becomes of votes that are cast at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from attrs import define, field, frozen

from mergers import by_key, first_of, highest, rule


@frozen
class Ballot:
    """The vote of one person."""

    approves: bool
    comment: str = ""


def graver_of(ballots: Sequence[Ballot]) -> Ballot:
    """Return the one that counts of some votes of one person."""
    return min(ballots, key=lambda ballot: (ballot.approves, ballot.comment))


graver = rule(graver_of)
"""Keep a rejection before an approval, whichever was said first."""


@define
class ApprovalState:
    """What an approval knows. Siblings know different votes; together they know them all.

    Attributes:
        ballots: who -> their vote. Of two from one person a rejection stays.
        cancellation: by whom and why it was cancelled; None where it was not.
        due: how many levels were to be asked by now, from the time that has passed; more than `asked` at the last one:
            it is over.
        asked: how many have been asked. Only `decide()` writes it.
        reminder_due: the last reminder whose time has come, as (level, number).
        reminded: the last reminder that was sent, likewise. Only `decide()` writes it.
        about: what the hook `about` kept of the request.
    """

    ballots: Annotated[dict[str, Ballot], by_key(graver)] = field(factory=dict)
    cancellation: Annotated[tuple[str, str] | None, first_of] = None
    due: Annotated[int, highest] = 0
    asked: Annotated[int, highest] = 0
    reminder_due: Annotated[tuple[int, int], highest] = (0, 0)
    reminded: Annotated[tuple[int, int], highest] = (0, 0)
    about: Annotated[Any, first_of] = None
