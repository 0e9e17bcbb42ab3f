"""How often the sagas of a run forked and were merged, as their history in the store tells it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from sagabus.commit import Outcome
from sagabus.envelope import SagaKey
from sagabus.store.protocol import Store


@frozen
class Races:
    """What the histories of some sagas add up to.

    Attributes:
        forks: versions that were stored as siblings of others.
        merges: versions that were made of two or more siblings.
        late: commits of scores that came after the decision.
        forked: a customer whose check forked and was merged, to look at; empty where there is none.
    """

    forks: int
    merges: int
    late: int
    forked: str


def races_of(store: Store, customers: Iterable[str]) -> Races:
    """Return what happened in the credit checks of *customers*; one round trip each."""
    forks = merges = late = 0
    forked = ""
    for customer in customers:
        history = store.history(SagaKey("CreditCheck", customer))
        forks += sum(entry.outcome is Outcome.FORKED for entry in history)
        late += sum(entry.outcome is Outcome.LATE for entry in history)
        merged = sum(len(entry.parents) > 1 for entry in history)
        merges += merged
        forked = forked or (customer if merged else "")
    return Races(forks, merges, late, forked)
