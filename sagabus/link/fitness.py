"""What a server must be to hold sagas: new enough, never evicting, and a primary. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from sagabus.errors import StoreRefusedError

_MIN_REDIS: Final = (7, 0)
_MIN_VALKEY: Final = (7, 2)


def parse_info(reply: bytes | str) -> dict[str, str]:
    """Return what INFO answered, by name."""
    text = reply if isinstance(reply, str) else reply.decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def check_fit(url: str, info: Mapping[str, str]) -> None:
    """Refuse a server that is too old, or that would evict keys. What it does not say is not held against it.

    Args:
        url: the server, without credentials.
        info: of the sections `server` and `memory`.

    Raises:
        StoreRefusedError: with the mend.
    """
    name, minimum = ("Valkey", _MIN_VALKEY) if "valkey_version" in info else ("Redis", _MIN_REDIS)
    text = info.get("valkey_version") or info.get("redis_version")
    if text and tuple(int(part) for part in text.split(".")[:2]) < minimum:
        wanted = ".".join(map(str, minimum))
        raise StoreRefusedError(
            f"{name} {text} at {url} is too old; sagabus needs {name} {wanted} or newer. Upgrade the server"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreRefusedError(
            f"the server at {url} has maxmemory-policy {policy}, which would silently delete sagas; "
            f"run CONFIG SET maxmemory-policy noeviction, and set it in its configuration file"
        )


def epoch_of(info: Mapping[str, str]) -> str:
    """Return the name of this life of this primary: another one after a restart, and after a failover."""
    return hashlib.blake2b(f"{info['master_replid']}{info['run_id']}".encode(), digest_size=6).hexdigest()


def replicas_of(info: Mapping[str, str]) -> int:
    """Return how many replicas follow this primary, of those that have caught up once."""
    return sum(1 for name, value in info.items() if name.startswith("slave") and "state=online" in value)
