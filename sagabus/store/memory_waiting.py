"""Waiting messages in this process, over a dict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from sagabus.envelope import SagaKey
from sagabus.store.protocol import Scheduled
from sagabus.waiting.message import Waiting


class MemoryWaiting:
    """Keeps messages until they are due, and shows and changes them. See `WaitingStore`.

    Args:
        now_ms: its clock, ms since 1970.
        forget: has the record of a saga forget a timer, as `forget_timer`.
    """

    def __init__(self, now_ms: Callable[[], int], forget: Callable[[SagaKey, str, str], bool]) -> None:
        self._now_ms = now_ms
        self._forget = forget
        self._scheduled: dict[str, Waiting] = {}
        self._lock = threading.RLock()

    def schedule(self, item: Scheduled) -> None:
        """Keep *item* until it is due."""
        with self._lock:
            self._scheduled[item.id] = Waiting(item, item.due_ms)

    def unschedule(self, id_: str) -> None:
        """Forget what is scheduled as *id_*."""
        with self._lock:
            self._scheduled.pop(id_, None)

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        """See `Store.due`."""
        with self._lock:
            now = self._now_ms()
            ripe = [waiting.item for waiting in self._ordered() if waiting.at_ms <= now][:limit]
            for item in ripe:
                self._scheduled[item.id] = Waiting(item, now + round(lease_s * 1000))
            return ripe

    def find(self, since_ms: int | None = None, until_ms: int | None = None) -> Iterator[Waiting]:
        with self._lock:
            found = [
                waiting
                for waiting in self._ordered()
                if (since_ms is None or waiting.at_ms >= since_ms) and (until_ms is None or waiting.at_ms < until_ms)
            ]
        yield from found

    def _ordered(self) -> list[Waiting]:
        return sorted(self._scheduled.values(), key=lambda waiting: (waiting.at_ms, waiting.item.id))

    def get(self, name: str) -> Waiting | None:
        with self._lock:
            return self._scheduled.get(name)

    def take(self, waiting: Waiting) -> bool:
        with self._lock:
            if not self._is_there(waiting) or waiting.at_ms <= self._now_ms():
                return False
            del self._scheduled[waiting.item.id]
            return True

    def hurry(self, waiting: Waiting) -> bool:
        with self._lock:
            if not self._is_there(waiting):
                return False
            self._scheduled[waiting.item.id] = Waiting(waiting.item, min(waiting.at_ms, self._now_ms()))
            return True

    def _is_there(self, waiting: Waiting) -> bool:
        known = self._scheduled.get(waiting.item.id)
        return known is not None and known.at_ms == waiting.item.due_ms

    def forget_timer(self, saga: SagaKey, timer: str, message_id: str) -> bool:
        return self._forget(saga, timer, message_id)
