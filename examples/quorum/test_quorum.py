"""The credit check as a quorum: it decides as the one that is written by hand, and it runs."""

from __future__ import annotations

from typing import Any, Final

import pytest
from click.testing import CliRunner

from examples.credit_check import saga as by_hand
from examples.credit_check.messages import CheckCredit
from examples.credit_check.saga import BUREAUS
from examples.credit_check.test_saga import ALLOWED, CUSTOMER, replied
from examples.quorum.__main__ import main
from examples.quorum.saga import CreditCheck
from sagabus import Saga
from sagabus.testing import explore
from sagas import QuorumMissed

MISSED: Final = [
    (QuorumMissed("CreditCheck", CUSTOMER, list(got), sorted(set(BUREAUS) - set(got))),)
    for got in ((), *((bureau,) for bureau in BUREAUS))
]


@pytest.mark.parametrize(
    ("saga", "allowed"),
    [
        pytest.param(by_hand.CreditCheck, ALLOWED, id="by-hand"),
        pytest.param(CreditCheck, ALLOWED + MISSED, id="quorum"),
    ],
)
def test_quorum_decides_as_the_check_by_hand(saga: type[Saga[Any]], allowed: list[Any]) -> None:
    """Three replies, in every order: the same four decisions, and beside them what the deadline may cut short."""
    result = explore(
        saga,
        start=[CheckCredit(CUSTOMER)],
        messages=[replied(bureau) for bureau in BUREAUS],
        outcomes=allowed,
        mode="exhaustive",
    ).assert_ok()
    assert result.complete
    assert len(result.outcomes) == len(allowed)


def test_run_decides_on_every_applicant(sagabus_server: str) -> None:
    """On a real store: a line each, and nobody is left out."""
    ran = CliRunner().invoke(main, ["--applicants", "5", "--store", sagabus_server])
    assert ran.exit_code == 0, ran.output
    assert ran.output.count("accepted") + ran.output.count("declined") == 5


def test_run_with_two_bureaus_closed_misses_every_quorum(sagabus_server: str) -> None:
    """After two seconds each check says who did not answer."""
    options = ["--applicants", "2", "--closed", "equifax", "--closed", "experian", "--store", sagabus_server]
    ran = CliRunner().invoke(main, options)
    assert ran.exit_code == 0, ran.output
    assert (ran.output.count("missed"), ran.output.count("silent")) == (2, 4)
