"""Leases in Redis or Valkey: `lease.lua`, on the server's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sagabus.leases.grant import KEPT_MS, Grant, LeaseKey
from sagabus.link import Command, Link, Script
from sagabus.store.layout import Keys

_LEASE: Final = Script.beside("sagabus.store", "lease.lua")


class RedisLeases:
    """Grants leases. See `LeaseStore`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys

    def grant(self, key: LeaseKey, holder: str, ttl_ms: int) -> Grant:
        (reply,) = self._link.round([self.granting(key, holder, ttl_ms)])
        return granted(reply)

    def granting(self, key: LeaseKey, holder: str, ttl_ms: int) -> Command:
        """Return the command that grants a lease, before what is sent behind it; `granted` reads its reply."""
        return _LEASE.brought([self._keys.lease(key)], ("grant", holder, 0, ttl_ms, KEPT_MS))

    def releasing(self, key: LeaseKey, mine: Grant) -> Command:
        """Return the command that ends a grant."""
        args = ("release", mine.holder, mine.token, mine.until_ms, KEPT_MS)
        return _LEASE.call([self._keys.lease(key)], args)

    def renew(self, grants: Mapping[LeaseKey, Grant], ttl_ms: int) -> dict[LeaseKey, Grant | None]:
        replies = self._link.round(
            [
                _LEASE.call([self._keys.lease(key)], ("renew", mine.holder, mine.token, ttl_ms, KEPT_MS))
                for key, mine in grants.items()
            ]
        )
        return {key: granted(reply) if len(reply) > 1 else None for key, reply in zip(grants, replies, strict=True)}

    def release(self, grants: Mapping[LeaseKey, Grant]) -> set[LeaseKey]:
        replies = self._link.round([self.releasing(key, mine) for key, mine in grants.items()])
        return {key for key, reply in zip(grants, replies, strict=True) if len(reply) == 1}

    def read(self, keys: Sequence[LeaseKey]) -> list[Grant | None]:
        commands = []
        for key in keys:
            name = self._keys.lease(key)
            commands += [Command(("TIME",), name), Command(("HMGET", name, "holder", "token", "ends"), name)]
        replies = self._link.round(commands)
        return [_known(replies[i], replies[i + 1]) for i in range(0, len(replies), 2)]


def granted(reply: Sequence[Any]) -> Grant:
    """Return the grant that lease.lua answered with."""
    holder, token, until_ms, now_ms = reply
    return Grant(holder.decode(errors="replace"), token, until_ms, now_ms)


def _known(time: Sequence[bytes], fields: Sequence[bytes | None]) -> Grant | None:
    holder, token, ends = fields
    if holder is None or token is None or ends is None:
        return None
    try:
        return Grant(holder.decode(), int(token), int(ends), int(time[0]) * 1000 + int(time[1]) // 1000)
    except ValueError:
        return None  # lease.lua takes what is damaged for never granted, too
