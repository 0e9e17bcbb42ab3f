"""Housekeeping: what has been kept for long enough goes, a bounded part at a time, by one worker of all."""

from __future__ import annotations

from typing import Any, Final

from sagabus.bus import Bus

LEASE: Final = "sagabus/dead-letters"
EVERY_S: Final = 60.0
_LETTERS: Final = 1000
_SAGAS: Final = 1000


class Housekeeping:
    """Removes dead letters, and lines of their audit trail, that are older than the bus keeps them; what has expired
    from the index of sagas.

    Whoever gets the lease does it; the lease is not given back, so that the next turn comes when it has ended.

    Args:
        bus: whose letters.
        holder: who asks for the lease.
        log: a structlog logger.
    """

    def __init__(self, bus: Bus, holder: str, *, log: Any) -> None:
        self._bus, self._holder, self._log = bus, holder, log
        self._next_at = float("-inf")

    def step(self, now: float) -> int:
        """Remove a part of what is too old, if it is time; return how many letters and entries went.

        Args:
            now: on the monotonic clock, seconds.
        """
        if now < self._next_at:
            return 0
        grant = self._bus.store.leases.grant(LEASE, self._holder, round(EVERY_S * 1000))
        self._next_at = now + EVERY_S
        if grant.holder != self._holder:
            return 0
        gone = self._bus.store.letters.expire(round(self._bus.dead_letter_retention.total_seconds() * 1000), _LETTERS)
        if gone:
            self._log.info("letters-expired", letters=gone)
        index = getattr(self._bus.store, "index", None)
        trimmed: int = index.trim(_SAGAS) if index is not None else 0
        if gone == _LETTERS or trimmed >= _SAGAS:
            self._next_at = now
        return gone + trimmed
