"""Which sagas a worker has in hand: its lanes take turns, so that no saga forks within one process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sagabus.envelope import SagaKey


class SagasInHand:
    """Sagas that lanes of one worker are at work on. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[SagaKey] = set()

    @contextmanager
    def holding(self, keys: Collection[SagaKey]) -> Iterator[None]:
        """Keep other lanes from *keys*, once none of them has one of these in hand.

        A lane takes all of a batch at once and holds nothing meanwhile, so no two can wait for each other.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held.isdisjoint(keys))
            self._held.update(keys)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(keys)
                self._changed.notify_all()
