"""What the web applications talk to: a saga that asks two bureaus and tells who applied."""

from __future__ import annotations

from typing import Annotated, Any

from attrs import define, field

from mergers import by_key, fieldwise, highest
from sagabus import Bus, Context, Saga, handles, message, starts

BUREAUS = ("equifax", "experian")


@message("loan.apply")
class ApplyForLoan:
    """Ask for a loan. The number is the applicant's own: applying twice under one is applying once."""

    number: str
    customer: str


@message("loan.score.request")
class RequestScore:
    customer: str


@message("loan.score.reported")
class ScoreReported:
    bureau: str
    score: int


@message("loan.decided")
class LoanDecided:
    """The outcome, for everybody, and for whoever waits for it."""

    number: str
    granted: bool


@define
class LoanState:
    scores: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class Loan(Saga[LoanState], key="number", merger=fieldwise(LoanState)):
    @starts
    def applied(self, m: ApplyForLoan) -> None:
        for bureau in BUREAUS:
            self.send(RequestScore(m.customer), to=bureau)

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.scores[m.bureau] = m.score

    def decide(self) -> None:
        if len(self.state.scores) == len(BUREAUS):
            decided = LoanDecided(self.key, granted=min(self.state.scores.values()) > 600)
            self.publish(decided)
            if self.starter_waits:
                self.reply_to_starter(decided)
            self.complete()


def open_bus(store: str | None = None, **options: Any) -> Bus:
    """Return a bus with the saga and the bureaus; arguments as `Bus`."""
    bus = Bus(store, **options)
    bus.endpoint("loans", Loan)
    for name in BUREAUS:
        bureau = bus.endpoint(name)

        @bureau.consumer
        def score(m: RequestScore, context: Context) -> None:
            # Nobody lends to those of no name.
            context.reply(ScoreReported(context.endpoint, 720 if m.customer else 0))

    return bus
