"""The merger's precedence goes round in a circle, so three siblings have as many results as groupings.

It looks right because each rule is sensible alone (a rejection overrules an approval, an approval closes a review, a
review reopens a rejection), and because for two siblings every law holds. With three, whichever pair is merged first
decides which verdict is left.

Mend: give the values one order from strongest to weakest, as `either(priority=[...])` demands, in handlers and merger.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Final

from attrs import define, field

from mergers import either, fieldwise, union
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.cyclic_precedence.file-claim")
class FileClaim:
    claim: str


@message("broken.cyclic_precedence.desk-reported")
class DeskReported:
    claim: str
    desk: str
    verdict: str


@message("broken.cyclic_precedence.claim-decided")
class ClaimDecided:
    claim: str
    verdict: str


OVERRULES: Final = {("rejected", "approved"), ("approved", "review"), ("review", "rejected")}
STRENGTH: Final = ("rejected", "review", "approved", "open")


def stronger(one: str, other: str) -> str:
    """Return which of two verdicts stands."""
    if one == "open" or (other, one) in OVERRULES:
        return other
    return one


def strongest(*verdicts: str) -> str:
    """Return the first in the order of strength."""
    return min(verdicts, key=STRENGTH.index)


@define
class CircularClaim:
    verdict: str = "open"
    desks: set[str] = field(factory=set)


def overruled(siblings: Sequence[CircularClaim]) -> CircularClaim:
    """Let the verdicts overrule each other, one after the other."""
    desks = set().union(*(s.desks for s in siblings))
    return CircularClaim(reduce(stronger, (s.verdict for s in siblings)), desks)


class OverrulesInCircles(Saga[CircularClaim], key="claim", merger=overruled):
    @starts
    def filed(self, m: FileClaim) -> None:
        pass

    @handles
    def reported(self, m: DeskReported) -> None:
        self.state.desks.add(m.desk)
        self.state.verdict = stronger(self.state.verdict, m.verdict)

    def decide(self) -> None:
        if len(self.state.desks) == 3:
            self.publish(ClaimDecided(self.id, self.state.verdict))
            self.complete()


@define
class RankedClaim:
    verdict: Annotated[str, either(priority=STRENGTH)] = "open"
    desks: Annotated[set[str], union] = field(factory=set)


class OverrulesByRank(Saga[RankedClaim], key="claim", merger=fieldwise(RankedClaim)):
    @starts
    def filed(self, m: FileClaim) -> None:
        pass

    @handles
    def reported(self, m: DeskReported) -> None:
        self.state.desks.add(m.desk)
        self.state.verdict = strongest(self.state.verdict, m.verdict)

    def decide(self) -> None:
        if len(self.state.desks) == 3:
            self.publish(ClaimDecided(self.id, self.state.verdict))
            self.complete()


ARGUMENTS = {
    "start": [FileClaim("7")],
    "messages": [DeskReported("7", desk, verdict) for desk, verdict in zip("abc", STRENGTH[:3], strict=True)],
    "workers": 3,  # two workers never leave three siblings
}
# Whoever wrote the circle expects any verdict: only a law of mergers can refute it.
ANY_VERDICT = {**ARGUMENTS, "outcomes": [(ClaimDecided("7", verdict),) for verdict in STRENGTH[:3]]}
BROKEN = Exhibit(
    "A merger that is not associative with three siblings", OverrulesInCircles, ANY_VERDICT, ("merger",), length=9
)
MENDED = Exhibit("A merger by one order of strength", OverrulesByRank, ARGUMENTS)
