"""What becomes of a delivery whose handlers are through: acked, tried again later, or dead-lettered. Never dropped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from attrs import field, frozen

from sagabus.endpoint import Endpoint, EndpointOptions, RetryPolicy
from sagabus.envelope import Envelope, encode
from sagabus.messages import MERGE
from sagabus.replies.address import is_reply_address
from sagabus.runtime.burial import Burial
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.secrecy.signing import Signing
from sagabus.store.protocol import Scheduled
from sagabus.transport import Parcel, ParcelKind

_SEVERITY: Final = {"failed": 2, "parked": 1, "early": 0}
_PARKED_S: Final = 1.0


@frozen
class Recovery:
    """The recovery rules of one endpoint.

    Attributes:
        options: how its messages are retried.
        jitter: returns a number in [0, 1); passed in, so that tests choose it.
        log: a structlog logger.
        burial: who writes the dead letters.
        endpoint: whose rules they are.
        signing: how what is sent from here is signed.
    """

    options: EndpointOptions
    jitter: Callable[[], float]
    log: Any
    burial: Burial = field(factory=Burial)
    endpoint: Endpoint | None = None
    signing: Signing | None = None

    def conclude(self, ticket: Ticket, outbound: Outbound, now_ms: int) -> None:
        """Decide what becomes of *ticket*, and put it into *outbound*.

        Args:
            now_ms: the store's time, ms since 1970.
        """
        outbound.done.append(ticket.delivery)
        if not ticket.troubles:
            return
        trouble = max(ticket.troubles, key=lambda t: _SEVERITY.get(t.reason, 3))
        envelope = ticket.envelope
        if envelope is None or trouble.reason == "untrusted":
            # Whoever forges a MergeSagaState would have it come again for ever.
            self._bury(ticket, trouble, trouble.reason, outbound, now_ms)
        elif trouble.reason == "parked" or (envelope.type == MERGE and trouble.reason != "no-handler"):
            self._again(ticket, trouble, envelope.attempt, _PARKED_S, outbound, now_ms)
        elif trouble.reason == "early":
            self._retry(ticket, trouble, self.options.early, "no-saga", outbound, now_ms)
        elif trouble.reason == "failed":
            self._retry(ticket, trouble, self.options.retry_of(envelope.type), "failed", outbound, now_ms)
        else:
            self._bury(ticket, trouble, trouble.reason, outbound, now_ms)

    def _retry(
        self, ticket: Ticket, trouble: Trouble, policy: RetryPolicy, reason: str, outbound: Outbound, now_ms: int
    ) -> None:
        assert ticket.envelope is not None
        attempt = ticket.envelope.attempt
        if attempt >= policy.max_attempts or isinstance(trouble.error, policy.never):
            self._bury(ticket, trouble, reason, outbound, now_ms)
        elif attempt <= policy.immediate:
            self._at_once(ticket, trouble, attempt + 1, outbound)
        else:
            self._again(ticket, trouble, attempt + 1, policy.delay_s(attempt), outbound, now_ms)

    def _again(
        self, ticket: Ticket, trouble: Trouble, attempt: int, delay_s: float, outbound: Outbound, now_ms: int
    ) -> None:
        """Keep a copy of the message in the store until its next try; the original is acked in the same write."""
        envelope = ticket.envelope
        assert envelope is not None
        delay_s *= 0.75 + 0.5 * self.jitter()
        queue = ticket.delivery.queue
        body = _copy(envelope, attempt)
        due_ms = now_ms + round(delay_s * 1000)
        # Never an id that was used before: whoever sent the copy that failed may be about to forget it, and would
        # forget this one. A parked message keeps its attempt, so the time tells its copies apart.
        name = f"again/{queue}/{envelope.id}/{attempt}" + (f"/{due_ms}" if attempt == envelope.attempt else "")
        outbound.scheduled.append(Scheduled(name, queue, body, due_ms, envelope.saga.partition("/")[2]))
        self._log_retry(envelope, trouble, delay_s)

    def _at_once(self, ticket: Ticket, trouble: Trouble, attempt: int, outbound: Outbound) -> None:
        """Send a copy back to its queue, with the ack of the original: behind what waits there, and with no delay."""
        envelope = ticket.envelope
        assert envelope is not None
        queue, key = ticket.delivery.queue, envelope.saga.partition("/")[2] or envelope.id
        outbound.parcels.append(Parcel(ParcelKind.COMMAND, queue, _copy(envelope, attempt), key, envelope.id))
        self._log_retry(envelope, trouble, 0.0)

    def _log_retry(self, envelope: Envelope, trouble: Trouble, delay_s: float) -> None:
        level = self.log.info if trouble.reason == "early" else self.log.warning
        level(
            "retrying",
            reason=trouble.reason,
            error=trouble.text,
            message_id=envelope.id,
            message_type=envelope.type,
            saga=str(trouble.saga or ""),
            attempt=envelope.attempt,
            delay_s=round(delay_s, 3),
        )

    def _bury(self, ticket: Ticket, trouble: Trouble, reason: str, outbound: Outbound, now_ms: int) -> None:
        letter = self.burial.of_ticket(ticket, trouble, reason, now_ms, self.endpoint)
        outbound.buried.append(letter)
        envelope = ticket.envelope
        if envelope is not None and is_reply_address(envelope.replyto) and reason != "untrusted":
            outbound.parcels.append(self._notice(envelope, ticket, reason, letter.error, now_ms))
        self.log.error(
            "dead-lettered",
            reason=reason,
            error=letter.error,
            message_id=letter.id,
            message_type=letter.type,
            saga=letter.saga,
            attempts=letter.attempts,
        )

    def _notice(self, envelope: Envelope, ticket: Ticket, reason: str, error: str, now_ms: int) -> Parcel:
        """Return what tells the process that waits for an answer that none will come."""
        # Only where somebody waits, which is not for every worker.
        from sagabus.replies.failure import failure_notice

        return failure_notice(envelope, ticket.delivery.queue, reason, error, now_ms, self.signing)


def _copy(envelope: Envelope, attempt: int) -> bytes:
    return encode(envelope.with_attempt(attempt), max_bytes=sys.maxsize)
