"""The saga: who is asked, who answered what, and what the answers come to. All the rest is the quorum's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from examples.credit_check.messages import CheckCredit, CreditDecided, RequestScore, ScoreReported
from examples.credit_check.saga import ACCEPT_OVER, BUREAUS, SCORES_NEEDED
from sagas import Quorum


class CreditCheck(
    Quorum[CheckCredit, ScoreReported], key="customer", members=BUREAUS, need=SCORES_NEEDED, within=timedelta(seconds=2)
):
    """One customer's check, from the application to the decision."""

    def ask(self, m: CheckCredit, member: str) -> object:
        """Ask a bureau for its score."""
        return RequestScore(m.customer)

    def answer(self, m: ScoreReported) -> tuple[str, Any]:
        """Keep the score under the name of its bureau."""
        return m.bureau, m.score

    def verdict(self, answers: dict[str, Any]) -> None:
        """Accept an average over the bar."""
        average = sum(answers.values()) / len(answers)
        self.publish(CreditDecided(self.key, accepted=average > ACCEPT_OVER, average=average, scores=answers))
