"""Who looks whether what is measured does its work."""

from __future__ import annotations

import threading
import time
from typing import Final

from benchmarks.app import SEED
from examples.credit_check.bureaus import score_of
from examples.credit_check.messages import CreditDecided
from examples.credit_check.saga import ACCEPT_OVER, BUREAUS, SCORES_NEEDED
from sagabus import Bus, Context, SagabusError

GIVE_UP_S: Final = 60.0
"""How long to wait for a decision, in seconds."""


class WrongResultError(SagabusError):
    """What was measured did not do its work, so the figures mean nothing."""


class Witness:
    """Hears every decision and checks it. Thread-safe.

    Args:
        bus: gets an endpoint for the decisions.
    """

    def __init__(self, bus: Bus) -> None:
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._decided: dict[str, str] = {}
        self._wrong: list[str] = []
        self.last_at = 0.0
        self.endpoint = bus.endpoint("witness")
        self.endpoint.consumer(self.decided)

    def decided(self, m: CreditDecided, context: Context) -> None:
        """Enter a decision; one that is wrong, or the second of a customer, is remembered."""
        wrong = _wrong(m)
        with self._news:
            if self._decided.setdefault(m.customer, context.message_id) != context.message_id:
                wrong = f"{m.customer} was decided twice"
            if wrong:
                self._wrong.append(wrong)
            self.last_at = time.perf_counter()
            self._news.notify_all()

    @property
    def count(self) -> int:
        """Return how many customers were decided."""
        return len(self._decided)

    def wait_for(self, customer: str) -> float:
        """Return when *customer* was decided, `time.perf_counter()`; waits for it.

        Raises:
            WrongResultError: it takes too long.
        """
        with self._news:
            if not self._news.wait_for(lambda: customer in self._decided, GIVE_UP_S):
                raise WrongResultError(f"{customer} got no decision within {GIVE_UP_S:g} s")
            return self.last_at

    def verify(self, expected: int) -> None:
        """Make sure that *expected* customers were decided, each once and rightly.

        Raises:
            WrongResultError: they were not.
        """
        if self._wrong or self.count != expected:
            raise WrongResultError(
                f"{self.count} of {expected} customers were decided, {len(self._wrong)} wrongly: {self._wrong[:3]}; "
                f"run `python -m examples.credit_check` to see what goes wrong"
            )


def _wrong(m: CreditDecided) -> str:
    right = {bureau: score_of(m.customer, bureau, SEED) for bureau in BUREAUS}
    average = sum(m.scores.values()) / len(m.scores)
    if len(m.scores) < SCORES_NEEDED or not m.scores.items() <= right.items():
        return f"{m.customer} was decided on {m.scores}, the scores are {right}"
    if m.average != average or m.accepted is not (average > ACCEPT_OVER):
        return f"{m.customer}: {m.average} was {'accepted' if m.accepted else 'declined'}"
    return ""
