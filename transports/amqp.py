"""Queues on RabbitMQ: quorum queues, publisher confirms, mandatory commands, acks after the work is done.

Names, NS being the namespace of the bus:

    NS.q.ENDPOINT       what was sent to an endpoint
    NS.alone.ENDPOINT   what was delivered to it before, and comes alone: see amqp_receiver.py
    NS.replies.~...     answers to one process: see amqp_replies.py
    NS.events           direct exchange; a topic is a routing key, a subscription a binding
    NS.topology         what was declared: see amqp_topology.py

Length limits are looked at before a send, at most half a second ago where a queue was far from its limit: senders that
race may exceed one by what they send meanwhile. The number of partitions means nothing here, a queue is one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define

from sagabus.errors import ConfigurationError
from sagabus.link import ServerIdentity
from sagabus.replies.address import is_reply_address
from sagabus.transport import Parcel, ParcelKind, QueueInfo, Refusal
from transports.amqp_receiver import AmqpReceiver
from transports.amqp_replies import AmqpReplyQueue
from transports.amqp_session import HEARTBEAT_S, MAX_NAME_BYTES, AmqpSession, Outgoing
from transports.amqp_topology import AmqpTopology

_DEPTH_AGE_S: Final = 0.5


@define
class _Depth:
    """How many messages a queue held when it was last looked at, and those that were sent to it from here since."""

    messages: int
    seen_at: float


class AmqpTransport:
    """A broker that speaks AMQP 0-9-1 with RabbitMQ's extensions.

    Args:
        url: `amqp: amqps: pyamqp:`, with credentials and virtual host; see `amqp_address.py` for TLS and for clusters.
        namespace: what the names of its queues start with.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self._url = url
        self._session = AmqpSession(url)
        self._topology = AmqpTopology(self._session, namespace)
        self._sessions = [self._session]
        self._depths: dict[str, _Depth] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None

    @property
    def url(self) -> str:
        return self._session.shown_url

    @property
    def server(self) -> ServerIdentity | None:
        """Return None: no store shares a write with this broker."""
        return None

    def declare(
        self, endpoint: str, *, subscriptions: Sequence[str], partitions: int = 1, max_length: int = 1_000_000
    ) -> None:
        """Make the queues of *endpoint* and bind them to exactly *subscriptions*; see `Transport.declare`."""
        self._live()
        self._topology.declare(endpoint, max_length, tuple(sorted(set(subscriptions))))

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        """Send *parcels*, wait until the broker has confirmed all, and return those that were refused."""
        self._live()
        return self._send(self._session, parcels, force)

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> AmqpReceiver:
        """Return a consumer of the queues of *endpoints*; see `Transport.receiver`.

        Nothing is claimed on this broker: what a lost connection held it gives back itself, at once, to any consumer.
        """
        self._live()
        known = self._topology.known(max_age_s=0.0)
        for endpoint in endpoints:
            if endpoint not in known:
                raise ConfigurationError(f"endpoint {endpoint!r} was not declared; call declare() before receiver()")
        session = AmqpSession(self._url)
        with self._lock:
            self._sessions.append(session)
        return AmqpReceiver(session, self._topology, self._send, endpoints, claim_s / 3)

    def reply_queue(self, address: str) -> AmqpReplyQueue:
        """Return a new reply queue at *address*; see `reply_queue_of`."""
        self._live()
        session = AmqpSession(self._url)
        with self._lock:
            self._sessions.append(session)
        return AmqpReplyQueue(session, self._topology.reply_queue(address))

    def queues(self) -> list[QueueInfo]:
        """Return every declared queue, by name. The depth counts what waits, not what is being handled."""
        infos = []
        for endpoint, declaration in sorted(self._topology.known(max_age_s=0.0).items()):
            names = (self._topology.queue(endpoint), self._topology.alone_queue(endpoint))
            depths = [self._session.depth(name) or 0 for name in names]
            infos.append(QueueInfo(endpoint, sum(depths), 1, declaration.topics))
        return infos

    def close(self) -> None:
        """Close every connection, those of the receivers too."""
        self._closing.set()
        if self._heart is not None:
            self._heart.join()
        with self._lock:
            for session in self._sessions:
                session.close()

    # -- sending -------------------------------------------------------------------------------------------------

    def _send(self, session: AmqpSession, parcels: Sequence[Parcel], force: bool) -> dict[int, Refusal]:
        if not force and (full := self._full(parcels)):
            return full
        messages = [self._outgoing(parcel) for parcel in parcels]
        # No queue and no binding can have a longer name, so what names one has nowhere to go.
        places = [i for i, message in enumerate(messages) if len(message.routing_key.encode()) <= MAX_NAME_BYTES]
        refused = {i for i, message in enumerate(messages) if message.mandatory}.difference(places)
        if places:
            refused.update(places[i] for i in session.publish([messages[i] for i in places]))
        return dict.fromkeys(sorted(refused), Refusal.NO_ENDPOINT)

    def _outgoing(self, parcel: Parcel) -> Outgoing:
        if parcel.kind is ParcelKind.EVENT:
            return Outgoing(self._topology.exchange, parcel.to, parcel.body, parcel.id, False)
        if is_reply_address(parcel.to):
            # Where its queue is gone nobody waits for it.
            return Outgoing("", self._topology.reply_queue(parcel.to), parcel.body, parcel.id, False)
        return Outgoing("", self._topology.queue(parcel.to), parcel.body, parcel.id, True)

    def _full(self, parcels: Sequence[Parcel]) -> dict[int, Refusal]:
        """Return the parcels for queues that are full; those to the others are counted as sent."""
        known = self._topology.known()
        targets: list[tuple[str, ...]] = []
        for parcel in parcels:
            if parcel.kind is ParcelKind.COMMAND:
                targets.append((parcel.to,) if parcel.to in known else ())
            else:
                targets.append(tuple(name for name, declared in known.items() if parcel.to in declared.topics))
        limits = {name: known[name].max_length for names in targets for name in names}
        depths = self._look_at(limits)
        full = {name for name, depth in depths.items() if depth >= limits[name]}
        refused = {index: Refusal.FULL for index, names in enumerate(targets) if full.intersection(names)}
        if not refused:
            self._count(name for names in targets for name in names)
        return refused

    def _look_at(self, limits: dict[str, int]) -> dict[str, int]:
        now = time.monotonic()
        depths = {}
        for name, limit in limits.items():
            seen = self._depths.get(name)
            if seen is None or now - seen.seen_at > _DEPTH_AGE_S or seen.messages * 2 >= limit:
                seen = _Depth(self._session.depth(self._topology.queue(name)) or 0, now)
                self._depths[name] = seen
            depths[name] = seen.messages
        return depths

    def _count(self, names: Iterable[str]) -> None:
        for name in names:
            self._depths[name].messages += 1

    # -- heartbeats ----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """Start the thread that keeps connections alive while their own threads handle messages."""
        with self._lock:
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="sagabus-amqp-heart", daemon=True)
                self._heart.start()

    def _beat(self) -> None:
        while not self._closing.wait(HEARTBEAT_S / 4):
            with self._lock:
                sessions = list(self._sessions)
            for session in sessions:
                session.tick()
