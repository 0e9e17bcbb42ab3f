"""Stores: where sagas are kept as sets of versions. `Store` is what each of them does, `sagabus.testing` its contract.

A store of another kind is given to the bus as it is, `Bus(store=MyStore(), transport=...)`; URLs lead to those here.
Transports are found by URL, through the entry points in the group `sagabus.transports`: see `sagabus.transport`.
"""

from sagabus.commit import Commit, HistoryEntry, Lifecycle, Result, Snapshot, StoredVersion, Want
from sagabus.store.protocol import Bookkeeping, DeadLetter, SagaRow, Scheduled, Store

__all__ = [
    "Bookkeeping",
    "Commit",
    "DeadLetter",
    "HistoryEntry",
    "Lifecycle",
    "Result",
    "SagaRow",
    "Scheduled",
    "Snapshot",
    "Store",
    "StoredVersion",
    "Want",
]
