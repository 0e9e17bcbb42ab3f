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

from sagabus.documents.key import check_name
from sagabus.errors import ConfigurationError, LeaseHeldError, LeaseLostError, SagabusError
from sagabus.leases.grant import KEPT_MS, Fence, Grant, LeaseStore, holds

_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.5
_RENEWALS_A_TTL: Final = 3
_LONGEST_TTL_S: Final = KEPT_MS / 1000


class Lease:
    """One holder in the whole cluster, for as long as it renews. Made by `Bus.lease`; not for two threads at once.

    Whether it is held is decided by the store, on the store's clock. A holder that was paused or cut off beyond the
    lease cannot know; so have what it writes demand the lease: `bus.documents.put(..., fence=lease)`.

    It is held by the process that took it: a child that was forked meanwhile does not hold it, and ends nothing.

    Args:
        store: returns the part of a store that grants leases.
        name: of the lease.
        ttl_s: how long it is held without a sign of life of its holder; at most seven days.
        wait_s: how long to wait for another holder; 0 asks once.
    """

    def __init__(self, store: Callable[[], LeaseStore], name: str, *, ttl_s: float, wait_s: float = 0.0) -> None:
        check_name(name, "lease")
        if not 0 < ttl_s <= _LONGEST_TTL_S or not wait_s >= 0:
            raise ConfigurationError(
                f"lease {name!r} with ttl_s={ttl_s:g} and wait_s={wait_s:g}: give a time to live above 0 and of at "
                f"most {_LONGEST_TTL_S:g} seconds (it is renewed while it is held), and a time to wait of at least 0"
            )
        self.name, self.ttl_s, self.wait_s = name, ttl_s, wait_s
        self._store = store
        # What two threads look at, its holder's and the one that renews.
        self._lock = threading.Lock()
        self._grant: Grant | None = None
        self._lost = False
        self._ended = threading.Event()
        self._process = self._token = 0

    # -- taking and giving back ----------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Take the lease, waiting up to `wait_s` for whoever holds it.

        Raises:
            LeaseHeldError: they held it all that time.
            ConfigurationError: this object holds it already.
        """
        if self._mine() is not None:
            raise ConfigurationError(f"lease {self.name!r} is held through this object already; make another one")
        grant = self._granted(f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}")
        # A lock and an event of its own for each grant: a fork may have copied them in any state.
        self._lock, ended = threading.Lock(), threading.Event()
        self._grant, self._lost, self._ended = grant, False, ended
        self._process, self._token = os.getpid(), grant.token
        try:
            threading.Thread(target=self._renew, args=(ended,), name=f"lease-{self.name}", daemon=True).start()
        except BaseException:
            self.release()
            raise

    def _granted(self, holder: str) -> Grant:
        began, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            grant = self._store().grant(self.name, holder, self._ttl_ms)
            if grant.holder == holder:
                return grant
            waited_s = time.monotonic() - began
            remaining_s = (grant.until_ms - grant.now_ms) / 1000
            if waited_s >= self.wait_s:
                raise LeaseHeldError(self.name, grant.holder, remaining_s, waited_s)
            # Waiters are spread, so that they do not ask in step.
            time.sleep(min(pause_s * random.uniform(0.5, 1.0), remaining_s, self.wait_s - waited_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def release(self) -> None:
        """Give the lease back; one that has ended already, or was never taken, is no error."""
        self._give_back()

    def _give_back(self) -> Grant | None:
        """Give the lease back; return its grant if it had ended before."""
        grant = self._mine()
        if grant is None:
            return None
        with self._lock:
            grant, lost = self._grant or grant, self._lost
            self._grant = None
        self._ended.set()
        return grant if lost or self._store().release({self.name: grant}) else None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back. An error of the block goes on its way, with a note on what became of the lease.

        Raises:
            LeaseLostError: it had ended before: the work was not alone.
        """
        try:
            lost = self._give_back()
            if lost is not None:
                raise LeaseLostError(self.name, lost.token)
        except SagabusError as problem:
            if error is None:
                raise
            error.add_note(str(problem))

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
            ConfigurationError: it was never taken, or by another process, from which this one was forked.
        """
        grant = self._grant
        if not self._process:
            raise ConfigurationError(f"lease {self.name!r} was not taken yet; use it in a with block, or acquire() it")
        if grant is not None and self._mine() is None:
            raise ConfigurationError(
                f"lease {self.name!r} is held by process {self._process}, and this is {os.getpid()}, forked from it; "
                f"take the lease where it is used"
            )
        if grant is None or self._lost:
            raise LeaseLostError(self.name, self._token)
        return Fence(self.name, grant.token, grant.until_ms)

    def check(self) -> None:
        """Ask the store whether the lease is still held, and renew it: for long work, between its steps.

        Raises:
            LeaseLostError: it is not.
        """
        self.fence()
        self._extend()
        self.fence()

    def _mine(self) -> Grant | None:
        """Return the grant, where this very process took it."""
        return self._grant if self._process == os.getpid() else None

    # -- renewal -------------------------------------------------------------------------------------------------

    @property
    def _ttl_ms(self) -> int:
        return max(1, round(self.ttl_s * 1000))

    def _renew(self, ended: threading.Event) -> None:
        heard_at = time.monotonic()
        while not ended.wait(self.ttl_s / _RENEWALS_A_TTL) and not self._lost:
            try:
                asked_at = time.monotonic()
                self._extend()
                heard_at = asked_at
            except SagabusError:
                # Unknown, so it is tried again: in time, or the store says that it came too late. Only where it says
                # nothing for a whole lease is this clock asked, and only to give up.
                with self._lock:
                    if self._ended is ended and time.monotonic() - heard_at > self.ttl_s:
                        self._lost = True

    def _extend(self) -> None:
        """Have the grant end later, or note that it has ended."""
        grant = self._grant
        if grant is None:
            return
        renewed = self._store().renew({self.name: grant}, self._ttl_ms)[self.name]
        with self._lock:
            now = self._grant
            if now is None or not holds(now, grant):
                return  # released meanwhile
            if renewed is None:
                self._lost = True
            elif renewed.until_ms > now.until_ms:
                self._grant = renewed

    def __repr__(self) -> str:
        return f"Lease({self.name!r}, ttl_s={self.ttl_s:g})"
