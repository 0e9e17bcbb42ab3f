"""The bank: the saga, its bureaus, and a desk that hears what became of each check."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

from examples.credit_check.bureaus import open_bureau
from examples.credit_check.messages import CreditDecided, RequestScore
from examples.credit_check.saga import BUREAUS
from examples.quorum.saga import CreditCheck
from sagabus import Bus
from sagas import QuorumMissed

SEED: Final = 1
_DESK: Final = "desk"


class Desk:
    """What became of the checks. Thread-safe.

    Args:
        bus: gets an endpoint that subscribes to decisions, and to quorums that were missed.
    """

    def __init__(self, bus: Bus) -> None:
        self._ends: dict[str, CreditDecided | QuorumMissed] = {}
        self._news = threading.Condition()
        bus.endpoint(_DESK).consumer(self.entered)

    def entered(self, m: CreditDecided | QuorumMissed) -> None:
        """Enter the end of one check; a second copy of the message changes nothing."""
        with self._news:
            self._ends[m.customer if isinstance(m, CreditDecided) else m.id] = m
            self._news.notify_all()

    def wait_for(self, customers: Collection[str], timeout_s: float) -> dict[str, CreditDecided | QuorumMissed]:
        """Return customer -> end, when all of *customers* have one, or after *timeout_s* without."""
        with self._news:
            self._news.wait_for(lambda: self._ends.keys() >= set(customers), timeout_s)
            return {customer: self._ends[customer] for customer in customers if customer in self._ends}


def open_bank(bus: Bus, closed: Collection[str] = ()) -> Desk:
    """Put the bank on *bus*; the bureaus that are *closed* take requests and never answer."""
    bus.endpoint("credit", CreditCheck)
    for bureau in BUREAUS:
        if bureau in closed:
            bus.endpoint(bureau).consumer(_ignored)
        else:
            open_bureau(bus, bureau, seed=SEED)
    return Desk(bus)


def _ignored(m: RequestScore) -> None:
    """Leave a request lying."""
