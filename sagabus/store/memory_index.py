"""The index of sagas in this process, over dicts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError
from sagabus.index.finder import find
from sagabus.index.part import Progress
from sagabus.index.query import Forked, Rebuilt, SagaCount, SagaPage, SagaQuery
from sagabus.index.rebuild import rebuild
from sagabus.index.shelf import Entry, Mend, Range, Scanned
from sagabus.index.standing import Standing

if TYPE_CHECKING:
    from sagabus.store.memory import Record


class MemoryIndex:
    """Finds sagas by dicts, for `MemoryStore`. See `SagaIndex`.

    Args:
        now_ms: its clock, ms since 1970.
        record: returns what is stored of a saga; None for nothing.
        stored: returns all sagas that may be stored.
        lock: of the store.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        record: Callable[[SagaKey, int], Record | None],
        stored: Callable[[], Iterable[SagaKey]],
        lock: threading.RLock,
    ) -> None:
        self._now_ms = now_ms
        self._stored = stored
        self._lock = lock
        self._shelf = MemoryShelf(now_ms, record, lock)

    def note(self, key: SagaKey, before: Record | None, after: Record, now_ms: int) -> None:
        """Note what a commit has changed, as `commit.lua` does in the same write."""
        self._shelf.note(key, before, after, now_ms)

    def find(self, query: SagaQuery, limit: int = 50, cursor: str = "") -> SagaPage:
        return find(self._shelf, query, limit, cursor)

    def counts(self) -> list[SagaCount]:
        now_ms, names = self._shelf.begin(None)
        counts = []
        for name in names:
            scores = [entry.score for entry in self._shelf.entries(name, forked=False)]
            live = sum(1 for score in scores if score >= 0)
            counts.append(SagaCount(name, live, sum(1 for score in scores if score < -now_ms)))
        return [count for count in counts if count.live or count.completed]

    def forked(self) -> Forked:
        _, names = self._shelf.begin(None)
        since = [entry.score for name in names for entry in self._shelf.entries(name, forked=True)]
        return Forked(len(since), min(since, default=None))

    def missing(self, keys: Sequence[SagaKey]) -> list[SagaKey]:
        scores = self._shelf.scores(keys, forked=False)
        return [key for key, score in zip(keys, scores, strict=True) if score is None]

    def rebuild(self, progress: Progress | None = None) -> Rebuilt:
        with self._lock:
            keys = list(self._stored())
        return rebuild(self._shelf, [keys], keys=len(keys), progress=progress)

    def trim(self, limit: int = 1000) -> int:
        return self._shelf.trim(self._now_ms(), limit)


class MemoryShelf:
    """The entries of the index, and what records do not say of themselves. See `Shelf`."""

    def __init__(
        self, now_ms: Callable[[], int], record: Callable[[SagaKey, int], Record | None], lock: threading.RLock
    ) -> None:
        self._now_ms, self._record, self._lock = now_ms, record, lock
        self._scores: dict[bool, dict[str, dict[str, int]]] = {False: {}, True: {}}
        self._standings: dict[SagaKey, Standing] = {}

    def note(self, key: SagaKey, before: Record | None, after: Record, now_ms: int) -> None:
        """See `MemoryIndex.note`."""
        with self._lock:
            old = self._standings.get(key)
            begun = old is None or before is None or (before.completed and not after.completed)
            live = len(after.versions.live)
            self._standings[key] = new = Standing(
                after.completed,
                live,
                after.life,
                sum(after.versions.clock.values()),
                now_ms if begun or old is None else old.started_ms,
                0 if live < 2 else now_ms if begun or old is None or not old.forked_ms else old.forked_ms,
                0 if not after.completed else old.completed_ms if old is not None and old.completed else now_ms,
                after.expires_ms or 0,
            )
            self._set(key, False, new.score)
            self._set(key, True, new.forked_ms or None)

    def _set(self, key: SagaKey, forked: bool, score: int | None) -> None:
        scores = self._scores[forked].setdefault(key.name, {})
        if score is None:
            scores.pop(key.id, None)
        else:
            scores[key.id] = score

    def entries(self, name: str, *, forked: bool) -> list[Entry]:
        """Return the entries of a class, in order."""
        with self._lock:
            return sorted(Entry(score, name, id_) for id_, score in self._scores[forked].get(name, {}).items())

    def begin(self, names: tuple[str, ...] | None) -> tuple[int, list[str]]:
        with self._lock:
            return self._now_ms(), sorted(self._scores[False]) if names is None else list(names)

    def ranges(self, wanted: Sequence[Range]) -> list[list[Entry]]:
        return [self._range(each) for each in wanted]

    def _range(self, wanted: Range) -> list[Entry]:
        entries = self.entries(wanted.name, forked=wanted.forked)
        lowest, behind = wanted.lowest, wanted.behind
        if lowest is not None and behind:
            entries = [entry for entry in entries if (entry.score, entry.id) > (lowest, behind)]
        elif lowest is not None:
            entries = [entry for entry in entries if entry.score >= lowest]
        return entries[: wanted.count]

    def scan(self, name: str, at: int, prefix: str) -> Scanned:
        entries = self.entries(name, forked=False)
        return Scanned(0, len(entries), [entry for entry in entries if entry.id.startswith(prefix)])

    def scores(self, keys: Sequence[SagaKey], *, forked: bool) -> list[int | None]:
        with self._lock:
            return [self._scores[forked].get(key.name, {}).get(key.id) for key in keys]

    def stand(self, keys: Sequence[SagaKey], now_ms: int) -> list[Standing | CorruptRecordError | None]:
        with self._lock:
            return [self._standings.get(key) if self._record(key, now_ms) is not None else None for key in keys]

    def mend(self, mends: Sequence[Mend]) -> int:
        mended = 0
        with self._lock:
            for mend in mends:
                if self._scores[mend.forked].get(mend.key.name, {}).get(mend.key.id) == mend.seen:
                    self._set(mend.key, mend.forked, mend.score)
                    mended += 1
        return mended

    def trim(self, now_ms: int, limit: int) -> int:
        """See `SagaIndex.trim`."""
        with self._lock:
            gone = 0
            for name in list(self._scores[False]):
                expired = [e for e in self.entries(name, forked=False) if -now_ms <= e.score < 0][:limit]
                for entry in expired:
                    key = SagaKey(name, entry.id)
                    self._set(key, False, None)
                    self._standings.pop(key, None)
                gone += len(expired)
            return gone
