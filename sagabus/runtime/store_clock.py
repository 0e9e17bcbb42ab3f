"""The store's time, as far as a lane knows it: what it was told last, carried on by its own monotonic clock."""

from __future__ import annotations

import time
from typing import Final

_AGE_S: Final = 60.0


class StoreClock:
    """Tells the store's time without asking for it."""

    __slots__ = ("_offset_ms", "_set_at")

    def __init__(self) -> None:
        self._offset_ms = 0.0
        self._set_at = -_AGE_S

    @property
    def old(self) -> bool:
        """Return whether it was never set, or so long ago that the two clocks may have drifted apart."""
        return time.monotonic() - self._set_at >= _AGE_S

    def now_ms(self) -> int:
        """Return the store's time, ms since 1970."""
        return round(time.monotonic() * 1000 + self._offset_ms)

    def set(self, store_now_ms: int) -> None:
        """Set it to what the store has just said."""
        self._set_at = time.monotonic()
        self._offset_ms = store_now_ms - self._set_at * 1000
