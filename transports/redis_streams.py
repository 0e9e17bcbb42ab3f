"""Queues on a Redis or Valkey server, or on a cluster of them, as streams with one consumer group.

Keys, NS being the namespace of the bus:

    NS:topology          hash    what was declared: see redis_topology.py
    NS:q:{endpoint:p}    stream  partition p of the queue of an endpoint; its entries have one field, "b", the body
    NS:replies:{~...}    stream  answers to one process: see redis_replies.py

An entry is deleted when it is acked and a stream is never trimmed, so its length is what waits or is being handled.
kombu's own Redis transport is no part of this: it takes messages off a list before it notes them down elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from sagabus.errors import ConfigurationError
from sagabus.link import Command, Link, ServerIdentity
from sagabus.store.rights import check_rights
from sagabus.terms import Terms
from sagabus.transport import SECOND, Outlet, Parcel, QueueInfo, Refusal
from transports.redis_receiver import StreamsReceiver
from transports.redis_replies import StreamsReplyQueue
from transports.redis_sender import ClusterSender, OneServerSender, Sender
from transports.redis_topology import GROUP, Declaration, TopologyStore


class RedisStreamsTransport:
    """A broker made of streams.

    Args:
        url: `redis: rediss: unix: valkey: valkeys:`, or one of the TCP schemes with `+cluster` or `+sentinel`.
            `embedded:` is turned into a `unix:` URL by the bus.
        namespace: what the names of its keys start with.
    """

    bulk = True

    def __init__(self, url: str, *, namespace: str) -> None:
        self.link = Link(url)
        self._namespace = namespace
        self._may = False
        self._topologies = TopologyStore(self.link, namespace)
        kind = ClusterSender if self.link.is_cluster else OneServerSender
        self._sender: Sender = kind(self.link, self._topologies)

    def agree(self, terms: Terms) -> None:
        """Keep the terms of a bus; see `Linked`."""
        self.link.agree(terms)

    @property
    def url(self) -> str:
        return self.link.shown_url

    @property
    def joint(self) -> bool:
        """Return whether one command reads all queues: not on a cluster."""
        return not self.link.is_cluster

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
        if not self._may:
            # Before the first write: a script that is refused a command half-way keeps what it has written.
            check_rights(self.link, self._namespace)
            self._may = True
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

    def reply_queue(self, address: str) -> StreamsReplyQueue:
        """Return a new reply queue at *address*; see `reply_queue_of`."""
        return StreamsReplyQueue(self.link, self._topologies.reply_stream(address))

    def outlet(self) -> Outlet | None:
        """Return how a store on the same server puts messages into the queues; None on a cluster.

        None, too, where replicas must have what was stored before anything is sent, and where the topology is damaged.
        """
        if self.link.is_cluster or self.link.terms.replicas:
            return None
        topology = self._topologies.cached
        if topology.damaged:
            return None
        return Outlet(self._topologies.key, topology.version, topology.streams_of, topology.limits)

    def queues(self) -> list[QueueInfo]:
        """Return every queue, by name."""
        declarations = [d for _, d in sorted(self._topologies.refresh().endpoints.items())]
        streams = [stream for d in declarations for stream in d.streams]
        asks = [Command(("XLEN", stream), stream) for stream in streams]
        asks += [Command(("XRANGE", stream, "-", "+", "COUNT", 1), stream) for stream in streams]
        replies = self.link.round(asks)
        depths = dict(zip(streams, replies, strict=False))
        firsts = dict(zip(streams, replies[len(streams) :], strict=True))
        return [
            QueueInfo(
                d.endpoint,
                sum(depths[s] for s in d.streams),
                d.partitions,
                d.topics,
                min((_came_ms(firsts[s]) for s in d.streams if firsts[s]), default=None),
            )
            for d in declarations
        ]

    def staff(self, claim_s: float) -> dict[str, tuple[int | None, int | None]]:
        """Return who works on each queue, for people: how many looked into it lately, and when its oldest came.

        Args:
            claim_s: who has not looked for so long is not counted.

        Returns:
            endpoint -> consumers, and when the oldest message came, ms since 1970. None where there is no message, and
            where the user of this link may not ask.
        """
        found: dict[str, tuple[int | None, int | None]] = {}
        for name, declaration in self._topologies.refresh().endpoints.items():
            asks = [Command(("XINFO", "CONSUMERS", stream, GROUP), stream) for stream in declaration.streams]
            asks += [Command(("XRANGE", stream, "-", "+", "COUNT", 1), stream) for stream in declaration.streams]
            replies = self.link.try_round(asks)
            lists, firsts = replies[: len(declaration.streams)], replies[len(declaration.streams) :]
            alive: set[bytes] = set()
            for consumers in lists:
                for fields in () if isinstance(consumers, redis.ResponseError) else consumers:
                    one = dict(zip(fields[::2], fields[1::2], strict=True))
                    if one[b"idle"] <= claim_s * 1000:
                        alive.add(one[b"name"].removesuffix(SECOND.encode()))
            came_ms = [_came_ms(first) for first in firsts if first and not isinstance(first, redis.ResponseError)]
            known = not any(isinstance(consumers, redis.ResponseError) for consumers in lists)
            found[name] = (len(alive) if known else None, min(came_ms, default=None))
        return found

    def close(self) -> None:
        """Close every idle connection; those in use close when their round ends."""
        self.link.close()


def _came_ms(entries: Sequence[Any]) -> int:
    """Return when the first of *entries* was put into its stream, ms since 1970."""
    return int(entries[0][0].partition(b"-")[0])
