"""The saga: who is asked, how long, and what they are told. All the rest is the approval's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from examples.approval.messages import RequestPurchase
from sagas import Approval, Level


class PurchaseApproval(
    Approval[RequestPurchase],
    key="purchase",
    people="people",
    levels=(Level("ann", "bob", within=timedelta(seconds=1)), Level("carla", within=timedelta(seconds=10))),
    remind_every=timedelta(seconds=0.4),
    reminders=1,
):
    """One purchase: Ann or Bob, and after a second Carla."""

    def about(self, m: RequestPurchase) -> Any:
        """Tell people what it is and what it costs."""
        return f"{m.what} for {m.cents / 100:.2f}"
