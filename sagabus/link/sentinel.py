"""Which server is the primary now, as Redis Sentinel says."""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from sagabus.link.address import Target
from sagabus.link.node import Address
from sagabus.terms import Terms


class Sentinels:
    """Those that a URL names; asked one after the other, the one that answered last first."""

    def __init__(self, target: Target, terms: Terms) -> None:
        options: dict[str, Any] = {
            "socket_timeout": terms.timeout_s,
            "socket_connect_timeout": terms.timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **dict(target.sentinel_options),
        }
        self._service = target.service
        self._client: Any = Sentinel(target.sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    def primary(self) -> Address:
        """Return where the primary is.

        Raises:
            redis.RedisError: none of them knows; `MasterNotFoundError` says what each answered.
        """
        host, port = self._client.discover_master(self._service)
        return host, int(port)
