"""Leases in this process: the rules of `sagabus.leases.grant` over a dict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve

from sagabus.leases import grant as rules
from sagabus.leases.grant import Grant, LeaseKey


class MemoryLeases:
    """Grants leases to threads of this process. See `LeaseStore`.

    Args:
        now_ms: its clock, ms since 1970.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._grants: dict[LeaseKey, Grant] = {}
        self._lock = threading.Lock()

    def grant(self, key: LeaseKey, holder: str, ttl_ms: int) -> Grant:
        with self._lock:
            granted = rules.grant(self._grants.get(key), holder, ttl_ms, self._now_ms())
            self._grants[key] = granted
            return granted

    def renew(self, grants: Mapping[LeaseKey, Grant], ttl_ms: int) -> dict[LeaseKey, Grant | None]:
        with self._lock:
            now = self._now_ms()
            renewed = {key: rules.renew(self._grants.get(key), mine, ttl_ms, now) for key, mine in grants.items()}
            self._grants.update({key: after for key, after in renewed.items() if after is not None})
            return renewed

    def release(self, grants: Mapping[LeaseKey, Grant]) -> set[LeaseKey]:
        with self._lock:
            now = self._now_ms()
            released = {key: rules.release(self._grants.get(key), mine, now) for key, mine in grants.items()}
            self._grants.update({key: after for key, after in released.items() if after is not None})
            return {key for key, after in released.items() if after is None}

    def read(self, keys: Sequence[LeaseKey]) -> list[Grant | None]:
        with self._lock:
            now = self._now_ms()
            found = [self._grants.get(key) for key in keys]
            return [last and evolve(last, now_ms=now) for last in found]
