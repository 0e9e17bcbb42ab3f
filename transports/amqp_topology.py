"""What was declared, as kept in RabbitMQ: one message in the queue `NS.topology`.

AMQP lists neither queues nor bindings, and a length limit set on the queue itself would refuse an event that other
subscribers got. So all declarations of a namespace are one message. Whoever has taken it out owns it, and puts a new
one in before acking it; where a crash left two, they are merged, the later declaration of an endpoint winning.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from attrs import asdict, frozen

from sagabus.errors import ConfigurationError
from transports.amqp_session import AmqpSession, Outgoing

QUORUM: Final = {"x-queue-type": "quorum"}
_MAX_AGE_S: Final = 10.0
_WAIT_S: Final = 1.0


@frozen
class AmqpDeclaration:
    """What is known about one endpoint; *at* is when it was declared, ns since 1970."""

    max_length: int
    topics: tuple[str, ...]
    at: int


class AmqpTopology:
    """The declarations of one namespace, and the names of its queues. Thread-safe."""

    def __init__(self, session: AmqpSession, namespace: str) -> None:
        self._session = session
        self._namespace = namespace
        self._record = f"{namespace}.topology"
        self.exchange = f"{namespace}.events"
        self._lock = threading.RLock()
        self._known: dict[str, AmqpDeclaration] = {}
        self._declared_here: dict[str, AmqpDeclaration] = {}
        self._known_at: float | None = None

    def queue(self, endpoint: str) -> str:
        """Return the queue of *endpoint*."""
        return f"{self._namespace}.q.{endpoint}"

    def alone_queue(self, endpoint: str) -> str:
        """Return the queue of what was delivered to *endpoint* before: it is consumed one message at a time."""
        return f"{self._namespace}.alone.{endpoint}"

    def reply_queue(self, address: str) -> str:
        """Return the reply queue at *address*."""
        return f"{self._namespace}.replies.{address}"

    def known(self, *, max_age_s: float = _MAX_AGE_S) -> dict[str, AmqpDeclaration]:
        """Return what is declared, by endpoint, as it was at most about *max_age_s* ago."""
        with self._lock:
            if self._known_at is None or time.monotonic() - self._known_at > max_age_s:
                self._session.run(lambda: self._rewrite(None, wait_s=0.0 if self._known_at else _WAIT_S))
            return self._known

    def declare(self, endpoint: str, max_length: int, topics: tuple[str, ...]) -> None:
        """Make the queues of *endpoint* and bind them to exactly *topics*."""

        def make() -> None:
            channel = self._session.channel()
            channel.exchange_declare(self.exchange, "direct", durable=True, auto_delete=False)
            for queue in (self.queue(endpoint), self.alone_queue(endpoint)):
                channel.queue_declare(queue, durable=True, auto_delete=False, arguments=QUORUM)
            for topic in topics:
                channel.queue_bind(self.queue(endpoint), self.exchange, topic)
            before = self._rewrite((endpoint, AmqpDeclaration(max_length, topics, time.time_ns())), wait_s=_WAIT_S)
            for topic in before.topics if before else ():
                if topic not in topics:
                    channel.queue_unbind(self.queue(endpoint), self.exchange, topic)
            channel.close()

        with self._lock:
            self._session.run(make)
            self._declared_here[endpoint] = self._known[endpoint]

    def restore(self, endpoints: Sequence[str]) -> None:
        """Make the queues of *endpoints* again, as they were declared: somebody has deleted them with what they held.

        Raises:
            ConfigurationError: nobody knows how one was declared.
        """
        with self._lock:
            known = self.known(max_age_s=0.0)
            for endpoint in endpoints:
                if endpoint not in known:
                    raise ConfigurationError(
                        f"the queue of {endpoint!r} is gone, and so is how it was declared; start a worker that has it"
                    )
                self.declare(endpoint, known[endpoint].max_length, known[endpoint].topics)

    def _rewrite(self, change: tuple[str, AmqpDeclaration] | None, *, wait_s: float) -> AmqpDeclaration | None:
        """Read the record, put it back with *change*, and return what it said of that endpoint before.

        Read or not, it is written anew: a quorum queue counts what is put back, and drops it in the end. Where somebody
        else has taken the record out, it is waited for up to *wait_s*; a crash gives it back at once.
        """
        exists = self._session.depth(self._record) is not None
        channel = self._session.channel()
        channel.queue_declare(self._record, durable=True, auto_delete=False, arguments=QUORUM)
        found: dict[str, AmqpDeclaration] = {}
        last_tag = None
        give_up_at = time.monotonic() + (wait_s if exists else 0.0)
        while True:
            message: Any = channel.basic_get(self._record)
            if message is not None:
                last_tag = message.delivery_info["delivery_tag"]
                _merge(found, json.loads(message.body))
            elif last_tag is not None or time.monotonic() >= give_up_at:
                break
            else:
                time.sleep(0.01)
        for endpoint, declaration in self._declared_here.items():
            found.setdefault(endpoint, declaration)
        # Waited for in vain it was lost between two steps, or its owner stands still: two records do no harm.
        if last_tag is None and change is None and exists and wait_s == 0:
            channel.close()
            return None
        before = None
        if change is not None:
            endpoint, declaration = change
            before = found.get(endpoint)
            found[endpoint] = declaration
        text = json.dumps({name: asdict(declaration) for name, declaration in sorted(found.items())})
        self._session.publish([Outgoing("", self._record, text.encode(), "topology", True)])
        if last_tag is not None:
            channel.basic_ack(last_tag, multiple=True)
        channel.close()
        self._known, self._known_at = found, time.monotonic()
        return before


def _merge(found: dict[str, AmqpDeclaration], stored: dict[str, Any]) -> None:
    for endpoint, fields in stored.items():
        declaration = AmqpDeclaration(fields["max_length"], tuple(fields["topics"]), fields["at"])
        if endpoint not in found or found[endpoint].at < declaration.at:
            found[endpoint] = declaration
