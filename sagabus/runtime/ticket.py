"""Tickets: one delivery on its way through a worker, and what is to become of it when all its handlers are through."""

from __future__ import annotations

import traceback

from attrs import define, field, frozen

from sagabus.envelope import Envelope, SagaKey, derive_id
from sagabus.errors import CodecError
from sagabus.store.protocol import DeadLetter
from sagabus.transport import Delivery


@frozen
class Trouble:
    """Why one handler of a delivery is not done with it.

    Attributes:
        reason: `failed`, `early`, `parked`, `killed-worker`, or the reason of a CodecError.
        error: what was raised; None where nothing was.
        saga: the saga concerned, if any.
    """

    reason: str
    error: BaseException | None = None
    saga: SagaKey | None = None

    @classmethod
    def of(cls, error: BaseException, saga: SagaKey | None = None) -> Trouble:
        """Return the trouble that an exception means."""
        return cls(error.reason if isinstance(error, CodecError) else "failed", error, saga)

    @property
    def text(self) -> str:
        """Return what happened, in a line."""
        if self.error is None:
            return _TEXTS.get(self.reason, self.reason)
        return f"{type(self.error).__name__}: {self.error}"

    @property
    def trace(self) -> str:
        """Return the traceback of what was raised; empty for what users need no traceback for."""
        if self.error is None or isinstance(self.error, CodecError):
            return ""
        return "".join(traceback.format_exception(self.error))


_TEXTS = {
    "early": "no saga of that key has started",
    "parked": "the saga cannot take it now",
    "killed-worker": "its workers died while they handled it, every time",
    "no-handler": "no saga and no consumer on this endpoint handles its type",
}


@define(eq=False)
class Ticket:
    """One delivery in work.

    Attributes:
        delivery: as it came out of the queue.
        envelope: what it holds; None where it cannot be read.
        waiting: how many handlers are not through yet.
        troubles: what went wrong with those that are.
        exhausted: whether the broker has delivered it too often for it to be handled once more.
    """

    delivery: Delivery
    envelope: Envelope | None
    exhausted: bool = False
    waiting: int = 0
    troubles: list[Trouble] = field(factory=list)

    def through(self, trouble: Trouble | None = None) -> bool:
        """Note that one handler is through; return whether that was the last."""
        if trouble is not None:
            self.troubles.append(trouble)
        self.waiting -= 1
        return self.waiting <= 0

    def _attempts(self) -> int:
        """Return how often handling it was begun; for a worker-killer the deliveries before this one count."""
        if self.envelope is None:
            return self.delivery.count
        return self.envelope.attempt + (self.delivery.count - 2 if self.exhausted else 0)

    def dead_letter(self, trouble: Trouble, reason: str, now_ms: int) -> DeadLetter:
        """Return the dead letter of this delivery."""
        envelope = self.envelope
        return DeadLetter(
            id=envelope.id if envelope else derive_id("unreadable", self.delivery.body.hex()),
            endpoint=self.delivery.queue,
            reason=reason,
            error=trouble.text,
            traceback=trouble.trace,
            attempts=self._attempts(),
            at_ms=now_ms,
            body=self.delivery.body,
            type=envelope.type if envelope else "",
            saga=str(trouble.saga or "") or (envelope.saga if envelope else ""),
        )
