"""Workers and paused endpoints in this process, over dicts."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sagabus.telemetry.card import KEPT_MS, Orders, Pause, Roster, WorkerCard, decode_card, encode_card


class MemoryPresence:
    """Keeps cards in a dict. See `PresenceStore`.

    Args:
        now_ms: its clock, ms since 1970.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        # As they would be written: what a worker goes on counting is not on the card that it has shown.
        self._cards: dict[str, tuple[int, bytes]] = {}
        self._paused: dict[str, Pause] = {}
        self._lock = threading.Lock()

    def show(self, card: WorkerCard) -> Orders:
        written = encode_card(card)
        with self._lock:
            now = self._now_ms()
            self._cards[card.worker] = now, written
            for worker in [name for name, (seen_ms, _) in self._cards.items() if seen_ms <= now - KEPT_MS]:
                del self._cards[worker]
            return Orders(frozenset(self._paused))

    def leave(self, worker: str) -> None:
        with self._lock:
            self._cards.pop(worker, None)

    def cards(self) -> Roster:
        with self._lock:
            now = self._now_ms()
            found = [(name, seen, data) for name, (seen, data) in sorted(self._cards.items()) if seen > now - KEPT_MS]
        return Roster(now, tuple(decode_card(name, data, seen_ms) for name, seen_ms, data in found))

    def pause(self, endpoint: str, by: str, why: str = "") -> Pause:
        with self._lock:
            return self._paused.setdefault(endpoint, Pause(endpoint, by, why, self._now_ms()))

    def resume(self, endpoint: str) -> Pause | None:
        with self._lock:
            return self._paused.pop(endpoint, None)

    def paused(self) -> dict[str, Pause]:
        with self._lock:
            return dict(sorted(self._paused.items()))
