"""Finding sagas: a bounded walk over the entries of an index, each held against its record before it is told."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import islice, takewhile
from typing import Final

from attrs import define, field

from sagabus.commit import Lifecycle
from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError
from sagabus.index.cursor import Place, from_cursor, to_cursor
from sagabus.index.query import SagaPage, SagaQuery, SagaSummary
from sagabus.index.shelf import Entry, Mend, Range, Shelf
from sagabus.index.standing import Standing

_MOST_READ: Final = 2_500
"""After so many records a page that is not full yet ends all the same; and after so many entries a scan."""
_MOST_SCANNED: Final = 100_000
_AT_ONCE: Final = 500
"""How many records are read in one round."""
_LEAST: Final = 20
LIVE: Final = "live"
COMPLETED: Final = "completed"
FORKED: Final = "forked"
SCAN: Final = "scan"


def find(shelf: Shelf, query: SagaQuery, limit: int, cursor: str) -> SagaPage:
    """Return one page; see `SagaIndex.find`."""
    parts = _parts(query)
    place = from_cursor(cursor, parts)
    now_ms, names = shelf.begin(query.names)
    walk = _Walk(shelf, query, max(limit, 1), now_ms, names)
    if query.id is not None:
        walk.look_up(query.id)
        return walk.page(None)
    if parts == (SCAN,):
        return walk.page(walk.scan(place))
    return walk.page(walk.in_order(parts, place))


def _parts(query: SagaQuery) -> tuple[str, ...]:
    """Return the parts of a walk, in order."""
    if query.forked:
        return (FORKED,)
    if query.id_prefix:
        return (SCAN,)
    if query.lifecycle is not None:
        return (LIVE,) if query.lifecycle is Lifecycle.LIVE else (COMPLETED,)
    return (LIVE, COMPLETED)


@define
class _Walk:
    """One page on its way."""

    shelf: Shelf
    query: SagaQuery
    limit: int
    now_ms: int
    names: list[str]
    rows: dict[SagaKey, SagaSummary] = field(factory=dict)
    unreadable: list[CorruptRecordError] = field(factory=list)
    read: int = 0

    def page(self, place: Place | None) -> SagaPage:
        return SagaPage(tuple(self.rows.values()), to_cursor(place), tuple(self.unreadable))

    @property
    def _want(self) -> int:
        """Return how many entries to look at next: more where few of those before were meant."""
        return min(max(self.limit - len(self.rows), self.read), _AT_ONCE)

    @property
    def _over(self) -> bool:
        return len(self.rows) >= self.limit or self.read >= _MOST_READ

    # -- ways to walk ----------------------------------------------------------------------------------------------

    def look_up(self, id_: str) -> None:
        """Take what has that very id, of every class."""
        keys = [SagaKey(name, id_) for name in self.names]
        for key, standing in zip(keys, self.shelf.stand(keys, self.now_ms), strict=True):
            self._take(key, standing)

    def in_order(self, parts: Sequence[str], place: Place | None) -> Place | None:
        """Walk over *parts*, from *place* on; return where the next page begins."""
        for part in parts[parts.index(place.part) if place else 0 :]:
            at = place if place is not None and place.part == part else None
            more = True
            while more:
                entries, more = self._next(part, at)
                if entries:
                    through = self._judge(part, entries)
                    more = more or through < len(entries)
                    at = Place(part, *entries[through - 1])
                if at is not None and self._over:
                    # Where nothing was left the next page is empty, or begins with the next part.
                    return at if more or part != parts[-1] else None
        return None

    def scan(self, place: Place | None) -> Place | None:
        """Walk over whole classes for what begins as asked for; return where the next page begins."""
        left = [name for name in self.names if place is None or name >= place.name]
        looked = 0
        for nth, name in enumerate(left):
            same = place is not None and place.name == name
            at, last = (place.scan, place.id) if place is not None and same else (0, "")
            while True:
                step = self.shelf.scan(name, at, self.query.id_prefix)
                looked += step.looked
                meant = sorted((e for e in step.entries if self._may_be(e)), key=lambda entry: entry.id)
                fresh = [entry for entry in meant if not last or entry.id > last]
                through = self._judge("", fresh[: self._want])
                if through < len(fresh):
                    # The same step again, behind the last one taken: it may hold thousands.
                    at, last = at, fresh[through - 1].id
                else:
                    at, last = step.next, ""
                done = not at and not last
                if self._over or looked >= _MOST_SCANNED:
                    if not done:
                        return Place(SCAN, 0, name, last, at)
                    return Place(SCAN, 0, left[nth + 1]) if nth + 1 < len(left) else None
                if done:
                    break
        return None

    def _may_be(self, entry: Entry) -> bool:
        """Return whether an entry may be meant, by what it says itself."""
        query = self.query
        if entry.score < 0:
            return entry.score < -self.now_ms and query.lifecycle is not Lifecycle.LIVE
        if query.lifecycle is Lifecycle.COMPLETED:
            return False
        return query.started_before_ms is None or entry.score < query.started_before_ms

    # -- entries in order ------------------------------------------------------------------------------------------

    def _next(self, part: str, at: Place | None) -> tuple[list[Entry], bool]:
        """Return the next entries of all classes, as one list in order, and whether there may be more behind them."""
        if not self.names:
            return [], False
        want = self._want
        count = min(want + 1, max(_LEAST, 2 * (want + 1) // len(self.names)))
        found = self.shelf.ranges([self._range(part, name, at, count) for name in self.names])
        bound = self._bound(part)
        inside = [list(takewhile(lambda entry: entry.score < bound, entries)) for entries in found]
        # What lies behind the last one of a class that has more is not known yet.
        unseen = [here[-1] for here, entries in zip(inside, found, strict=True) if len(here) == len(entries) == count]
        known_to = min(unseen, default=None)
        ordered = [entry for entry in merge(*inside) if known_to is None or entry <= known_to]
        entries = list(islice(ordered, want))
        return entries, known_to is not None or len(ordered) > len(entries)

    def _range(self, part: str, name: str, at: Place | None, count: int) -> Range:
        forked = part == FORKED
        if at is None:
            return Range(name, forked, None if part == COMPLETED else 0, "", count)
        if name == at.name:
            return Range(name, forked, at.score, at.id, count)
        # Of one score, classes come by name: those before it have been looked at.
        return Range(name, forked, at.score + (name < at.name), "", count)

    def _bound(self, part: str) -> float:
        """Return the score that a part ends before."""
        if part == COMPLETED:
            return -self.now_ms
        if part == LIVE and self.query.started_before_ms is not None:
            return self.query.started_before_ms
        return float("inf")

    # -- entries against records -----------------------------------------------------------------------------------

    def _judge(self, part: str, entries: Sequence[Entry]) -> int:
        """Take those entries that are true and meant, until the page is full; have those that are not true mended.

        Returns:
            how many entries that was; all of them, unless the page is full.
        """
        prefix = self.query.id_prefix if part == FORKED else ""
        places = [i for i, entry in enumerate(entries) if entry.id.startswith(prefix)]
        keys = [SagaKey(entries[i].name, entries[i].id) for i in places]
        self.read += len(keys)
        mends = []
        through = len(entries)
        for i, key, standing in zip(places, keys, self.shelf.stand(keys, self.now_ms) if keys else (), strict=True):
            if not isinstance(standing, CorruptRecordError):
                score, true = entries[i].score, _score(part, standing)
                if true != score:
                    mends.append(Mend(key, part == FORKED, score, true))
                if part and (true is None or (true < 0) != (part == COMPLETED)):
                    continue
            self._take(key, standing)
            if len(self.rows) >= self.limit:
                through = i + 1
                break
        if mends:
            self.shelf.mend(mends)
        return through

    def _take(self, key: SagaKey, standing: Standing | CorruptRecordError | None) -> None:
        """Add a row where the saga is meant."""
        if isinstance(standing, CorruptRecordError):
            self.unreadable.append(standing)
            return
        query = self.query
        if (
            standing is not None
            and (query.lifecycle is None or (query.lifecycle is Lifecycle.COMPLETED) == standing.completed)
            and (not query.forked or standing.siblings > 1)
            and (query.started_before_ms is None or standing.started_ms < query.started_before_ms)
            and key.id.startswith(query.id_prefix)
        ):
            self.rows[key] = standing.summary(key)


def _score(part: str, standing: Standing | None) -> int | None:
    """Return what the entry of a saga is to say; None for nothing."""
    if standing is None:
        return None
    if part == FORKED:
        return standing.forked_ms if standing.siblings > 1 else None
    return standing.score
