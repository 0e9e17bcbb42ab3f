"""Who serves which slot of a cluster, as its nodes say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import redis
from redis.crc import key_slot

from sagabus.link.address import host_of, join

SLOTS: Final = 16_384
_MARKERS: Final = 8
"""How many keys of one node may be markers: one of them may be in a slot that is just moving."""


def read_slots(rows: Sequence[Any], asked: str) -> list[str]:
    """Return the address of the primary of each slot from what CLUSTER SLOTS answered.

    Args:
        asked: the address of the node that answered, which may leave its own host out.

    Raises:
        redis.exceptions.ClusterDownError: some slots are served by nobody.
    """
    slots = [""] * SLOTS
    for first, last, primary, *_ in rows:
        host = (primary[0] or b"").decode()
        slots[first : last + 1] = [beside(asked, host, primary[1])] * (last - first + 1)
    if "" in slots:
        raise redis.exceptions.ClusterDownError("some slots are not covered")
    return slots


def beside(asked: str, host: str, port: int) -> str:
    """Return the address that the node at *asked* gives; where it leaves the host out, it means its own."""
    return join(host_of(asked) if host in ("", "?") else host, port)


class SlotMap:
    """What is known of the slots; read when it is first needed, and again when it was forgotten.

    Args:
        ask: returns the slots as the node at an address says them.
        seed: the address of a node to ask when no other answers.
    """

    def __init__(self, ask: Callable[[str], list[str]], seed: str) -> None:
        self._ask, self._seed = ask, seed
        self._slots: list[str] = []
        self._known: tuple[str, ...] = ()
        self._markers: dict[tuple[str, int], str] = {}

    def read(self) -> list[str]:
        """Return the address of the primary of each slot, asking any node that answers.

        Raises:
            redis.RedisError, OSError: none does, or some slots are served by nobody.
        """
        if slots := self._slots:
            return slots
        error: Exception | None = None
        for address in dict.fromkeys((*self._known, self._seed)):
            try:
                slots = self._ask(address)
            except (redis.RedisError, OSError) as failure:
                error = failure
                continue
            self._markers = {}
            # Who answered is asked first the next time: another one may be gone, and take its time to say so.
            self._slots, self._known = slots, (address, *sorted({*slots} - {address}))
            return slots
        raise error or redis.ConnectionError("no node of the cluster is known")

    def primaries(self) -> list[str]:
        """Return the addresses of all primaries."""
        return sorted(set(self.read()))

    def forget(self) -> None:
        """Have the slots read again before they are used next."""
        self._slots = []

    def moved(self, slot: int, address: str) -> None:
        """Note that a node said where a slot is: other nodes may not know yet, so that asking them would not help."""
        if slots := self._slots:
            slots[slot] = address

    def marker(self, prefix: str, address: str, nth: int) -> str:
        """Return a key that the node at *address* serves, another one for another *nth*.

        Raises:
            redis.RedisError, OSError: it serves none any more, or nobody says which.
        """
        slots = self.read()
        nth %= _MARKERS
        known = self._markers.get((address, nth))
        if known is None or slots[key_slot(known.encode())] != address:
            if address not in slots:
                raise redis.ConnectionError(f"the node at {address} serves no slot any more")
            # Any number will do; those of one *nth* are none of another's.
            names = (f"{prefix}:{{{number}}}" for number in count(nth, _MARKERS))
            known = next(name for name in names if slots[key_slot(name.encode())] == address)
            self._markers[(address, nth)] = known
        return known
