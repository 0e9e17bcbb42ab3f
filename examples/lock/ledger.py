"""The ledger that the lock protects, and what an audit finds in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from attrs import define, frozen


@frozen
class Entry:
    """One line of the ledger.

    Attributes:
        writer: who wrote it.
        number: its how-manieth that was, from 1.
        token: of the lease under which it was written.
    """

    writer: str
    number: int
    token: int


@define
class Ledger:
    """Entries in the order in which they were written."""

    entries: tuple[Entry, ...] = ()


@frozen
class Audit:
    """What must be zero after a run.

    Attributes:
        stale: how many entries have a lower token than the one before them.
        missing: how many entries that were to be written are not there.
        twice: how many are there more than once.
    """

    stale: int
    missing: int
    twice: int

    @property
    def clean(self) -> bool:
        """Return whether nothing is wrong."""
        return not (self.stale or self.missing or self.twice)


def audit(ledger: Ledger, writers: Sequence[str], entries: int) -> Audit:
    """Return what is wrong with the ledger of *writers* with that many *entries* each."""
    written = Counter((entry.writer, entry.number) for entry in ledger.entries)
    expected = {(writer, number) for writer in writers for number in range(1, entries + 1)}
    return Audit(
        stale=sum(after.token < before.token for before, after in pairwise(ledger.entries)),
        missing=len(expected - written.keys()),
        twice=sum(count > 1 for count in written.values()),
    )
