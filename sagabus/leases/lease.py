"""`bus.lease`: hold a lease for the length of a `with` block, renewed in the background."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from sagabus.errors import ConfigurationError, LeaseHeldError, LeaseLostError, UnavailableError
from sagabus.leases.grant import Fence, Grant, LeaseStore

_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.5
_RENEWALS_A_TTL: Final = 3


class Lease:
    """One holder in the whole cluster, for as long as it renews. Made by `Bus.lease`; not for two threads at once.

    Whether it is held is decided by the store, on the store's clock. A holder that was paused or cut off beyond the
    lease cannot know; so have what it writes demand the lease: `bus.documents.put(..., fence=lease)`.

    Args:
        store: returns the part of a store that grants leases.
        name: of the lease.
        ttl_s: how long it is held without a sign of life of its holder.
        wait_s: how long to wait for another holder; 0 asks once.
    """

    def __init__(self, store: Callable[[], LeaseStore], name: str, *, ttl_s: float, wait_s: float = 0.0) -> None:
        if not name or not ttl_s > 0 or not wait_s >= 0:
            raise ConfigurationError(
                f"lease {name!r} with ttl_s={ttl_s:g} and wait_s={wait_s:g}: it needs a name, a time to live above 0 "
                f"and a time to wait of at least 0"
            )
        self.name, self.ttl_s, self.wait_s = name, ttl_s, wait_s
        self._store = store
        self._grant: Grant | None = None
        self._lost = False
        self._released = threading.Event()
        self._renewer: threading.Thread | None = None

    # -- taking and giving back ----------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Take the lease, waiting up to `wait_s` for whoever holds it.

        Raises:
            LeaseHeldError: they held it all that time.
            ConfigurationError: this object holds it already.
        """
        if self._grant is not None:
            raise ConfigurationError(f"lease {self.name!r} is held through this object already; make another one")
        holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        began, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            grant = self._store().grant(self.name, holder, self._ttl_ms)
            if grant.holder == holder:
                break
            waited_s = time.monotonic() - began
            remaining_s = (grant.until_ms - grant.now_ms) / 1000
            if waited_s >= self.wait_s:
                raise LeaseHeldError(self.name, grant.holder, remaining_s, waited_s)
            # Waiters are spread, so that they do not ask in step.
            time.sleep(min(pause_s * random.uniform(0.5, 1.0), remaining_s, self.wait_s - waited_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._grant, self._lost = grant, False
        self._released.clear()
        self._renewer = threading.Thread(target=self._renew, name=f"lease-{self.name}", daemon=True)
        self._renewer.start()

    def release(self) -> None:
        """Give the lease back; one that has ended already, or was never taken, is no error."""
        grant, self._grant = self._grant, None
        if grant is None:
            return
        self._released.set()
        if self._renewer is not None:
            self._renewer.join()
        if not self._lost:
            self._store().release({self.name: grant})

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back.

        Raises:
            LeaseLostError: it had ended before, and no other error is under way: the work was not alone.
        """
        token, lost = (self._grant.token if self._grant else 0), self._lost
        self.release()
        if lost and error is None:
            raise LeaseLostError(self.name, token)

    # -- what a holder may ask -----------------------------------------------------------------------------------

    @property
    def token(self) -> int:
        """Return the fencing number of this grant: higher than that of every grant before.

        Raises:
            LeaseLostError: it is not held any more.
        """
        return self.fence().token

    def fence(self) -> Fence:
        """Return what a write shows to prove that the lease is held; the store judges it, on its own clock.

        Raises:
            LeaseLostError: it is known not to be held any more.
        """
        grant = self._grant
        if grant is None or self._lost:
            raise LeaseLostError(self.name, grant.token if grant else 0)
        return Fence(self.name, grant.token, grant.until_ms)

    def check(self) -> None:
        """Ask the store whether the lease is still held, and renew it: for long work, between its steps.

        Raises:
            LeaseLostError: it is not.
        """
        self.fence()
        self._extend()
        self.fence()

    # -- renewal -------------------------------------------------------------------------------------------------

    @property
    def _ttl_ms(self) -> int:
        return max(1, round(self.ttl_s * 1000))

    def _renew(self) -> None:
        while not self._released.wait(self.ttl_s / _RENEWALS_A_TTL) and not self._lost:
            try:
                self._extend()
            except UnavailableError:
                # Nothing is known: the lease may end meanwhile, and then the store says so when it answers again.
                continue

    def _extend(self) -> None:
        grant = self._grant
        if grant is None:
            return
        renewed = self._store().renew({self.name: grant}, self._ttl_ms)[self.name]
        if renewed is None:
            self._lost = True
        elif self._grant is not None:
            self._grant = renewed

    def __repr__(self) -> str:
        return f"Lease({self.name!r}, ttl_s={self.ttl_s:g})"
