"""Every broker that kombu knows: RabbitMQ in full, the others as far as their transports allow."""

from __future__ import annotations

from collections.abc import Sequence

from kombu.transport import TRANSPORT_ALIASES

from sagabus.errors import ConfigurationError, UnknownTransportError
from sagabus.link import ServerIdentity
from sagabus.transport import Parcel, QueueInfo, Receiver, Refusal, ReplyQueue, Transport, reply_queue_of
from transports.amqp import AmqpTransport
from transports.virtual import VirtualTransport

_AMQP = frozenset({"amqp", "amqps", "pyamqp"})
_LOSES_MESSAGES = frozenset({"redis", "rediss", "valkey", "valkeys", "sentinel", "librabbitmq"})


class KombuTransport:
    """A broker found by kombu's URL; see `amqp.py` for RabbitMQ and `virtual.py` for what the others promise.

    Args:
        url: a kombu URL, with `kombu+` before it where its scheme has another meaning here (`kombu+memory:`).

    Raises:
        ConfigurationError: kombu's transport for the scheme loses messages: Redis a killed worker's, librabbitmq what
            was not confirmed.
        UnknownTransportError: kombu does not know the scheme.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        url = url.removeprefix("kombu+")
        scheme = url.partition(":")[0]
        if scheme in _LOSES_MESSAGES:
            raise ConfigurationError(
                f"kombu's {scheme!r} transport loses messages when a worker is killed; "
                f"use redis: valkey: or amqp: URLs without 'kombu+'"
            )
        if scheme not in TRANSPORT_ALIASES:
            raise UnknownTransportError(scheme, [name for name in TRANSPORT_ALIASES if name not in _LOSES_MESSAGES])
        kind = AmqpTransport if scheme in _AMQP else VirtualTransport
        self._inner: Transport = kind(url, namespace=namespace)

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def server(self) -> ServerIdentity | None:
        """Return None: no store shares a write with these brokers."""
        return None

    def declare(
        self, endpoint: str, *, subscriptions: Sequence[str], partitions: int = 1, max_length: int = 1_000_000
    ) -> None:
        """Make the queue of *endpoint*; see `Transport.declare`."""
        self._inner.declare(endpoint, subscriptions=subscriptions, partitions=partitions, max_length=max_length)

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        """Send *parcels* and return those that were refused; see `Transport.send`."""
        return self._inner.send(parcels, force=force)

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> Receiver:
        """Return a consumer of the queues of *endpoints*; see `Transport.receiver`."""
        return self._inner.receiver(endpoints, consumer=consumer, claim_s=claim_s)

    def reply_queue(self, address: str) -> ReplyQueue:
        """Return a new reply queue at *address*; see `reply_queue_of`."""
        return reply_queue_of(self._inner, address)

    def queues(self) -> list[QueueInfo]:
        """Return the queues that are known; see `Transport.queues`."""
        return self._inner.queues()

    def close(self) -> None:
        """Close every connection."""
        self._inner.close()
