"""Reply queues on RabbitMQ: one a process, on a connection of its own; the broker deletes it when nobody uses it.

A classic queue that lives for a minute without its consumer, so that answers survive a lost connection. Of more than it
may hold the oldest go first.
"""

from __future__ import annotations

import time
from typing import Any, Final

from transports.amqp_session import HEARTBEAT_S, AmqpSession

_QUEUE: Final = {"x-queue-type": "classic", "x-expires": 60_000, "x-max-length": 10_000, "x-overflow": "drop-head"}
_PREFETCH: Final = 500


class AmqpReplyQueue:
    """The reply queue of this process; see `sagabus.transport.ReplyQueue`."""

    def __init__(self, session: AmqpSession, queue: str) -> None:
        self._session, self._queue = session, queue
        self._channel: Any = None
        self._epoch = 0
        self._arrived: list[Any] = []
        self._session.run(self._consume)

    def receive(self, wait_s: float) -> list[bytes]:
        """Return what has come; see `ReplyQueue.receive`."""
        give_up_at = time.monotonic() + wait_s
        return self._session.run(lambda: self._receive(give_up_at))

    def close(self) -> None:
        """Delete the queue, and close the connection."""
        self._session.run(lambda: self._session.channel().queue_delete(self._queue))
        self._session.close()

    def _receive(self, give_up_at: float) -> list[bytes]:
        if self._epoch != self._session.epoch:
            self._consume()
        while not self._arrived and (left_s := give_up_at - time.monotonic()) > 0:
            self._session.drain(min(left_s, HEARTBEAT_S / 4))
        while self._session.drain(0.0):
            pass
        arrived, self._arrived = self._arrived, []
        if arrived:
            self._channel.basic_ack(arrived[-1].delivery_info["delivery_tag"], multiple=True)
        return [bytes(message.body or b"") for message in arrived]

    def _consume(self) -> None:
        # What came on a connection that was lost comes again.
        self._arrived = []
        self._channel = self._session.channel()
        self._epoch = self._session.epoch
        self._channel.queue_declare(self._queue, durable=True, auto_delete=False, arguments=_QUEUE)
        self._channel.basic_qos(0, _PREFETCH, False)
        self._channel.basic_consume(self._queue, callback=self._arrived_one)

    def _arrived_one(self, message: Any) -> None:
        self._arrived.append(message)
