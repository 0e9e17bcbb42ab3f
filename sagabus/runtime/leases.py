"""The leases that a lane has in hand: of the exclusive sagas that it runs just now."""

from __future__ import annotations

import threading
from typing import Any

from attrs import evolve

from sagabus.envelope import SagaKey
from sagabus.errors import SagabusError
from sagabus.leases.grant import Grant, LeaseKey, LeaseRequest
from sagabus.store.protocol import Store


class LeasesInHand:
    """Grants that the store has made to one lane. Thread-safe: the lane takes and gives back, another thread renews.

    Args:
        store: grants them, with its loads.
        holder: the name of this lane in this life of its worker, which no other lane has or had.
        ttl_ms: how long a lease lasts without a renewal.
        log: a structlog logger.

    Attributes:
        request: what to ask the store for.
    """

    def __init__(self, store: Store, *, holder: str, ttl_ms: int, log: Any) -> None:
        self._store, self._log = store, log
        self.request = LeaseRequest(holder, ttl_ms)
        self._grants: dict[LeaseKey, Grant] = {}
        self._lock = threading.Lock()

    def take(self, key: SagaKey, grant: Grant) -> bool:
        """Note what the store said of a lease; return whether it is this lane's."""
        with self._lock:
            mine = self._grants.pop(key, None)
            if grant.holder != self.request.holder:
                return False
            # A renewal may have overtaken the answer.
            later = mine is not None and mine.token == grant.token and mine.until_ms > grant.until_ms
            self._grants[key] = mine if mine is not None and later else grant
            return True

    def latest(self, key: SagaKey) -> Grant:
        """Return the grant of a lease in hand, as it was renewed last."""
        with self._lock:
            return self._grants[key]

    def given_back(self, key: SagaKey) -> None:
        """Note that the store was asked to end a lease with something else."""
        with self._lock:
            self._grants.pop(key, None)

    def give_back(self) -> None:
        """End all that is still in hand: one round trip, or none. What cannot be given back ends by itself."""
        with self._lock:
            grants = dict(self._grants)
            self._grants.clear()
        if not grants:
            return
        try:
            self._store.leases.release(grants)
        except SagabusError as error:
            self._log.warning("not-given-back", leases=[str(key) for key in grants], error=str(error))

    def renew(self) -> None:
        """Have all leases in hand last their time from now on. One that has ended is so noted: nothing passes under it.

        Raises:
            SagabusError: the store does not answer; the leases may end meanwhile.
        """
        with self._lock:
            grants = dict(self._grants)
        if not grants:
            return
        renewed = self._store.leases.renew(grants, self.request.ttl_ms)
        with self._lock:
            for key, mine in self._grants.items():
                # What the lane has given back or taken anew meanwhile is none of this.
                if key in grants and grants[key].token == mine.token:
                    after = renewed[key]
                    self._grants[key] = evolve(mine, until_ms=0) if after is None else after
