"""What a broker must do for sagabus: the `Transport` protocol, and the values that cross it.

A queue belongs to one endpoint. A command goes to one queue; an event goes to every queue that subscribed to its
topic, which is the wire name of its type. What is inside a parcel is none of a transport's business.

A transport is found by the scheme of its URL: an entry point of that name in the group `sagabus.transports` names a
`TransportFactory`, in whatever distribution. `sagabus.testing.TransportContract` holds it to what is said here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import frozen

from sagabus.errors import ConfigurationError
from sagabus.records import Record

if TYPE_CHECKING:
    from sagabus.link import Command, ServerIdentity


SECOND: Final = "+"
"""Ends the name of a worker's second consumer of a queue."""


class ParcelKind(enum.Enum):
    """How a parcel finds its queues."""

    COMMAND = "command"
    EVENT = "event"


class Parcel(Record, frozen=True):
    """One encoded envelope on its way.

    Attributes:
        kind: a command goes to one queue, an event to every subscriber.
        to: the endpoint (command) or the topic (event).
        body: the envelope, JSON.
        partition_key: parcels with equal keys go to the same partition of a queue.
        id: the message id; for logs and refusals.
    """

    kind: ParcelKind
    to: str
    body: bytes
    partition_key: str
    id: str


class Refusal(enum.Enum):
    """Why a parcel was not taken. A refused parcel is in no queue."""

    NO_ENDPOINT = "no-endpoint"
    FULL = "full"


class Delivery(Record, frozen=True):
    """One message as it came out of a queue.

    Attributes:
        queue: the endpoint that it was read for.
        body: the envelope, JSON.
        count: how often the broker has delivered it, this time included; 1 for the first time. Deliveries with a count
            above 1 come alone: each is the only one that its `receive` returns.
        tag: the receiver's own handle for it; opaque.
    """

    queue: str
    body: bytes
    count: int
    tag: Any


@frozen
class Exchanged:
    """What one `Receiver.exchange` did.

    Attributes:
        refused: index of a parcel -> why it was not taken. Where any is, no delivery was acked and no command run: put
            on record what has nowhere to go, and ask again without it. Where any is FULL no parcel was sent either.
        deliveries: the next batch; also where parcels were refused, so ask with a limit of 0 while you try those again.
    """

    refused: dict[int, Refusal]
    deliveries: list[Delivery]


@frozen
class QueueInfo:
    """A queue as people see it.

    Attributes:
        endpoint: whose it is.
        depth: messages that wait or are being handled; -1 where the broker cannot tell.
        partitions: how many streams it is split into.
        subscriptions: the topics that it gets.
        oldest_ms: when its oldest message was put there, ms since 1970, by the broker's clock; None where there is
            none, or the broker cannot tell.
    """

    endpoint: str
    depth: int
    partitions: int
    subscriptions: tuple[str, ...]
    oldest_ms: int | None = None


@frozen
class Outlet:
    """What a store that shares a server with the queues needs to put messages into them, in its own atomic writes.

    The entries of a stream have one field, `b`: the body.

    Attributes:
        key: a hash whose field `version` changes whenever queues, or who subscribed to what, do.
        version: what it must be for the rest to hold.
        streams_of: whether it is an event, to whom it goes, its partition key -> the streams that get a message; None
            where it has nowhere to go.
        limits: stream -> from which length it is full.
    """

    key: str
    version: bytes
    streams_of: Callable[[bool, str, str], Sequence[str] | None]
    limits: Mapping[str, int]


class Receiver(Protocol):
    """One consumer of one or more queues. Used by one thread, except `hold`, which any thread may call."""

    def receive(self, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to *limit* deliveries, waiting up to *wait_s* seconds for the first; empty where none came.

        A consumer of more queues or partitions than *limit* may get one of each. A broker may also count *limit* as how
        many deliveries this consumer holds unacked.

        Before anything new come, one at a time, the deliveries that this consumer left unacked in an earlier life, and
        those that other consumers have held for longer than the claim time without a sign of life.

        Raises:
            UnavailableError: the broker did not answer in spite of retries.
        """
        ...

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
        """Send *parcels*; then, if none was refused, run *also* and ack *done*; then receive.

        One atomic write where the queues and the store share a server (`Transport.server`), and one round trip with the
        receive. Elsewhere *also* must be empty, and *done* is acked only after every parcel is confirmed. A parcel
        without an endpoint is refused by itself, and the others are sent; the acks wait, so that the caller can
        dead-letter it first.

        Args:
            force: send even where a queue is at its length limit.
            limit: 0 does not receive.

        Where a reply was lost on the way parcels may be sent twice, with equal ids.

        Raises:
            UnavailableError: as `receive`; whatever was not acked comes again.
            StoreFullError: the server is out of memory; nothing was done.
        """
        ...

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Say that *deliveries* are still being worked on, so that nobody claims them.

        Needed once a third of the claim time.
        """
        ...

    def close(self) -> None:
        """Give back what was received and not acked, at once where the broker can, and stop."""
        ...


class ReplyQueue(Protocol):
    """The reply queue of one process. Used by one thread."""

    def receive(self, wait_s: float) -> list[bytes]:
        """Return the bodies that have come, and forget them; wait up to *wait_s* seconds for the first.

        Says that the process lives, too: needed once in half a minute, else the queue may go, and come back empty.

        Raises:
            UnavailableError: the broker did not answer in spite of retries.
        """
        ...

    def close(self) -> None:
        """Take the queue away, with what is in it."""
        ...


class Transport(Protocol):
    """A broker. Thread-safe; connects when first used.

    Attributes:
        url: where it is, without credentials.
    """

    @property
    def url(self) -> str: ...

    @property
    def server(self) -> ServerIdentity | None:
        """Return which Redis server and database holds the queues; None where no store can share a write with it."""
        ...

    def declare(
        self, endpoint: str, *, subscriptions: Sequence[str], partitions: int = 1, max_length: int = 1_000_000
    ) -> None:
        """Make the queue of *endpoint* and have it get exactly the topics in *subscriptions*; idempotent.

        Args:
            partitions: how many streams to split it into, where the broker can.
            max_length: messages from which it refuses more, FULL. What is acked in the same write makes room at once.

        Raises:
            ConfigurationError: it exists with another number of partitions and holds messages.
        """
        ...

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        """Send *parcels* and return those that were refused, by index; one round trip however many there are.

        When it returns, what was not refused is as durable as the broker makes it (confirmed, on amqp). An event
        that nobody subscribed to is no refusal. Where any is refused as FULL, none was sent.
        """
        ...

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> Receiver:
        """Return a consumer of the queues of *endpoints*, which must have been declared.

        Args:
            consumer: its name, unique among those alive; a process that restarts under the same name gets back at once
                what it left unacked.
            claim_s: after how many seconds without a sign of life a delivery may be taken over by another consumer.
        """
        ...

    def queues(self) -> list[QueueInfo]:
        """Return every queue that was declared, by name; what `sagabus list --queues` shows.

        By any process, where the broker can tell; those of this process elsewhere (kombu's virtual transports).
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def outlet_of(transport: Transport) -> Outlet | None:
    """Return how a store on the server of *transport* may put messages into its queues itself.

    A transport says so with a method `outlet()`; None where there is no such way now.
    """
    outlet = getattr(transport, "outlet", None)
    found: Outlet | None = outlet() if outlet is not None else None
    return found


def reply_queue_of(transport: Transport, address: str) -> ReplyQueue:
    """Return a new reply queue at *address* (see `sagabus.replies.address`), there when this returns.

    A transport that has such queues says so with a method `reply_queue(address)`. What is sent to them is a command
    like any other, and never refused: answers to a process that is gone go to nobody, as an event without subscribers
    does, and of answers that nobody fetches the oldest go first. They are no endpoints: `queues` leaves them out.

    Raises:
        ConfigurationError: it has none.
    """
    make = getattr(transport, "reply_queue", None)
    if make is None:
        raise ConfigurationError(
            f"the transport at {transport.url} has no reply queues, so nobody can wait for an answer here; send with "
            f"reply_to=ENDPOINT, or use a transport that has them: memory:, redis: or amqp:"
        )
    queue: ReplyQueue = make(address)
    return queue


def is_joint(transport: Transport) -> bool:
    """Return whether a receiver of several endpoints costs no more than one of one.

    A transport says so with an attribute `joint`. The `exchange` of its receivers then takes one argument more:
    `shares`, how many messages of each endpoint are received at most; of those that it does not name, none.
    """
    return getattr(transport, "joint", False)


def is_bulk(transport: Transport) -> bool:
    """Return whether a receiver takes any number of messages in one round trip, and never more than it is asked for.

    A transport says so with an attribute `bulk`. Of others a lane always asks for the same number: a broker that sends
    before it is asked would go on sending the larger one.
    """
    return getattr(transport, "bulk", False)


def rest(receiver: Receiver) -> None:
    """Have *receiver* give back what it was sent and has not handed out, for nothing will be received for a while.

    May be called again meanwhile. One whose broker sends before it is asked has a method `rest()`; the others hold
    nothing back.
    """
    give_back = getattr(receiver, "rest", None)
    if give_back is not None:
        give_back()


class TransportFactory(Protocol):
    """What an entry point in the group `sagabus.transports` loads: called with the URL and the namespace of the bus."""

    def __call__(self, url: str, *, namespace: str) -> Transport: ...
