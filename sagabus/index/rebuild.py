"""Bringing an index in line with the records, while others write both."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from attrs import define, field

from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError
from sagabus.index.part import Progress
from sagabus.index.query import Rebuilt
from sagabus.index.shelf import Entry, Mend, Range, Shelf
from sagabus.index.standing import Standing

_AT_ONCE: Final = 500
_KEYS_A_PAGE: Final = 1000


def rebuild(shelf: Shelf, pages: Iterable[list[SagaKey]], *, keys: int, progress: Progress | None) -> Rebuilt:
    """Look at the sagas of *pages*, which are all that are stored; then at all entries.

    An entry is read before its record, and changed only where it still says what was read: what a worker writes in
    between is newer, and stays.

    Args:
        keys: about how many keys *pages* are found among, a thousand for each of them.
    """
    work = _Work(shelf, progress, max(keys, 1))
    for page in pages:
        work.done += _KEYS_A_PAGE
        for part in _parts(page):
            work.records(part)
        work.tell()
    work.done = work.total
    work.total *= 2
    _, names = shelf.begin(None)
    for name in names:
        for forked in (False, True):
            work.entries(name, forked)
    work.done = work.total
    work.tell()
    return Rebuilt(work.sagas, work.added, work.removed, tuple(work.unreadable.values()))


@define
class _Work:
    shelf: Shelf
    progress: Progress | None
    total: int
    done: int = 0
    sagas: int = 0
    added: int = 0
    removed: int = 0
    unreadable: dict[str, CorruptRecordError] = field(factory=dict)

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)

    def records(self, keys: list[SagaKey]) -> None:
        """Have the index say of *keys* what their records say."""
        shelf = self.shelf
        ages, forks = shelf.scores(keys, forked=False), shelf.scores(keys, forked=True)
        now_ms, _ = shelf.begin(())
        mends = []
        for key, age, fork, standing in zip(keys, ages, forks, shelf.stand(keys, now_ms), strict=True):
            if isinstance(standing, CorruptRecordError):
                self.unreadable[standing.key] = standing
            elif standing is not None:
                self.sagas += 1
                since = standing.forked_ms if standing.siblings > 1 else None
                if age != standing.score:
                    mends.append(Mend(key, False, age, standing.score))
                if fork != since:
                    mends.append(Mend(key, True, fork, since))
        if mends:
            self.added += shelf.mend(mends)

    def entries(self, name: str, forked: bool) -> None:
        """Have the entries of a class go whose saga is stored no more."""
        lowest, behind = None, ""
        while True:
            (found,) = self.shelf.ranges([Range(name, forked, lowest, behind, _AT_ONCE)])
            if not found:
                return
            self._judge(found, forked)
            self.done = min(self.done + len(found), self.total)
            self.tell()
            lowest, behind = found[-1].score, found[-1].id

    def _judge(self, found: list[Entry], forked: bool) -> None:
        keys = [SagaKey(entry.name, entry.id) for entry in found]
        now_ms, _ = self.shelf.begin(())
        mends = [
            Mend(key, forked, entry.score, None)
            for entry, key, standing in zip(found, keys, self.shelf.stand(keys, now_ms), strict=True)
            if standing is None or (forked and isinstance(standing, Standing) and standing.siblings < 2)
        ]
        if mends:
            self.removed += self.shelf.mend(mends)


def _parts(keys: list[SagaKey]) -> Iterable[list[SagaKey]]:
    left = iter(dict.fromkeys(keys))
    while part := list(islice(left, _AT_ONCE)):
        yield part
