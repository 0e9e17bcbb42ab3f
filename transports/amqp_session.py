"""One AMQP connection, made again when it is lost, and batches of publishes that wait once for all their confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import amqp
from attrs import frozen
from kombu.connection import Connection

from sagabus.errors import BrokerUnavailableError, ConfigurationError
from sagabus.link import redact

T = TypeVar("T")

HEARTBEAT_S: Final = 30
_ANSWER_S: Final = 15.0
_BACKOFF_S: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
_LOST: Final = (OSError, amqp.exceptions.ConnectionError, amqp.exceptions.MessageNacked)


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
        url: an AMQP URL as kombu takes them.
        patience_s: for how long a lost connection is made again before `BrokerUnavailableError`.

    Attributes:
        epoch: counts connections; delivery tags of an earlier one are void, their messages come again.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(self, url: str, *, patience_s: float = 10.0) -> None:
        scheme, _, rest = url.partition(":")
        # kombu takes a C library for "amqp:" where it is installed, which knows no publisher confirms.
        self._url = f"pyamqp:{rest}" if scheme == "amqp" else url
        self._shown_url = redact(url)
        self._patience_s = patience_s
        self.lock = threading.RLock()
        self.epoch = 0
        self._connection: Any = None
        self._publishing: Any = None
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._nacked = False
        self._returned: set[int] = set()
        self._client()

    def run(self, action: Callable[[], T]) -> T:
        """Return what *action* returns, after connecting; run it again where the connection is lost on the way.

        Raises:
            BrokerUnavailableError: no connection lasted within the patience of this session.
            ConfigurationError: the broker refuses the credentials, or what is declared differs from what exists.
        """
        give_up_at = time.monotonic() + self._patience_s
        tries = 0
        with self.lock:
            while True:
                try:
                    if self._connection is None:
                        self._connect()
                    return action()
                except _LOST as error:
                    self.drop()
                    if time.monotonic() >= give_up_at:
                        raise BrokerUnavailableError(self._shown_url, error) from error
                except amqp.exceptions.ChannelError as error:
                    self.drop()
                    # A handler that held a delivery for longer than RabbitMQ's consumer_timeout.
                    if "timed out" not in str(error):
                        raise ConfigurationError(f"the broker at {self._shown_url} refuses: {error}") from error
                time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1

    def channel(self) -> Any:
        """Return a new channel; within `run`."""
        return self._connection.channel()

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
        except _LOST:
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
                except _LOST:
                    connection.collect()

    def _connect(self) -> None:
        self._connection = self._client().transport.establish_connection()
        self.epoch += 1
        self._publishing = self.channel()
        self._publishing.confirm_select()
        self._published = 0
        self._publishing.events["basic_ack"].add(self._on_ack)
        self._publishing.events["basic_nack"].add(self._on_nack)
        self._publishing.events["basic_return"].add(self._on_return)

    def _client(self) -> Any:
        """Return what connects when it is told to."""
        options = {"read_timeout": _ANSWER_S, "write_timeout": _ANSWER_S}
        try:
            return Connection(  # type: ignore[no-untyped-call]
                self._url, heartbeat=HEARTBEAT_S, connect_timeout=5, transport_options=options
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{self._shown_url!r} cannot be used: {error}; write amqp://USER:PASSWORD@HOST:PORT/VHOST"
            ) from error

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
                    message_id=message.id[:255],
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
