"""The saga: ask three bureaus, decide on two scores, let the third be late."""

from __future__ import annotations

from typing import Annotated, Final

from attrs import define, field

from examples.credit_check.messages import CheckCredit, CreditDecided, RequestScore, ScoreReported
from mergers import by_key, fieldwise, highest
from sagabus import Saga, handles, starts

BUREAUS: Final = ("equifax", "experian", "transunion")
SCORES_NEEDED: Final = 2
ACCEPT_OVER: Final = 700


@define
class CreditState:
    """What is known of one customer.

    Attributes:
        scores: bureau -> points. Siblings know different bureaus; together they know them all.
    """

    scores: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class CreditCheck(Saga[CreditState], key="customer", merger=fieldwise(CreditState)):
    """One customer's check, from the application to the decision."""

    @starts
    def requested(self, m: CheckCredit) -> None:
        """Ask every bureau."""
        for bureau in BUREAUS:
            self.send(RequestScore(customer=m.customer), to=bureau)

    @handles
    def scored(self, m: ScoreReported) -> None:
        """Note a score. Two workers may do this at once, each with another one."""
        self.state.scores[m.bureau] = m.score

    def decide(self) -> None:
        """Decide as soon as there are two scores. What is said here leaves only if no sibling is unseen."""
        scores = self.state.scores
        if len(scores) < SCORES_NEEDED:
            return
        average = sum(scores.values()) / len(scores)
        self.publish(
            CreditDecided(customer=self.key, accepted=average > ACCEPT_OVER, average=average, scores=dict(scores))
        )
        self.complete()
