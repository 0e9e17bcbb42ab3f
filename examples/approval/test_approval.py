"""The purchase: its story is told in order, and Carla's click against the clock has two ends."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from examples.approval.__main__ import main
from examples.approval.messages import RequestPurchase
from examples.approval.saga import PurchaseApproval
from sagabus.testing import Moment, explore
from sagas.approval import Approved, Expired, Vote


@pytest.mark.parametrize(
    ("option", "end"),
    [("--approves", ["carla approves", "approved by carla"]), ("--rejects", ["carla rejects", "rejected by carla"])],
)
def test_purchase_is_asked_reminded_escalated_and_ended(sagabus_server: str, option: str, end: list[str]) -> None:
    """On a real store: the story that the README shows; who votes after the end is told so."""
    ran = CliRunner().invoke(main, [option, "--store", sagabus_server])
    assert ran.exit_code == 0, ran.output
    told = [re.sub(r"^ *\d+\.\d s  ", "", line) for line in ran.output.splitlines()]
    reminded = [line for line in told if line.endswith("is reminded")]
    assert set(reminded) <= {"ann is reminded", "bob is reminded"}  # a machine that stalls skips them
    asked, rest = told[:2], told[2 + len(reminded) :]
    assert sorted(asked) == [f"{name} is asked about a desk that stands for 799.00" for name in ("ann", "bob")]
    assert rest == ["carla is asked about a desk that stands for 799.00", *end, "bob votes and hears: closed"]


def test_purchase_ends_once_whoever_is_faster() -> None:
    """A click of Bob's and one of Carla's, against reminders and escalation, in every order."""

    def endings(moment: Moment) -> tuple[str, ...]:
        return tuple(sorted(repr(m) for m in moment.released if isinstance(m, Approved | Expired)))

    allowed = [
        Approved("PurchaseApproval", "P-1", 1, ["bob"]),
        Approved("PurchaseApproval", "P-1", 1, ["bob", "carla"]),
        Approved("PurchaseApproval", "P-1", 2, ["carla"]),
        Expired("PurchaseApproval", "P-1", ["ann", "bob", "carla"]),
    ]
    result = explore(
        PurchaseApproval,
        start=[RequestPurchase("P-1", "a desk", 79_900)],
        messages=[Vote("P-1", "bob", True), Vote("P-1", "carla", True)],
        outcome=endings,
        outcomes=[(repr(end),) for end in allowed],
        mode="exhaustive",
    ).assert_ok()
    assert len(result.outcomes) == len(allowed)
