"""A broker inside one process: the `MemoryTransport` is the broker, and its receivers share it.

Deterministic: queues are FIFO, and nothing depends on the time but claims, whose clock can be passed in. Partitions
are reported and otherwise ignored: one FIFO keeps the order of every key.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from sagabus.errors import ConfigurationError
from sagabus.link import Command, ServerIdentity
from sagabus.replies.address import is_reply_address
from sagabus.transport import Delivery, Exchanged, Parcel, ParcelKind, QueueInfo, Refusal

_MOST_REPLIES: Final = 10_000
"""How many answers a reply queue keeps for who does not fetch them."""


@define
class _Message:
    """One body in one queue; `holder` is the consumer that has it, None while it waits."""

    body: bytes
    count: int = 0
    holder: str | None = None
    seen_at: float = 0.0


@define
class _Queue:
    """Messages by number, each of which is in exactly one of *fresh*, *returned* and *held* until it is acked."""

    partitions: int
    max_length: int
    subscriptions: tuple[str, ...]
    messages: dict[int, _Message] = field(factory=dict)
    fresh: deque[int] = field(factory=deque)
    returned: deque[int] = field(factory=deque)
    held: set[int] = field(factory=set)

    def give_back(self, number: int) -> None:
        self.held.discard(number)
        self.messages[number].holder = None
        self.returned.append(number)


class MemoryTransport:
    """Queues in this process's memory, for tests, the simulator and runs in one process.

    Args:
        url: `memory:` or `memory:NAME`; the name is only shown. Two instances never share a queue.
        namespace: kept for symmetry with other brokers.
        clock: seconds, monotonic; what claims are measured with.
    """

    bulk = True

    def __init__(
        self, url: str = "memory:", *, namespace: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self.namespace = namespace
        self._clock = clock
        self._changed = threading.Condition()
        self._queues: dict[str, _Queue] = {}
        self._replies: dict[str, deque[bytes]] = {}
        self._next_number = 0

    @property
    def url(self) -> str:
        return self._url

    @property
    def server(self) -> ServerIdentity | None:
        """Return None: no store shares an atomic write with this broker."""
        return None

    def declare(
        self, endpoint: str, *, subscriptions: Sequence[str], partitions: int = 1, max_length: int = 1_000_000
    ) -> None:
        """Make the queue of *endpoint* and have it get exactly *subscriptions*."""
        topics = tuple(sorted(set(subscriptions)))
        with self._changed:
            queue = self._queues.get(endpoint)
            if queue is None:
                self._queues[endpoint] = _Queue(partitions, max_length, topics)
                return
            if queue.partitions != partitions and queue.messages:
                raise ConfigurationError(
                    f"queue {endpoint!r} has {queue.partitions} partitions and holds {len(queue.messages)} messages; "
                    f"drain it before it is declared with {partitions}"
                )
            queue.partitions, queue.max_length, queue.subscriptions = partitions, max_length, topics

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        """Send *parcels* and return those that were refused, by index; one lock, so nobody sees half of them."""
        with self._changed:
            return self._send(parcels, force, {})

    def receiver(self, endpoints: Sequence[str], *, consumer: str, claim_s: float) -> MemoryReceiver:
        """Return a consumer of *endpoints*; what an earlier one of the same name left unacked comes first."""
        with self._changed:
            for endpoint in endpoints:
                if endpoint not in self._queues:
                    raise ConfigurationError(
                        f"endpoint {endpoint!r} was not declared; call declare() before receiver()"
                    )
                queue = self._queues[endpoint]
                for number in sorted(queue.held):
                    if queue.messages[number].holder == consumer:
                        queue.give_back(number)
            self._changed.notify_all()
        return MemoryReceiver(self, endpoints, consumer, claim_s)

    def reply_queue(self, address: str) -> MemoryReplyQueue:
        """Return a new reply queue at *address*; see `reply_queue_of`."""
        with self._changed:
            self._replies[address] = deque(maxlen=_MOST_REPLIES)
        return MemoryReplyQueue(self, address)

    def queues(self) -> list[QueueInfo]:
        """Return every queue, by name."""
        with self._changed:
            return [
                QueueInfo(name, len(queue.messages), queue.partitions, queue.subscriptions)
                for name, queue in sorted(self._queues.items())
            ]

    def close(self) -> None:
        """Wake every receiver that waits; the queues stay, as those of a broker do."""
        with self._changed:
            self._changed.notify_all()

    # -- under the lock ------------------------------------------------------------------------------------------

    def _send(self, parcels: Sequence[Parcel], force: bool, freed: dict[str, int]) -> dict[int, Refusal]:
        """Append *parcels*, or none of them; *freed* is how many messages of each queue are about to be acked."""
        refused: dict[int, Refusal] = {}
        targets: list[tuple[_Queue, bytes]] = []
        replies: list[tuple[deque[bytes], bytes]] = []
        for index, parcel in enumerate(parcels):
            if parcel.kind is ParcelKind.COMMAND:
                names = [parcel.to] if parcel.to in self._queues else []
                if not names and is_reply_address(parcel.to):
                    if parcel.to in self._replies:
                        replies.append((self._replies[parcel.to], parcel.body))
                elif not names:
                    refused[index] = Refusal.NO_ENDPOINT
            else:
                names = [name for name, queue in self._queues.items() if parcel.to in queue.subscriptions]
            for name in names:
                queue = self._queues[name]
                if not force and len(queue.messages) - freed.get(name, 0) >= queue.max_length:
                    refused[index] = Refusal.FULL
                targets.append((queue, parcel.body))
        if Refusal.FULL in refused.values():
            return refused
        for queue, body in targets:
            queue.messages[self._next_number] = _Message(body)
            queue.fresh.append(self._next_number)
            self._next_number += 1
        for answers, body in replies:
            answers.append(body)
        if targets or replies:
            self._changed.notify_all()
        return refused

    def _ack(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            queue = self._queues[delivery.queue]
            if queue.messages.pop(delivery.tag, None) is None:
                continue
            if delivery.tag in queue.held:
                queue.held.discard(delivery.tag)
            else:
                queue.returned.remove(delivery.tag)


class MemoryReceiver:
    """One consumer of a `MemoryTransport`; see `sagabus.transport.Receiver`."""

    def __init__(self, broker: MemoryTransport, endpoints: Sequence[str], consumer: str, claim_s: float) -> None:
        self._broker = broker
        self._endpoints = deque(endpoints)
        self._consumer = consumer
        self._claim_s = claim_s

    def receive(self, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to *limit* deliveries; see `Receiver.receive`."""
        give_up_at = time.monotonic() + wait_s
        changed = self._broker._changed
        with changed:
            while True:
                deliveries = self._take(limit)
                left_s = give_up_at - time.monotonic()
                if deliveries or left_s <= 0:
                    return deliveries
                changed.wait(min(left_s, max(self._next_expiry_s(), 0.001)))

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
        """Send, ack and receive; see `Receiver.exchange`."""
        if also:
            raise ConfigurationError("an in-memory broker runs no store commands; give them to the store itself")
        freed: dict[str, int] = {}
        for delivery in done:
            freed[delivery.queue] = freed.get(delivery.queue, 0) + 1
        with self._broker._changed:
            refused = self._broker._send(parcels, force, freed)
            if not refused:
                self._broker._ack(done)
        return Exchanged(refused, self.receive(limit, 0.0 if refused else wait_s) if limit else [])

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Renew the claim on *deliveries*, as far as they are still ours."""
        with self._broker._changed:
            for delivery in deliveries:
                message = self._broker._queues[delivery.queue].messages.get(delivery.tag)
                if message is not None and message.holder == self._consumer:
                    message.seen_at = self._broker._clock()

    def close(self) -> None:
        """Give back what this consumer has not acked, at once."""
        with self._broker._changed:
            for endpoint in self._endpoints:
                queue = self._broker._queues[endpoint]
                for number in sorted(queue.held):
                    if queue.messages[number].holder == self._consumer:
                        queue.give_back(number)
            self._broker._changed.notify_all()

    # -- under the lock ------------------------------------------------------------------------------------------

    def _take(self, limit: int) -> list[Delivery]:
        now = self._broker._clock()
        queues = [(name, self._broker._queues[name]) for name in self._endpoints]
        for _, queue in queues:
            expired = [n for n in sorted(queue.held) if now - queue.messages[n].seen_at >= self._claim_s]
            for number in expired:
                queue.give_back(number)
        for name, queue in queues:
            if queue.returned:
                return [self._hand_out(name, queue, queue.returned.popleft(), now)]
        taken: list[Delivery] = []
        for name, queue in queues:
            while queue.fresh and len(taken) < limit:
                taken.append(self._hand_out(name, queue, queue.fresh.popleft(), now))
        # So that a busy endpoint does not starve the ones after it.
        self._endpoints.rotate(-1)
        return taken

    def _hand_out(self, name: str, queue: _Queue, number: int, now: float) -> Delivery:
        message = queue.messages[number]
        message.count += 1
        message.holder, message.seen_at = self._consumer, now
        queue.held.add(number)
        return Delivery(name, message.body, message.count, number)

    def _next_expiry_s(self) -> float:
        """Return in how many seconds the next claim runs out, if nobody renews it."""
        now = self._broker._clock()
        held = (
            queue.messages[number].seen_at + self._claim_s - now
            for queue in (self._broker._queues[name] for name in self._endpoints)
            for number in queue.held
        )
        return min(held, default=self._claim_s)


class MemoryReplyQueue:
    """A reply queue of a `MemoryTransport`; see `sagabus.transport.ReplyQueue`."""

    def __init__(self, broker: MemoryTransport, address: str) -> None:
        self._broker = broker
        self._address = address

    def receive(self, wait_s: float) -> list[bytes]:
        """Return what has come; see `ReplyQueue.receive`."""
        with self._broker._changed:
            replies = self._broker._replies[self._address]
            self._broker._changed.wait_for(lambda: bool(replies), wait_s)
            taken = list(replies)
            replies.clear()
        return taken

    def close(self) -> None:
        """Take the queue away."""
        with self._broker._changed:
            self._broker._replies.pop(self._address, None)
