"""Queues on a Redis or Valkey server, or on a cluster of them, as streams with one consumer group.

Keys, NS being the namespace of the bus:

    NS:topology          hash    what was declared: see redis_topology.py
    NS:q:{endpoint:p}    stream  partition p of the queue of an endpoint; its entries have one field, "b", the body

An entry is deleted when it is acked and a stream is never trimmed, so its length is what waits or is being handled.
kombu's own Redis transport is no part of this: it takes messages off a list before it notes them down elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from sagabus.errors import ConfigurationError
from sagabus.link import Command, Link, ServerIdentity
from sagabus.transport import Parcel, QueueInfo, Refusal
from transports.redis_receiver import StreamsReceiver
from transports.redis_sender import ClusterSender, OneServerSender, Sender
from transports.redis_topology import Declaration, TopologyStore


class RedisStreamsTransport:
    """A broker made of streams.

    Args:
        url: `redis: rediss: unix: valkey: valkeys:`, or one of the TCP schemes with `+cluster`. `embedded:` is turned
            into a `unix:` URL by the bus.
        namespace: what the names of its keys start with.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self.link = Link(url)
        self._namespace = namespace
        self._topologies = TopologyStore(self.link, namespace)
        kind = ClusterSender if self.link.is_cluster else OneServerSender
        self._sender: Sender = kind(self.link, self._topologies)

    @property
    def url(self) -> str:
        return self.link.shown_url

    @property
    def server(self) -> ServerIdentity | None:
        """Return the server and database of the queues; None on a cluster."""
        return self.link.server()

    def declare(
        self, endpoint: str, *, subscriptions: Sequence[str], partitions: int = 1, max_length: int = 1_000_000
    ) -> None:
        """Make the queue of *endpoint* and have it get exactly *subscriptions*; see `Transport.declare`."""
        if partitions < 1 or max_length < 1:
            raise ConfigurationError(f"endpoint {endpoint!r}: partitions and max_length must be at least 1")
        self._topologies.declare(Declaration.of(self._namespace, endpoint, partitions, max_length, subscriptions))

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        """Send *parcels* and return those that were refused; see `Transport.send`."""
        settled = self._sender.settle(parcels, (), (), (), force=force)
        if settled.error is not None:
            raise settled.error
        return settled.refused

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> StreamsReceiver:
        """Return a consumer of the queues of *endpoints*; see `Transport.receiver`."""
        known = self._topologies.refresh().endpoints
        for endpoint in endpoints:
            if endpoint not in known:
                raise ConfigurationError(f"endpoint {endpoint!r} was not declared; call declare() before receiver()")
        return StreamsReceiver(self.link, self._topologies, self._sender, endpoints, consumer, claim_s)

    def queues(self) -> list[QueueInfo]:
        """Return every queue, by name."""
        declarations = [d for _, d in sorted(self._topologies.refresh().endpoints.items())]
        streams = [stream for d in declarations for stream in d.streams]
        depths = dict(
            zip(streams, self.link.round([Command(("XLEN", stream), stream) for stream in streams]), strict=True)
        )
        return [QueueInfo(d.endpoint, sum(depths[s] for s in d.streams), d.partitions, d.topics) for d in declarations]

    def close(self) -> None:
        """Close every idle connection; those in use close when their round ends."""
        self.link.close()
