"""What becomes of a delivery whose handlers are through: acked, tried again later, or dead-lettered. Never dropped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from sagabus.endpoint import EndpointOptions, RetryPolicy
from sagabus.envelope import encode
from sagabus.messages import MERGE
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.store.protocol import Scheduled

_SEVERITY: Final = {"failed": 2, "parked": 1, "early": 0}
_PARKED_S: Final = 1.0


@frozen
class Recovery:
    """The recovery rules of one endpoint.

    Attributes:
        options: how its messages are retried.
        jitter: returns a number in [0, 1); passed in, so that tests choose it.
        log: a structlog logger.
    """

    options: EndpointOptions
    jitter: Callable[[], float]
    log: Any

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
        if envelope is None:
            self._bury(ticket, trouble, trouble.reason, outbound, now_ms)
        elif envelope.type == MERGE or trouble.reason == "parked":
            self._again(ticket, trouble, envelope.attempt, _PARKED_S, outbound, now_ms)
        elif trouble.reason == "early":
            self._retry(ticket, trouble, self.options.early, "no-saga", outbound, now_ms)
        elif trouble.reason == "failed":
            self._retry(ticket, trouble, self.options.retry, "failed", outbound, now_ms)
        else:
            self._bury(ticket, trouble, trouble.reason, outbound, now_ms)

    def _retry(
        self, ticket: Ticket, trouble: Trouble, policy: RetryPolicy, reason: str, outbound: Outbound, now_ms: int
    ) -> None:
        assert ticket.envelope is not None
        attempt = ticket.envelope.attempt
        if attempt >= policy.max_attempts:
            self._bury(ticket, trouble, reason, outbound, now_ms)
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
        body = encode(envelope.with_attempt(attempt), max_bytes=sys.maxsize)
        due_ms = now_ms + round(delay_s * 1000)
        # Never an id that was used before: whoever sent the copy that failed may be about to forget it, and would
        # forget this one. A parked message keeps its attempt, so the time tells its copies apart.
        name = f"again/{queue}/{envelope.id}/{attempt}" + (f"/{due_ms}" if attempt == envelope.attempt else "")
        outbound.scheduled.append(Scheduled(name, queue, body, due_ms, envelope.saga.partition("/")[2]))
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
        letter = ticket.dead_letter(trouble, reason, now_ms)
        outbound.buried.append(letter)
        self.log.error(
            "dead-lettered",
            reason=reason,
            error=letter.error,
            message_id=letter.id,
            message_type=letter.type,
            saga=letter.saga,
            attempts=letter.attempts,
        )
