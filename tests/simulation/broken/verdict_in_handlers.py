"""The verdict is taken only in the message handlers, so a saga whose last two replies meet waits for ever.

It looks right because one reply after the other always leads to a verdict: the second handler sees both scores. Where
two workers handle the two replies at once, each handler sees one score, neither decides, and after the merge nobody
asks again.

Mend: take every verdict in `decide()`, which runs after the merge too.
"""

from __future__ import annotations

from typing import Annotated

from attrs import define, field

from mergers import by_key, fieldwise, highest
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.verdict_in_handlers.check-credit")
class CheckCredit:
    customer: str


@message("broken.verdict_in_handlers.score-reported")
class ScoreReported:
    customer: str
    bureau: str
    points: int


@message("broken.verdict_in_handlers.credit-decided")
class CreditDecided:
    customer: str
    points: int


@define
class Scores:
    points: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class DecidesInHandler(Saga[Scores], key="customer", merger=fieldwise(Scores)):
    @starts
    def requested(self, m: CheckCredit) -> None:
        pass

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.points[m.bureau] = m.points
        if len(self.state.points) == 2:
            self.publish(CreditDecided(self.id, sum(self.state.points.values())))
            self.complete()


class DecidesInDecide(Saga[Scores], key="customer", merger=fieldwise(Scores)):
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


ARGUMENTS = {
    "start": [CheckCredit("42")],
    "messages": [ScoreReported("42", "equifax", 700), ScoreReported("42", "experian", 650)],
}
BROKEN = Exhibit("The verdict is taken in the handlers alone", DecidesInHandler, ARGUMENTS, ("stuck",), length=8)
MENDED = Exhibit("The verdict is taken in decide()", DecidesInDecide, ARGUMENTS)
