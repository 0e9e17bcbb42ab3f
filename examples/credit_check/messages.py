"""What travels between the bank, its bureaus and its ledger: requests are imperative, facts in the past tense."""

from __future__ import annotations

from sagabus import message


@message("credit.check")
class CheckCredit:
    """Ask the bank to decide on one customer. Safe to deliver twice."""

    customer: str
    name: str = ""


@message("credit.request-score")
class RequestScore:
    """Ask a bureau for its score of one customer."""

    customer: str


@message("credit.score-reported")
class ScoreReported:
    """A bureau has answered. It names no customer: a reply finds the saga that asked by itself."""

    bureau: str
    score: int


@message("credit.decided")
class CreditDecided:
    """The bank has decided, once and for all.

    Attributes:
        average: of the scores used, in points.
        scores: bureau -> points, of the bureaus that the decision rests on.
    """

    customer: str
    accepted: bool
    average: float
    scores: dict[str, int]
