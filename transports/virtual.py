"""Queues on the brokers that kombu emulates AMQP for: SQS, a folder, its own memory broker, and others.

What they cannot do, sagabus cannot either. None of them has confirms or length limits, or says how often it delivered a
message. A subscription stays once it is made. Whether an unknown endpoint is noticed, and whether a worker that is
killed loses what it had received, is up to the broker: the folder transport notices nothing and loses it, SQS does not.
The folder transport also loses a message that is received at the moment in which it is written.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import amqp
from kombu.connection import Connection

from sagabus.errors import BrokerUnavailableError, ConfigurationError
from sagabus.link import Command, ServerIdentity, redact
from sagabus.transport import Delivery, Exchanged, Parcel, ParcelKind, QueueInfo, Refusal

T = TypeVar("T")

_PATIENCE_S: Final = 10.0
_BACKOFF_S: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
_POLL_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16)

_PACKAGES: Final = {"kafka": "kombu[confluentkafka]", "sqla": "kombu[sqlalchemy]", "etcd": "python-etcd"}
"""Scheme -> what brings its library; `kombu[SCHEME]` for all others."""


class _Session:
    """A kombu connection and one channel, made again when they are lost; one thread at a time."""

    def __init__(self, url: str) -> None:
        # kombu passes most query parameters to nobody: here they are the options of the transport.
        address, _, query = url.partition("?")
        self._address, self._options = address, dict(parse_qsl(query))
        self._shown_url = redact(url)
        self._lock = threading.Lock()
        self._connection: Any = None
        self.channel: Any = None
        self._lost: tuple[type[BaseException], ...] = ()
        self.epoch = 0

    def run(self, action: Callable[[], T]) -> T:
        """Return what *action* returns; connect before, and again where the connection is lost on the way.

        Raises:
            BrokerUnavailableError: no connection lasted for ten seconds.
        """
        give_up_at = time.monotonic() + _PATIENCE_S
        tries = 0
        with self._lock:
            while True:
                client = self._connection or self._client()
                try:
                    if self._connection is None:
                        self.channel = client.channel()
                        self._connection = client
                        self.epoch += 1
                    return action()
                except self._lost as error:
                    client.collect()
                    self._connection = None
                    if time.monotonic() >= give_up_at:
                        raise BrokerUnavailableError(self._shown_url, error) from error
                time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.0))
                tries += 1

    def check(self) -> None:
        """Make sure that there could be a connection, without making one.

        Raises:
            ConfigurationError: the URL cannot be read, or the library that kombu needs for it is not installed.
        """
        self._client()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.release()
                self._connection = None

    def _client(self) -> Any:
        """Return what connects when it is first used, and note by which errors it says that a connection is lost."""
        try:
            client: Any = Connection(self._address, transport_options=self._options)  # type: ignore[no-untyped-call]
            # Making the transport imports the library, without connecting. Errors that kombu could not import are None.
            self._lost = tuple(error for error in client.transport.connection_errors if error is not None)
        except (ImportError, NameError) as error:
            # NameError: some of kombu's transports notice no sooner that their library is missing.
            scheme = self._address.partition(":")[0].lower()
            package = _PACKAGES.get(scheme, f"kombu[{scheme}]")
            raise ConfigurationError(
                f"{scheme!r} URLs need a library that cannot be imported ({error}); pip install '{package}'"
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"the URL {self._shown_url!r} cannot be used: {error}; mend it") from error
        return client


class VirtualTransport:
    """A broker that kombu emulates AMQP for.

    Args:
        url: a kombu URL; its query is passed on as kombu's `transport_options`.
        namespace: what the names of its queues start with.

    Raises:
        ConfigurationError: the URL cannot be read, or the library that kombu needs for it is not installed.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._session = _Session(url)
        # Now, and not at the first send: what is wrong here is no matter of a connection.
        self._session.check()
        self._declared: dict[str, tuple[str, ...]] = {}
        self._seen: set[str] = set()

    @property
    def url(self) -> str:
        return redact(self._url)

    @property
    def server(self) -> ServerIdentity | None:
        """Return None: no store shares a write with this broker."""
        return None

    def queue(self, endpoint: str) -> str:
        """Return the queue of *endpoint*; some brokers allow neither dots nor colons."""
        return f"{self._namespace}-{endpoint}"

    @property
    def exchange(self) -> str:
        return f"{self._namespace}-events"

    def declare(
        self, endpoint: str, *, subscriptions: Sequence[str], partitions: int = 1, max_length: int = 1_000_000
    ) -> None:
        """Make the queue of *endpoint* and bind it to *subscriptions*. Earlier ones stay; there is no length limit."""
        topics = tuple(sorted(set(subscriptions)))

        def make() -> None:
            channel = self._session.channel
            channel.exchange_declare(self.exchange, type="direct", durable=True)
            channel.queue_declare(self.queue(endpoint), durable=True)
            for topic in topics:
                channel.queue_bind(self.queue(endpoint), self.exchange, topic)

        self._session.run(make)
        self._declared[endpoint] = topics

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        """Send *parcels*, one by one, and return the commands whose queue the broker says is not there."""
        refused: dict[int, Refusal] = {}
        for index, parcel in enumerate(parcels):
            if parcel.kind is ParcelKind.COMMAND and not self._exists(parcel.to):
                refused[index] = Refusal.NO_ENDPOINT
                continue
            self._session.run(lambda parcel=parcel: self._publish(parcel))  # type: ignore[misc]
        return refused

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> VirtualReceiver:
        """Return a consumer of the queues of *endpoints*; neither its name nor the claim time means anything here."""
        return VirtualReceiver(self, _Session(self._url), endpoints)

    def queues(self) -> list[QueueInfo]:
        """Return the queues that this process declared: such brokers tell of no other."""
        return [
            QueueInfo(endpoint, self._session.run(lambda e=endpoint: self._depth(e)), 1, topics)  # type: ignore[misc]
            for endpoint, topics in sorted(self._declared.items())
        ]

    def close(self) -> None:
        """Close the connection of the sender; receivers close their own."""
        self._session.close()

    def _exists(self, endpoint: str) -> bool:
        if endpoint not in self._seen and self._session.run(lambda: self._depth(endpoint)) >= 0:
            self._seen.add(endpoint)
        return endpoint in self._seen

    def _depth(self, endpoint: str) -> int:
        try:
            return int(self._session.channel.queue_declare(self.queue(endpoint), passive=True).message_count)
        except amqp.exceptions.ChannelError:
            return -1

    def _publish(self, parcel: Parcel) -> None:
        channel = self._session.channel
        message = channel.prepare_message(
            parcel.body,
            content_type="application/json",
            content_encoding="binary",
            properties={"message_id": parcel.id},
        )
        if parcel.kind is ParcelKind.COMMAND:
            channel.basic_publish(message, "", self.queue(parcel.to))
        else:
            channel.exchange_declare(self.exchange, type="direct", durable=True)
            channel.basic_publish(message, self.exchange, parcel.to)


class VirtualReceiver:
    """One consumer, which asks for messages in turn; see `Receiver`. Every delivery counts as the first."""

    def __init__(self, transport: VirtualTransport, session: _Session, endpoints: Sequence[str]) -> None:
        self._transport = transport
        self._session = session
        self._endpoints = deque(endpoints)
        self._unacked: set[tuple[int, Any]] = set()

    def receive(self, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to *limit* deliveries; see `Receiver.receive`."""
        give_up_at = time.monotonic() + wait_s
        polls = 0
        while True:
            deliveries = self._session.run(lambda: self._get(limit))
            left_s = give_up_at - time.monotonic()
            if deliveries or left_s <= 0:
                return deliveries
            time.sleep(min(left_s, _POLL_S[min(polls, len(_POLL_S) - 1)]))
            polls += 1

    def exchange(
        self,
        parcels: Sequence[Parcel],
        done: Sequence[Delivery],
        also: Sequence[Command],
        limit: int,
        wait_s: float,
        *,
        force: bool = False,
    ) -> Exchanged:
        """Send, then ack, then receive; see `Receiver.exchange`."""
        if also:
            raise ConfigurationError("no store shares a write with this broker; give its commands to the store itself")
        refused = self._transport.send(parcels, force=force)
        if not refused:
            self._session.run(lambda: self._ack(done))
        return Exchanged(refused, self.receive(limit, 0.0 if refused else wait_s) if limit else [])

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Do nothing: how long a delivery is ours is a setting of the broker (the visibility timeout of SQS)."""

    def close(self) -> None:
        """Give back what was not acked, and stop."""
        self._session.run(self._give_back)
        self._session.close()

    def _get(self, limit: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for endpoint in self._endpoints:
            while len(deliveries) < limit:
                message = self._session.channel.basic_get(self._transport.queue(endpoint))
                if message is None:
                    break
                tag = (self._session.epoch, message.delivery_tag)
                self._unacked.add(tag)
                body = message.body
                deliveries.append(Delivery(endpoint, body if isinstance(body, bytes) else body.encode(), 1, tag))
        # So that a busy endpoint does not starve the ones after it.
        self._endpoints.rotate(-1)
        return deliveries

    def _ack(self, done: Sequence[Delivery]) -> None:
        for delivery in done:
            if delivery.tag in self._unacked:
                self._unacked.discard(delivery.tag)
                if delivery.tag[0] == self._session.epoch:
                    self._session.channel.basic_ack(delivery.tag[1])

    def _give_back(self) -> None:
        for epoch, number in self._unacked:
            if epoch == self._session.epoch:
                self._session.channel.basic_reject(number, requeue=True)
        self._unacked.clear()
