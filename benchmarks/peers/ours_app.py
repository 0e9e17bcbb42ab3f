"""Our side of the comparison: the credit check of the examples as it stands, and a check that is hot.

`PEERS_NAMESPACE` keeps one run apart from another.
"""

from __future__ import annotations

import os
from typing import Annotated

from attrs import define, field

from benchmarks.peers.task import average, bureaus, score
from examples.credit_check.messages import RequestScore, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck
from mergers import by_key, fieldwise, highest
from sagabus import Bus, Context, Saga, handles, message, starts


@message("peers.check-hot")
class CheckHot:
    """Ask so many bureaus about one customer."""

    customer: str
    replies: int


@message("peers.request-hot-score")
class RequestHotScore:
    """Ask one bureau."""

    customer: str
    bureau: str


@message("peers.hot-score-reported")
class HotScoreReported:
    """What it said."""

    bureau: str
    score: int


@message("peers.hot-decided")
class HotDecided:
    """All scores were there."""

    customer: str
    average: float


@define
class HotState:
    """What is known so far: one small entry a reply.

    Attributes:
        wanted: how many replies decide.
        scores: bureau -> points.
    """

    wanted: Annotated[int, highest] = 0
    scores: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class HotCheck(Saga[HotState], key="customer", merger=fieldwise(HotState)):
    """One check that asks a crowd."""

    @starts
    def requested(self, m: CheckHot) -> None:
        """Ask everybody."""
        self.state.wanted = m.replies
        for bureau in bureaus(m.replies):
            self.send(RequestHotScore(customer=m.customer, bureau=bureau), to="crowd")

    @handles
    def scored(self, m: HotScoreReported) -> None:
        """Note a score."""
        self.state.scores[m.bureau] = m.score

    def decide(self) -> None:
        """Decide when all have answered."""
        if self.state.wanted and len(self.state.scores) == self.state.wanted:
            self.publish(HotDecided(customer=self.key, average=average(list(self.state.scores.values()))))
            self.complete()


bus = Bus(namespace=os.environ.get("PEERS_NAMESPACE", "peers"))
bus.endpoint("credit", CreditCheck)
bus.endpoint("hot", HotCheck)


def report(m: RequestScore, context: Context) -> None:
    """Answer at once."""
    context.reply(ScoreReported(bureau=context.endpoint, score=score(context.endpoint, m.customer)))


for bureau in BUREAUS:
    bus.endpoint(bureau).consumer(report)


@bus.endpoint("crowd").consumer
def report_hot(m: RequestHotScore, context: Context) -> None:
    """Answer at once."""
    context.reply(HotScoreReported(bureau=m.bureau, score=score(m.bureau, m.customer)))
