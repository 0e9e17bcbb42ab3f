"""Row 22: a thousand concurrent replies to one saga, four workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from sagabus.commit import Outcome, Want
from sagabus.envelope import SagaKey
from tests.chaos.arena import Arena
from tests.chaos.load.driver import Load
from tests.chaos.load.errand import Mix
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_LIMIT: Final = 25
_WORKERS: Final = 4
_LOOK_S: Final = 0.01


@define
class _Watcher:
    """Looks at the hot sagas all the time: how many siblings they have, and how often they forked and merged."""

    load: Load
    most: int = 0
    forks: set[tuple[str, str]] = field(factory=set)
    merges: set[tuple[str, str]] = field(factory=set)
    over: threading.Event = field(factory=threading.Event)

    def watch(self) -> None:
        """Look until it is over."""
        while not self.over.wait(_LOOK_S):
            for saga in self._sagas():
                (snapshot,) = self.load.bus.store.load([Want(saga)])
                self.most = max(self.most, len(snapshot.versions))
                for entry in self.load.bus.store.history(saga):
                    name = (str(saga), str(entry.dot))
                    if entry.outcome is Outcome.FORKED:
                        self.forks.add(name)
                    if len(entry.parents) > 1:
                        self.merges.add(name)

    def _sagas(self) -> Iterator[SagaKey]:
        for errand in list(self.load.accepted)[-2:]:
            yield errand.saga


def run(arena: Arena) -> Verdict:
    """Gather a thousand pieces at a time, one saga after the other."""
    server = arena.server()
    parts = 300 if arena.quick else 1000
    mix = Mix(gather_every=1, watch_every=0, parts=parts)
    # Batches of two, so that hundreds of runs race; the window has one saga hot at a time.
    load = arena.load(server.url, workers=_WORKERS, mix=mix, window=1, batch=2, concurrency=64)
    watcher = _Watcher(load)
    thread = threading.Thread(target=watcher.watch, name="watcher", daemon=True)
    load.send(at_least=arena.size)
    thread.start()
    try:
        load.await_done(arena.size)
        verdict = load.finish()
    finally:
        watcher.over.set()
        thread.join()
    forks, merges = len(watcher.forks), len(watcher.merges)
    note = f"{parts} replies a saga; seen: {forks} forks, {merges} merges, {watcher.most} siblings at most"
    too_many = f"a saga had {watcher.most} siblings, over the limit of {_LIMIT}" if watcher.most > _LIMIT else ""
    endless = f"{merges} merges for {forks} forks" if merges > 2 * forks else ""
    return verdict.with_faults(forks, note).objecting(too_many, endless)


ROW = Row(
    22,
    fault="hot saga: 1,000 concurrent replies, 4 workers",
    holds="baseline; siblings under the limit; merges finite",
    run=run,
    errands=10,
    faults=1,
    quick_errands=1,
)
