"""What lanes of one worker that share endpoints know of each other: the sagas in hand, and whether there is much."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from sagabus.envelope import SagaKey

_BEAT_S: Final = 1.0


class SharedWork:
    """The work that some lanes of one worker share. Thread-safe.

    They take turns at a saga, so that none forks within a process. All but the first lane rest as long as that gets
    little at a time: who waits for few messages at once gets them one by one.

    Attributes:
        much: set while the first lane gets much at a time.
    """

    def __init__(self) -> None:
        self.much = threading.Event()
        self._changed = threading.Condition()
        self._held: set[SagaKey] = set()

    def say(self, much: bool) -> None:
        """Note whether the first lane gets much at a time."""
        if much:
            self.much.set()
        else:
            self.much.clear()

    @contextmanager
    def holding(self, keys: Collection[SagaKey], waits: Callable[[], None]) -> Iterator[None]:
        """Keep other lanes from *keys*, once none of them has one of these in hand.

        A lane takes all of a batch at once and holds nothing meanwhile, so no two can wait for each other.

        Args:
            waits: called once a second until then, for the other lane may be waiting for a server; may raise.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: self._held.isdisjoint(keys), _BEAT_S):
                waits()
            self._held.update(keys)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(keys)
                self._changed.notify_all()
