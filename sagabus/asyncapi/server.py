"""The broker of a bus, as AsyncAPI names servers: never with credentials."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from sagabus.connect import embedded_folder, scheme_of
from sagabus.link.address import redact

_PROTOCOLS: Final = {"valkey": "redis", "valkeys": "rediss", "unix": "redis", "embedded": "redis", "pyamqp": "amqp"}
_LOCAL: Final = "localhost"


def server_of(url: str) -> dict[str, Any] | None:
    """Return the server at a transport's *url*; None for queues in memory, which no other process can reach.

    Raises:
        ConfigurationError: where its credentials end cannot be told.
    """
    base, _, kind = scheme_of(url).removeprefix("kombu+").partition("+")
    if base == "memory":
        return None
    server: dict[str, Any] = {"host": _LOCAL, "protocol": _PROTOCOLS.get(base, base)}
    if base == "embedded":
        return server | {"description": f"An embedded Valkey in {embedded_folder(url)}, on a socket."}
    parts = urlsplit(redact(url))
    if base == "unix":
        return server | {"description": f"On the socket {parts.path}."}
    server["host"] = parts.netloc or _LOCAL
    if parts.path.strip("/"):
        server["pathname"] = parts.path
    if kind:
        server["description"] = {"cluster": "A node of a cluster.", "sentinel": "Sentinels, and their service."}[kind]
    return server
