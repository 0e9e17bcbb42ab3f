"""Burial: what a worker adds to the dead letters that it writes."""

from __future__ import annotations

import socket
import sys

from attrs import field, frozen

from sagabus.endpoint import Endpoint
from sagabus.envelope import Envelope, SagaKey, decode
from sagabus.errors import CodecError
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.store.protocol import DeadLetter
from sagabus.transport import Refusal


@frozen
class Burial:
    """Who gives messages up.

    Attributes:
        worker: its name.
        host: the machine that it runs on.
    """

    worker: str = ""
    host: str = field(factory=socket.gethostname)

    def of_ticket(
        self, ticket: Ticket, trouble: Trouble, reason: str, now_ms: int, endpoint: Endpoint | None = None
    ) -> DeadLetter:
        """Return the dead letter of a delivery that could not be handled.

        Args:
            endpoint: where it could not.
        """
        handler = handlers_of(endpoint, ticket.envelope, trouble.saga) if endpoint and ticket.envelope else ""
        return ticket.dead_letter(trouble, reason, now_ms, worker=self.worker, host=self.host, handler=handler)

    def of_homeless(self, endpoint: str, body: bytes, name: str, now_ms: int) -> DeadLetter:
        """Return the dead letter of a message to an *endpoint* that is not there.

        Args:
            name: what to call it where *body* cannot be read.
        """
        error = f"no endpoint {endpoint!r} was ever declared; start a worker that declares it, or mend the name"
        return self.of_body(endpoint, body, name, now_ms, Refusal.NO_ENDPOINT.value, error)

    def of_body(self, endpoint: str, body: bytes, name: str, now_ms: int, reason: str, error: str) -> DeadLetter:
        """Return the dead letter of a message that nobody has begun to handle; arguments as `of_homeless`."""
        try:
            envelope = decode(body, sys.maxsize)
            id_, type_, saga, attempts = envelope.id, envelope.type, envelope.saga, envelope.attempt - 1
        except CodecError:
            id_, type_, saga, attempts = name, "", "", 0
        return DeadLetter(
            id_,
            endpoint,
            reason,
            error,
            "",
            attempts=attempts,
            at_ms=now_ms,
            body=body,
            type=type_,
            saga=saga,
            worker=self.worker,
            host=self.host,
        )


def handlers_of(endpoint: Endpoint, envelope: Envelope, saga: SagaKey | None) -> str:
    """Return the functions of *endpoint* that handle an *envelope*, in a line.

    Args:
        saga: the saga that could not; None where it was no saga.
    """
    if saga is None:
        return ", ".join(consumer.name for consumer in endpoint.consumers if consumer.kind.name == envelope.type)
    handlers = [(s.cls, s.handlers.get(envelope.type)) for s in endpoint.sagas if s.name == saga.name]
    return ", ".join(f"{cls.__module__}.{cls.__qualname__}.{handler.method}" for cls, handler in handlers if handler)
