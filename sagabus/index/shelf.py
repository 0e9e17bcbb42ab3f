"""Where an index lies: what the walk over it asks of a store. One implementation in memory, one on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from attrs import frozen

from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError
from sagabus.index.standing import Standing


class Entry(NamedTuple):
    """One saga as the index says it stands: by age, or by since when it has siblings. In the order of a page."""

    score: int
    name: str
    id: str


@frozen
class Range:
    """A part of the entries of one class, in order.

    Attributes:
        name: of the class.
        forked: those of sagas with siblings; else all, by lifecycle and age.
        lowest: the least score; None for whatever there is.
        behind: of entries with that score only those with a greater id; empty for all.
        count: how many at most.
    """

    name: str
    forked: bool
    lowest: int | None
    behind: str
    count: int


@frozen
class Mend:
    """One entry that is to say something else, provided that it still says what was seen.

    Attributes:
        key: of which saga.
        forked: as of a range.
        seen: its score; None where there was none.
        score: what it is to be; None for no entry.
    """

    key: SagaKey
    forked: bool
    seen: int | None
    score: int | None


@frozen
class Scanned:
    """One step of a scan over a class.

    Attributes:
        next: where the next step begins; 0 where this was the last.
        looked: at how many entries, about.
        entries: those whose id begins as asked for, in no order.
    """

    next: int
    looked: int
    entries: list[Entry]


class Shelf(Protocol):
    """Holds the entries of an index beside the records."""

    def begin(self, names: tuple[str, ...] | None) -> tuple[int, list[str]]:
        """Return the store's time, ms since 1970, and *names*; where that is None all classes that are known."""
        ...

    def ranges(self, wanted: Sequence[Range]) -> list[list[Entry]]:
        """Return the entries of each of *wanted*."""
        ...

    def scan(self, name: str, at: int, prefix: str) -> Scanned:
        """Return the next step of a scan over the class *name*, from *at*, 0 at first."""
        ...

    def scores(self, keys: Sequence[SagaKey], *, forked: bool) -> list[int | None]:
        """Return the scores of the entries of *keys*; None for no entry."""
        ...

    def stand(self, keys: Sequence[SagaKey], now_ms: int) -> list[Standing | CorruptRecordError | None]:
        """Return where each of *keys* stands, by its record; None where there is none."""
        ...

    def mend(self, mends: Sequence[Mend]) -> int:
        """Have entries say what is true, where they still say what was seen; return how many that were."""
        ...
