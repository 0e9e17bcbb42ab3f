"""How deliveries come out of RabbitMQ's queues: new ones in batches, those delivered before one at a time.

A quorum queue counts a delivery for everything that a lost connection had prefetched, handled or not. So what comes
again is moved, confirmed, to the endpoint's second queue, and taken from there only one at a time and only to be
handled at once: its count is exact from then on, and a message that kills its worker harms no neighbour.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import amqp

from sagabus.errors import ConfigurationError
from sagabus.link import Command
from sagabus.transport import Delivery, Exchanged, Parcel, Refusal
from transports.amqp_session import HEARTBEAT_S, AmqpSession, Outgoing
from transports.amqp_topology import AmqpTopology

_QUIET_S: Final = 0.1
"""A broker that has sent nothing for so long has nothing on its way."""


class _Tag(NamedTuple):
    """A delivery tag, and the connection that it is valid on."""

    epoch: int
    number: int


class AmqpReceiver:
    """One consumer of the queues of some endpoints, on a connection of its own; see `sagabus.transport.Receiver`.

    Args:
        send: publishes on the given session and returns what was refused.
        look_every_s: how often to look for messages that other consumers left behind half-moved.
    """

    def __init__(
        self,
        session: AmqpSession,
        topology: AmqpTopology,
        send: Callable[[AmqpSession, Sequence[Parcel], bool], dict[int, Refusal]],
        endpoints: Sequence[str],
        look_every_s: float,
    ) -> None:
        self.session = session
        self._topology = topology
        self._send = send
        self._endpoints = tuple(endpoints)
        self._look_every_s = look_every_s
        self._look_at = 0.0
        self._channel: Any = None
        self._epoch = 0
        self._prefetch = 0
        self._consumer_tags: list[str] = []
        self._consumers = 0
        # What came and was not handed out, and the numbers of all that was not acked, these included.
        self._arrived: deque[tuple[str, Any]] = deque()
        self._unacked: set[int] = set()

    def receive(self, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to *limit* deliveries; see `Receiver.receive`."""
        give_up_at = time.monotonic() + wait_s
        return self.session.run(lambda: self._receive_or_restore(limit, give_up_at))

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
        """Send, wait for every confirm, ack, then receive; see `Receiver.exchange`."""
        if also:
            raise ConfigurationError("no store shares a write with this broker; give its commands to the store itself")
        refused = self._send(self.session, parcels, force) if parcels else {}
        if not refused:
            self.session.run(lambda: self._ack(done))
        return Exchanged(refused, self.receive(limit, 0.0 if refused else wait_s) if limit else [])

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Do nothing: a delivery is ours as long as the connection lives, and that is kept alive by another thread.

        RabbitMQ closes a channel that holds one longer than its `consumer_timeout`, 30 minutes if nobody changed it.
        """

    def rest(self) -> None:
        """Give back what had been prefetched, and get nothing more until the next receive."""
        if self._prefetch:
            self.session.run(self._cancel)

    def close(self) -> None:
        """Give back at once what was not acked, with what had been prefetched."""
        self.session.close()

    def _ack(self, done: Sequence[Delivery]) -> None:
        numbers = sorted(d.tag.number for d in done if d.tag.epoch == self.session.epoch == self._epoch)
        if not numbers:
            return
        # One frame for all, where nothing that was handed out or waits here has a lower number than the last of them.
        if min(self._unacked.difference(numbers), default=numbers[-1] + 1) > numbers[-1]:
            self._channel.basic_ack(numbers[-1], multiple=True)
        else:
            for number in numbers:
                self._channel.basic_ack(number)
        self._unacked.difference_update(numbers)

    def _receive_or_restore(self, limit: int, give_up_at: float) -> list[Delivery]:
        try:
            return self._receive(limit, give_up_at)
        except amqp.exceptions.NotFound as error:
            self.session.drop()
            self._topology.restore(self._endpoints)
            # So that all is made anew on a new connection; within the patience of the session.
            raise ConnectionError(f"{error.reply_text}; it was declared again") from error

    def _receive(self, limit: int, give_up_at: float) -> list[Delivery]:
        while True:
            # In the loop, for what is moved may have to be published on a new connection.
            if self._epoch != self.session.epoch or limit > self._prefetch:
                self._consume(limit)
            if time.monotonic() >= self._look_at:
                if left_behind := self._take_left_behind():
                    return [left_behind]
                self._look_at = time.monotonic() + self._look_every_s
            # Whatever has come by now, however little of the limit it is.
            while len(self._arrived) < limit and self.session.drain(0.0):
                pass
            if self._move_redelivered():
                self._look_at = 0.0
                continue
            if self._arrived:
                return [self._hand_out() for _ in range(min(limit, len(self._arrived)))]
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                return []
            self.session.drain(min(left_s, HEARTBEAT_S / 4, max(self._look_at - time.monotonic(), 0.001)))

    def _consume(self, limit: int) -> None:
        """Start to consume, or to consume more at a time.

        The broker knows a prefetch limit only for consumers that start after it, so another one is added for more. To
        cancel the first would have what is on its way to it come again, as delivered before.
        """
        if self._epoch != self.session.epoch:
            self._arrived.clear()
            self._unacked.clear()
            self._look_at = 0.0
            self._channel = self.session.channel()
            self._epoch = self.session.epoch
            self._prefetch, self._consumer_tags = 0, []
        # By steps, so that there are few consumers.
        wanted = max(limit, 2 * self._prefetch)
        # Twice, so that the next batch is here while the acks of the last one wait for the store's bookkeeping.
        self._channel.basic_qos(0, 2 * (wanted - self._prefetch), False)
        for endpoint in self._endpoints:
            self._consumers += 1
            # New tags: under its old one a consumer of a quorum queue would keep its old limit.
            tag = f"{endpoint}.{self._consumers}"
            self._channel.basic_consume(
                self._topology.queue(endpoint), consumer_tag=tag, callback=self._callback(endpoint)
            )
            self._consumer_tags.append(tag)
        self._prefetch = wanted

    def _cancel(self) -> None:
        if self._epoch != self.session.epoch:
            self._prefetch, self._consumer_tags = 0, []
            return  # lost on the way, and with it all that was consumed
        # Nothing is to be on its way: it would come again as delivered before.
        while len(self._unacked) < 2 * self._prefetch * len(self._endpoints) and self.session.drain(_QUIET_S):
            pass
        for tag in self._consumer_tags:
            self._channel.basic_cancel(tag)
        self._prefetch, self._consumer_tags = 0, []
        self._move_redelivered()
        # Sent anew, and not rejected: what nobody has looked at is not to count as delivered before.
        if self._arrived:
            self._move(list(self._arrived), self._topology.queue)

    def _callback(self, endpoint: str) -> Callable[[Any], None]:
        def arrived(message: Any) -> None:
            self._unacked.add(message.delivery_info["delivery_tag"])
            self._arrived.append((endpoint, message))

        return arrived

    def _hand_out(self) -> Delivery:
        endpoint, message = self._arrived.popleft()
        return Delivery(endpoint, _body(message), 1, _Tag(self._epoch, message.delivery_info["delivery_tag"]))

    def _move_redelivered(self) -> bool:
        """Move what was delivered before to the queue that is read one at a time; say if there was any."""
        again = [(endpoint, m) for endpoint, m in self._arrived if m.delivery_info["redelivered"]]
        if again:
            self._move(again, self._topology.alone_queue)
        return bool(again)

    def _move(self, messages: list[tuple[str, Any]], queue_of: Callable[[str], str]) -> None:
        """Move some of what has arrived to another queue of its endpoint, or to the end of its own."""
        lost = self.session.publish(
            [Outgoing("", queue_of(e), _body(m), m.properties.get("message_id", ""), True) for e, m in messages]
        )
        if lost:
            raise ConfigurationError(
                f"the queue {queue_of(messages[min(lost)][0])!r} is gone; declare its endpoint again"
            )
        if self._epoch != self.session.epoch:
            return  # published on a new connection, on which these come again: sent twice, lost never
        numbers = {m.delivery_info["delivery_tag"] for _, m in messages}
        # These and no others: more may have come while the broker confirmed.
        self._arrived = deque((e, m) for e, m in self._arrived if m.delivery_info["delivery_tag"] not in numbers)
        for number in sorted(numbers):
            self._channel.basic_ack(number)
        self._unacked -= numbers

    def _take_left_behind(self) -> Delivery | None:
        for endpoint in self._endpoints:
            message = self._channel.basic_get(self._topology.alone_queue(endpoint))
            if message is not None:
                number = message.delivery_info["delivery_tag"]
                self._unacked.add(number)
                # Once in the first queue, once now, and as often as this queue has counted.
                count = 2 + int(message.properties.get("application_headers", {}).get("x-delivery-count", 0))
                return Delivery(endpoint, _body(message), count, _Tag(self._epoch, number))
        return None


def _body(message: Any) -> bytes:
    body = message.body
    return body if isinstance(body, bytes) else bytes(body)
