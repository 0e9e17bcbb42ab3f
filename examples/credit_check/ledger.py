"""The ledger: an independent witness. It hears every decision on the bus and knows nothing of the sagas' state."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Final

from attrs import frozen

from examples.credit_check.messages import CreditDecided
from sagabus import Bus, Context

LEDGER: Final = "ledger"


@frozen
class Audit:
    """What the ledger says about a number of applicants.

    Attributes:
        applicants: how many there were.
        decided: of those, how many got a decision.
        lost: how many got none.
        twice: how many got two or more decisions: messages with different ids. A second copy of one message is delivery
            "at least once" at work, carries the same id, and is no second decision; see `repeats`.
        contradictory: how many got decisions with different verdicts.
        repeats: second and further copies of one message.
    """

    applicants: int
    decided: int
    lost: int
    twice: int
    contradictory: int
    repeats: int

    @property
    def clean(self) -> bool:
        """Return whether everybody got exactly one decision."""
        return not (self.lost or self.twice or self.contradictory)


class Ledger:
    """Every decision that was ever announced. Thread-safe.

    Args:
        bus: gets an endpoint of the ledger's own, which subscribes to the decisions.

    Attributes:
        heard_at: when the latest decision came that said anything new, `time.monotonic()`.
    """

    def __init__(self, bus: Bus) -> None:
        self._lock = threading.Lock()
        self._decisions: dict[str, dict[str, CreditDecided]] = {}
        self._repeats = 0
        self.heard_at = time.monotonic()
        self.endpoint = bus.endpoint(LEDGER)
        self.endpoint.consumer(self.decided)

    def decided(self, m: CreditDecided, context: Context) -> None:
        """Enter a decision under its customer and its message id."""
        with self._lock:
            entries = self._decisions.setdefault(m.customer, {})
            if context.message_id in entries:
                self._repeats += 1
            else:
                entries[context.message_id] = m
                self.heard_at = time.monotonic()

    @property
    def customers(self) -> int:
        """Return how many customers have a decision."""
        return len(self._decisions)

    def decisions(self) -> dict[str, list[CreditDecided]]:
        """Return customer -> decisions, in the order they came; one each, if all is well."""
        with self._lock:
            return {customer: list(entries.values()) for customer, entries in self._decisions.items()}

    def audit(self, applicants: Collection[str]) -> Audit:
        """Return what became of *applicants*, ids of customers."""
        decisions = self.decisions()
        decided = [decisions[customer] for customer in applicants if customer in decisions]
        return Audit(
            applicants=len(applicants),
            decided=len(decided),
            lost=len(applicants) - len(decided),
            twice=sum(len(entries) > 1 for entries in decided),
            contradictory=sum(len({entry.accepted for entry in entries}) > 1 for entries in decided),
            repeats=self._repeats,
        )
