"""The saga decides at exactly two scores, and misses that moment where a merge brings it from one to three.

It looks right because scores come one by one, so there must be a moment with two. But what forks decides nothing: one
sibling knows two scores, the other a third, and the first `decide()` after that sees three. So it does where one run
merges two siblings and handles the third score.

Mend: ask for enough (`>=`), never for exactly enough.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, highest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.exact_count.check-credit")
class CheckCredit:
    customer: str


@message("broken.exact_count.score-reported")
class ScoreReported:
    customer: str
    bureau: str
    points: int


@message("broken.exact_count.score-known")
class ScoreKnown:
    customer: str


@define
class Scores:
    points: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class DecidesAtExactlyTwo(Saga[Scores], key="customer", merger=fieldwise(Scores)):
    @starts
    def requested(self, m: CheckCredit) -> None:
        pass

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.points[m.bureau] = m.points

    def decide(self) -> None:
        if len(self.state.points) == 2:
            self.publish(ScoreKnown(self.id))
            self.complete()


class DecidesAtTwoOrMore(DecidesAtExactlyTwo, key="customer", merger=fieldwise(Scores)):
    def decide(self) -> None:
        if len(self.state.points) >= 2:
            self.publish(ScoreKnown(self.id))
            self.complete()


ARGUMENTS = {
    "start": [CheckCredit("42")],
    "messages": [ScoreReported("42", bureau, 700) for bureau in ("equifax", "experian", "transunion")],
}
BROKEN = Exhibit("A count that must be met exactly", DecidesAtExactlyTwo, ARGUMENTS, ("stuck",), length=10)
MENDED = Exhibit("A count that must be reached", DecidesAtTwoOrMore, ARGUMENTS)
