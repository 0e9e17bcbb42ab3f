"""A user's tests with the harness: the state keeps its type."""

from __future__ import annotations

from datetime import datetime, timedelta

import sagabus
from sagabus.testing.harness.released import Published, Sent
from sagabus.testing.harness.saga_harness import SagaHarness
from tests.typing.messages_and_sagas import (
    CheckCredit,
    CreditCheck,
    CreditDecided,
    CreditState,
    RequestScore,
    ScoreReported,
)


def check_two_scores_at_once_are_one_decision() -> None:
    check = SagaHarness(CreditCheck)
    check.give(CheckCredit("42"))
    left = check.together(ScoreReported("equifax", 710), ScoreReported("experian", 705))
    assert check.completed
    assert check.decisions == [CreditDecided("42", approved=True)]
    assert Published(CreditDecided("42", approved=True)) in left
    assert Sent(RequestScore("42"), to="equifax") in check.effects


def check_state_and_time() -> None:
    check = SagaHarness(CreditCheck, routes={RequestScore: "bureau"})
    check.give(CheckCredit("42"), id="m", reply_to="app")
    state: CreditState = check.state
    siblings: list[CreditState] = check.saga("42").states
    due: datetime = check.timers["overdue"]
    check.advance(timedelta(minutes=1))
    assert (siblings, due > check.now) == ([state], True)


def what_a_checker_refuses() -> None:
    SagaHarness(CreditState)  # type: ignore[arg-type]
    SagaHarness(CreditCheck).state.nothing  # type: ignore[attr-defined]  # noqa: B018
    SagaHarness(CreditCheck).advance("1 s")  # type: ignore[arg-type]
    sagabus.Nothing  # type: ignore[attr-defined]  # noqa: B018
