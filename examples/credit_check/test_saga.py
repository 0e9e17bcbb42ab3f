"""What the credit check promises, whatever comes first, twice or at the same moment. Copy it, and put your saga in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from examples.credit_check.bureaus import open_bureau, score_of
from examples.credit_check.ledger import Ledger
from examples.credit_check.messages import CheckCredit, CreditDecided, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck, CreditState
from sagabus import Bus
from sagabus.testing import Exploration, Moment, SagaHarness, check_merger, explore

CUSTOMER: Final = "C000042"
SCORES: Final = {"equifax": 540, "experian": 760, "transunion": 720}


def replied(bureau: str) -> ScoreReported:
    """Return the reply of *bureau*."""
    return ScoreReported(bureau=bureau, score=SCORES[bureau])


def decided_on(*bureaus: str) -> CreditDecided:
    """Return the decision that rests on the scores of *bureaus*."""
    scores = {bureau: SCORES[bureau] for bureau in bureaus}
    average = sum(scores.values()) / len(scores)
    return CreditDecided(customer=CUSTOMER, accepted=average > 700, average=average, scores=scores)


# -- every order: what may come out, and what holds on the way -----------------------------------------------------

ALLOWED: Final = [
    # The first two replies decide, and the third is late. Nothing promises which two they are.
    (decided_on("equifax", "experian"),),
    (decided_on("equifax", "transunion"),),
    (decided_on("experian", "transunion"),),
    # While two replies raced, nobody could decide; the third came before they were merged, so all three count.
    (decided_on("equifax", "experian", "transunion"),),
]


def decides_at_most_once(moment: Moment) -> bool:
    """A customer hears one decision."""
    return len(moment.decisions) <= 1


def knows_only_what_bureaus_said(moment: Moment) -> bool:
    """No version holds a score that no bureau has reported."""
    return all(state.scores.items() <= SCORES.items() for state in moment.states)


def decision_rests_on_every_score_known(moment: Moment) -> None:
    """What the saga knew in the end is what the decision says."""
    (decision,) = moment.decisions
    assert decision.scores == moment.state.scores


def explored(**circumstances: Any) -> Exploration:
    """Return what becomes of one check and its three replies in every order that *circumstances* permit."""
    return explore(
        CreditCheck,
        start=[CheckCredit(customer=CUSTOMER)],
        messages=[replied(bureau) for bureau in BUREAUS],
        outcomes=ALLOWED,
        always=[decides_at_most_once, knows_only_what_bureaus_said],
        finally_=[decision_rests_on_every_score_known],
        mode="exhaustive",
        **circumstances,
    )


@pytest.mark.parametrize(
    "circumstances",
    [
        pytest.param({}, id="two-workers"),
        pytest.param({"workers": 3}, id="three-workers"),
        pytest.param({"batch": 2}, id="batches-of-two"),
        pytest.param({"duplicates": 1}, id="a-message-delivered-twice"),
        pytest.param({"resends": 1}, id="a-message-sent-twice"),
        pytest.param({"batch": 2, "duplicates": 1, "resends": 1}, id="all-of-it"),
    ],
)
def test_check_with_three_replies_ends_with_one_of_four_decisions(circumstances: dict[str, Any]) -> None:
    """One decision leaves, on two scores or on all three; each of the four is really met, and no schedule is left."""
    result = explored(**circumstances).assert_ok()
    assert len(result.outcomes) == len(ALLOWED)
    assert result.complete


def test_check_after_a_failover_that_loses_a_commit_still_ends() -> None:
    """What a store forgets is delivered again, so the check ends; a decision that has left may leave again."""
    explore(
        CreditCheck,
        start=[CheckCredit(customer=CUSTOMER)],
        messages=[replied(bureau) for bureau in BUREAUS],
        rollbacks=1,
        outcome=lambda moment: (moment.completed, len(moment.decisions)),
        outcomes=[(True, 1), (True, 2)],
    ).assert_ok()


def test_check_merges_lawfully() -> None:
    """Order, grouping and repetition of siblings change nothing, in this process and in others."""
    assert not check_merger(CreditCheck).skipped


# -- some orders, by hand ------------------------------------------------------------------------------------------


@pytest.fixture
def check(saga_harness: Callable[..., SagaHarness[CreditState]]) -> SagaHarness[CreditState]:
    """Return a check that has asked its bureaus."""
    harness = saga_harness(CreditCheck)
    harness.give(CheckCredit(customer=CUSTOMER))
    return harness


def test_check_with_two_replies_one_by_one_decides_on_the_second(check: SagaHarness[CreditState]) -> None:
    """One score is not enough, two are; the third is late and changes nothing."""
    check.give(replied("equifax"))
    assert not check.completed
    check.give(replied("experian"))
    check.give(replied("transunion"))
    assert check.decisions == [decided_on("equifax", "experian")]


def test_check_with_two_replies_at_once_decides_after_the_merge(check: SagaHarness[CreditState]) -> None:
    """Each worker keeps its score as a sibling; the decision rests on both."""
    check.together(replied("equifax"), replied("experian"), merge=False)
    assert [state.scores for state in check.states] == [{"equifax": 540}, {"experian": 760}]
    assert check.decisions == []
    check.merge()
    assert check.decisions == [decided_on("equifax", "experian")]


def test_check_with_two_verdicts_at_once_releases_the_first_to_commit(check: SagaHarness[CreditState]) -> None:
    """One worker would accept and the other decline: the first to commit is heard, and nobody hears the other."""
    check.give(replied("experian"))
    check.together(replied("transunion"), replied("equifax"))
    assert check.decisions == [decided_on("experian", "transunion")]


# -- the whole bank ------------------------------------------------------------------------------------------------


def test_bank_with_its_bureaus_decides_on_every_applicant_once(sagabus_bus: Bus) -> None:
    """On a real store, from application to ledger: one decision each, resting on scores that the bureaus gave."""
    sagabus_bus.endpoint("credit", CreditCheck)
    for bureau in BUREAUS:
        open_bureau(sagabus_bus, bureau, seed=7)
    ledger = Ledger(sagabus_bus)
    customers = [f"C{number:06}" for number in range(20)]
    sagabus_bus.send_many([CheckCredit(customer=customer) for customer in customers], to="credit")
    sagabus_bus.worker().run_until_idle()
    assert ledger.audit(customers).clean
    for customer, (decision,) in ledger.decisions().items():
        assert decision.scores.items() <= {bureau: score_of(customer, bureau, 7) for bureau in BUREAUS}.items()
