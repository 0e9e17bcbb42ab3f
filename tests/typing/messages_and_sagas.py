"""Sagas and consumers as users write them; run through mypy --strict with the rest, and imported by a test.

What a type checker must refuse is marked with the code of its complaint: an ignore that is not needed is an error too.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from attrs import define, field, frozen

from mergers import by_key, fieldwise, highest
from sagabus import Bus, Context, MergeSagaState, RetryPolicy, Saga, handles, message, starts


@message("typing.check-credit", version=2)
class CheckCredit:
    customer: str
    amount_cents: int = 0

    @staticmethod
    def upcast(body: dict[str, object], version: int) -> dict[str, object]:
        return body | {"amount_cents": 0}


@message
class RequestScore:
    customer: str


@message("typing.score-reported")
@frozen
class ScoreReported:
    bureau: str
    score: int


@message("typing.decided")
class CreditDecided:
    customer: str
    approved: bool


@message("typing.overdue")
class Overdue:
    pass


@define
class CreditState:
    customer: Annotated[str, highest] = ""
    scores: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)


class CreditCheck(Saga[CreditState], key="customer", merger=fieldwise(CreditState)):
    @starts
    def requested(self, m: CheckCredit) -> None:
        self.state.customer = m.customer
        for bureau in ("equifax", "experian"):
            self.send(RequestScore(m.customer), to=bureau)
        self.defer(Overdue(), after=timedelta(minutes=5), name="overdue")
        self.defer(Overdue(), at=datetime(2030, 1, 1, tzinfo=UTC))

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.scores[m.bureau] = m.score
        self.reply(CreditDecided(self.key, approved=m.score > 600))

    @handles(Overdue)
    def overdue(self, m: Overdue) -> None:
        self.cancel("overdue")

    @handles
    def merged(self, m: MergeSagaState) -> None: ...

    def decide(self) -> None:
        if len(self.state.scores) == 2:
            self.publish(CreditDecided(self.id, approved=min(self.state.scores.values()) > 600))
            self.complete()
        elif not self.state.scores and self.state.customer == "nobody":
            self.reply_to_starter(CreditDecided(self.id, approved=True))

    def on_late(self, message: object) -> None:
        self.publish(CreditDecided(self.id, approved=False))


def make_bus() -> Bus:
    bus = Bus(store="memory:", transport="memory:", dedupe_window=timedelta(days=1))
    bus.endpoint("credit", CreditCheck, batch=32, retry=RetryPolicy(max_attempts=3))
    bus.route(RequestScore, to="equifax")
    equifax = bus.endpoint("equifax")

    @equifax.consumer
    def score(m: RequestScore, context: Context) -> None:
        context.reply(ScoreReported("equifax", 700))

    @equifax.consumer(CreditDecided)
    def decided(m: CreditDecided) -> None: ...

    experian = bus.endpoint("experian", concurrency=4)

    @experian.consumer
    async def score_later(m: RequestScore, context: Context) -> None:
        context.reply(ScoreReported("experian", 650))

    keeps_its_type: Callable[[RequestScore, Context], None] = score
    assert keeps_its_type is score
    return bus


def run(bus: Bus) -> int:
    sent: str = bus.send(CheckCredit("42"), to="credit", id="once", after=1.5)
    ids: list[str] = bus.send_many([CheckCredit("43", 5)], to="credit")
    bus.publish(CreditDecided(customer="42", approved=True))
    bus.worker(["credit"], name="me").run_until_idle()
    return len([sent, *ids])


def what_a_checker_refuses() -> None:
    CheckCredit()  # type: ignore[call-arg]
    CheckCredit(customer=5)  # type: ignore[arg-type]
    CheckCredit("1").customer = "2"  # type: ignore[misc]
    ScoreReported("x", "y")  # type: ignore[arg-type]
    Bus(claim_s="soon")  # type: ignore[arg-type]
    CreditCheck().state.nothing  # type: ignore[attr-defined]  # noqa: B018
