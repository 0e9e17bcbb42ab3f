"""One AMQP connection, made again when it is lost, and batches of publishes that wait once for all their confirms."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import amqp
from attrs import frozen

from sagabus.errors import BrokerUnavailableError
from sagabus.observe.log import get_logger
from transports.amqp_address import AmqpAddress
from transports.amqp_refusal import LOST, amqp_refusal

T = TypeVar("T")

HEARTBEAT_S: Final = 30
MAX_NAME_BYTES: Final = 255
"""The longest name, key or id that AMQP can carry."""
_ANSWER_S: Final = 15.0
_SAID_AFTER_S: Final = 1.0
_MUTE: Final = (
    "it takes connections and says nothing: it hangs, or has no file descriptors left, of which each quorum queue "
    "takes three; see `rabbitmqctl status`"
)
_BACKOFF_S: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


@frozen
class Outgoing:
    """One message to publish.

    Attributes:
        mandatory: a message that reaches no queue is reported, and not dropped in silence.
    """

    exchange: str
    routing_key: str
    body: bytes
    id: str
    mandatory: bool


class AmqpSession:
    """A connection with a channel for publishes. py-amqp is not thread-safe: whoever uses it holds `lock`.

    Args:
        url: an AMQP URL, see `amqp_address.py`; of several brokers the next is tried when one is lost.
        patience_s: for how long a lost connection is made again before `BrokerUnavailableError`.

    Attributes:
        epoch: counts connections; delivery tags of an earlier one are void, their messages come again.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(self, url: str, *, patience_s: float = 10.0) -> None:
        self._addresses = AmqpAddress.all_of(url)
        self.shown_url = ";".join(address.shown for address in self._addresses)
        self._turn = 0
        self._blocked = ""
        self._unheard: AmqpAddress | None = None
        self._said = False  # that it waits, since it last was through
        self._patience_s = patience_s
        self.lock = threading.RLock()
        self.epoch = 0
        self._connection: Any = None
        self._publishing: Any = None
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._nacked = False
        self._returned: set[int] = set()

    def run(self, action: Callable[[], T]) -> T:
        """Return what *action* returns, after connecting; run it again where the connection is lost on the way.

        Raises:
            BrokerUnavailableError: no connection lasted within the patience of this session.
            AccessRefusedError: it refuses the credentials or a right. At once: waiting mends none.
            UntrustedServerError: its certificate proves nothing. At once, too.
            ConfigurationError: what is declared differs from what exists, or is gone.
        """
        give_up_at = time.monotonic() + self._patience_s
        say_at: float | None = None
        tries = 0
        with self.lock:
            while True:
                try:
                    if self._connection is None:
                        self._connect()
                    answer = action()
                    self._said = False
                    return answer
                except LOST as error:
                    self.drop()
                    if (refused := amqp_refusal(error, self.shown_url)) is not None:
                        raise refused from error
                    now = time.monotonic()
                    if now >= give_up_at:
                        raise self._unavailable(error) from error
                    if say_at is None:
                        say_at = now if isinstance(error, TimeoutError) else now + _SAID_AFTER_S
                    if now >= say_at and not self._said:
                        self._said = True
                        reason = str(self._unavailable(error))
                        get_logger().warning("waiting-for-server", error=reason, for_s=round(give_up_at - now, 1))
                # Not all at once, when a broker that many were connected to is there again.
                time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.0))
                tries += 1

    def channel(self) -> Any:
        """Return a new channel; within `run`."""
        channel = self._connection.channel()
        # Bodies are bytes here, whatever a foreign message says of its own.
        channel.auto_decode = False
        return channel

    def publish(self, messages: Sequence[Outgoing]) -> set[int]:
        """Publish *messages*, wait until the broker has confirmed all, and return which reached no queue, by index.

        Where the connection is lost on the way all are published again: some may then be there twice, with equal ids.
        """
        return self.run(lambda: self._publish(messages)) if messages else set()

    def depth(self, queue: str) -> int | None:
        """Return how many messages wait in *queue*, None where there is no such queue."""

        def ask() -> int | None:
            channel = self.channel()
            try:
                count = int(channel.queue_declare(queue, passive=True).message_count)
            except amqp.exceptions.NotFound:
                return None
            channel.close()
            return count

        return self.run(ask)

    def drain(self, timeout_s: float) -> bool:
        """Handle what one frame brings and return True; False where none came within *timeout_s*. Within `run`."""
        self._connection.heartbeat_tick(rate=2)
        try:
            self._connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return False
        return True

    def tick(self) -> None:
        """Keep the connection alive where nobody is using it; for a thread of its own."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            while self._connection is not None and self.drain(0.0):
                pass
        except LOST:
            self.drop()  # made again by whoever needs it next
        finally:
            self.lock.release()

    def drop(self) -> None:
        """Close the socket without a word: the broker takes back what was not acked."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.collect()

    def close(self) -> None:
        """Take leave of the broker."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    connection.close()
                except LOST:
                    connection.collect()

    def _connect(self) -> None:
        address = self._addresses[self._turn % len(self._addresses)]
        self._turn += 1
        self._blocked, self._unheard = "", None
        options = {
            "read_timeout": _ANSWER_S,
            "write_timeout": _ANSWER_S,
            "on_blocked": self._on_blocked,
            "on_unblocked": self._on_unblocked,
        }
        try:
            self._connection = address.client(HEARTBEAT_S, options).transport.establish_connection()
        except TimeoutError:
            self._unheard = address
            raise
        self.epoch += 1
        self._publishing = self.channel()
        self._publishing.confirm_select()
        self._published = 0
        self._publishing.events["basic_ack"].add(self._on_ack)
        self._publishing.events["basic_nack"].add(self._on_nack)
        self._publishing.events["basic_return"].add(self._on_return)

    def _unavailable(self, error: BaseException) -> BrokerUnavailableError:
        """Return what to say of *error*. Asked only where it is said: the next broker may be there."""
        mute = self._unheard is not None and self._unheard.takes_connections()
        return BrokerUnavailableError(self.shown_url, self._blocked or (_MUTE if mute else error))

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = "it takes no messages while it is short of memory or disk"

    def _on_unblocked(self) -> None:
        self._blocked = ""

    def _publish(self, messages: Sequence[Outgoing]) -> set[int]:
        first = self._published + 1
        self._unconfirmed = set(range(first, first + len(messages)))
        self._nacked = False
        self._returned = set()
        for message in messages:
            self._published += 1
            self._publishing.basic_publish(
                amqp.basic_message.Message(
                    message.body,
                    content_type="application/json",
                    delivery_mode=2,
                    message_id=message.id.encode()[:MAX_NAME_BYTES].decode(errors="ignore"),
                    correlation_id=str(self._published),
                ),
                exchange=message.exchange,
                routing_key=message.routing_key,
                mandatory=message.mandatory,
            )
        last_heard_at = time.monotonic()
        while self._unconfirmed:
            if self.drain(1.0):
                last_heard_at = time.monotonic()
            elif time.monotonic() - last_heard_at > _ANSWER_S:
                raise TimeoutError("the broker does not confirm what was published")
        if self._nacked:
            raise amqp.exceptions.MessageNacked("the broker could not store what was published")
        return {number - first for number in self._returned}

    def _on_ack(self, number: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {n for n in self._unconfirmed if n > number}
        else:
            self._unconfirmed.discard(number)

    def _on_nack(self, number: int, multiple: bool) -> None:
        self._nacked = True
        self._on_ack(number, multiple)

    def _on_return(self, _error: Exception, _exchange: str, _routing_key: str, message: Any) -> None:
        self._returned.add(int(message.properties["correlation_id"]))
