"""The merger pours all siblings into the first one, instead of making a new state.

It looks right because the result is. But a sibling is a stored version: whoever merges twice, compares the siblings
with the result, or shows them to a person, sees one that was never stored.

Mend: begin with a new, empty value; or use `fieldwise`, which shares nothing with its siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, highest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.mutating_merger.check-credit")
class CheckCredit:
    customer: str


@message("broken.mutating_merger.score-reported")
class ScoreReported:
    customer: str
    bureau: str
    points: int


@message("broken.mutating_merger.credit-decided")
class CreditDecided:
    customer: str
    points: int


@define
class Scores:
    points: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


def poured(siblings: Sequence[Scores]) -> Scores:
    """Keep the highest score of each bureau."""
    first, *others = siblings
    for other in others:
        for bureau, points in other.points.items():
            first.points[bureau] = max(points, first.points.get(bureau, points))
    return first


class PoursIntoFirst(Saga[Scores], key="customer", merger=poured):
    @starts
    def requested(self, m: CheckCredit) -> None:
        pass

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.points[m.bureau] = m.points

    def decide(self) -> None:
        if len(self.state.points) == 2:
            self.publish(CreditDecided(self.id, sum(self.state.points.values())))
            self.complete()


class MakesNewState(PoursIntoFirst, key="customer", merger=fieldwise(Scores)):
    """The same saga; only the merger differs."""


ARGUMENTS = {
    "start": [CheckCredit("42")],
    "messages": [ScoreReported("42", "equifax", 700), ScoreReported("42", "experian", 650)],
}
BROKEN = Exhibit("A merger that mutates its input", PoursIntoFirst, ARGUMENTS, ("merger",), length=7)
MENDED = Exhibit("A merger that makes a new state", MakesNewState, ARGUMENTS)
