"""The values between leases and stores, and the rules of granting. Pure.

`store/lease.lua` is the same rules in Lua; one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from attrs import evolve, frozen

from sagabus.envelope import SagaKey

LeaseKey = str | SagaKey
"""Which lease: one that users name, or that of an exclusive saga."""
KEPT_MS: Final = 7 * 86_400_000
"""How long the token of a lease that nobody holds is remembered; after that the store's time keeps tokens growing."""


@frozen
class Fence:
    """What a write shows to prove that its lease is still held.

    Attributes:
        lease: the lease, as text.
        token: of this grant; each later one has a higher token.
        until_ms: when the grant ends unless it is renewed, ms since 1970, store's clock. A store takes nothing after.
    """

    lease: str
    token: int
    until_ms: int


@frozen
class Grant:
    """A lease as its store knows it.

    Attributes:
        holder: who holds or held it.
        token: the fencing number of its last grant.
        until_ms: when that grant ends or ended; ms since 1970, store's clock.
        now_ms: the store's time when it said so.
    """

    holder: str
    token: int
    until_ms: int
    now_ms: int

    @property
    def running(self) -> bool:
        """Return whether somebody held the lease when the store said so."""
        return self.until_ms > self.now_ms


@frozen
class LeaseRequest:
    """A wish to hold a lease.

    Attributes:
        holder: who asks.
        ttl_ms: for how long, unless it is renewed.
    """

    holder: str
    ttl_ms: int


class LeaseStore(Protocol):
    """The part of a store that grants leases, on its own clock alone. Errors as of `Store`."""

    def grant(self, key: LeaseKey, holder: str, ttl_ms: int) -> Grant:
        """Grant the lease to *holder* if nobody holds it, and return who holds it now.

        A second call of the same holder, while it holds, changes nothing: replies may get lost.
        """
        ...

    def renew(self, grants: Mapping[LeaseKey, Grant], ttl_ms: int) -> dict[LeaseKey, Grant | None]:
        """Have grants that have not ended end *ttl_ms* from now; None for each that has ended. One round trip."""
        ...

    def release(self, grants: Mapping[LeaseKey, Grant]) -> set[LeaseKey]:
        """End grants and return those that had ended before, other than by their release. One round trip."""
        ...

    def read(self, keys: Sequence[LeaseKey]) -> list[Grant | None]:
        """Return the last grant of each lease; None where none is known."""
        ...


def grant(last: Grant | None, holder: str, ttl_ms: int, now_ms: int) -> Grant:
    """Return the grant that there is once *holder* has asked for the lease. Pure."""
    if last is not None and last.until_ms > now_ms:
        return evolve(last, now_ms=now_ms)
    # The time, in microseconds, also keeps tokens growing where a failover has lost the last grant, or nobody
    # remembers it: no lease is granted more often than that.
    token = max(now_ms * 1000, last.token + 1 if last else 0)
    return Grant(holder, token, now_ms + ttl_ms, now_ms)


def renew(last: Grant | None, mine: Grant, ttl_ms: int, now_ms: int) -> Grant | None:
    """Return the grant that *mine* becomes; None where it has ended. Pure."""
    if last is None or not holds(last, mine) or last.until_ms <= now_ms:
        return None
    return Grant(mine.holder, mine.token, now_ms + ttl_ms, now_ms)


def release(last: Grant | None, mine: Grant, now_ms: int) -> Grant | None:
    """Return the grant that *mine* becomes; None where it had ended before. Pure."""
    if last is None or not holds(last, mine):
        return None
    if last.until_ms > now_ms:
        return Grant(mine.holder, mine.token, now_ms, now_ms)
    # Where it ended sooner than its holder knew, it was released before, and the reply got lost.
    return evolve(last, now_ms=now_ms) if last.until_ms < mine.until_ms else None


def holds(last: Grant, mine: Grant) -> bool:
    """Return whether *mine* is the last grant there was."""
    return (last.holder, last.token) == (mine.holder, mine.token)
