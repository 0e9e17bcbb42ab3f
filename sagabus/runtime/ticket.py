"""Tickets: one delivery on its way through a worker, and what is to become of it when all its handlers are through."""

from __future__ import annotations

import traceback
from typing import Final

import msgspec
from attrs import field, frozen

from sagabus.commit import Snapshot
from sagabus.dead_letters.context import saga_context
from sagabus.envelope import Envelope, SagaKey, derive_id
from sagabus.errors import CodecError, HandlerTimedOutError
from sagabus.printable import encodable, said, shortened
from sagabus.records import Entry
from sagabus.redaction import scrub
from sagabus.store.protocol import DeadLetter
from sagabus.transport import Delivery

_MOST_OF_AN_ERROR: Final = 4_000
_MOST_OF_A_TRACEBACK: Final = 40_000


@frozen
class Trouble:
    """Why one handler of a delivery is not done with it.

    Attributes:
        reason: `failed`, `early`, `parked`, `killed-worker`, `timed-out`, or the reason of a CodecError.
        error: what was raised; None where nothing was.
        saga: the saga concerned, if any.
        snapshot: that saga as it was, where it was read.
    """

    reason: str
    error: BaseException | None = None
    saga: SagaKey | None = None
    snapshot: Snapshot | None = field(default=None, repr=False, eq=False)

    @classmethod
    def of(cls, error: BaseException, saga: SagaKey | None = None, snapshot: Snapshot | None = None) -> Trouble:
        """Return the trouble that an exception means."""
        reason = error.reason if isinstance(error, CodecError | HandlerTimedOutError) else "failed"
        return cls(reason, error, saga, snapshot)

    @property
    def text(self) -> str:
        """Return what happened, in a line, without credentials."""
        if self.error is None:
            return _TEXTS.get(self.reason, self.reason)
        return _bounded(said(self.error), _MOST_OF_AN_ERROR)

    @property
    def trace(self) -> str:
        """Return the traceback of what was raised, without credentials; empty for what users need no traceback for."""
        if self.error is None or isinstance(self.error, CodecError):
            return ""
        return _bounded("".join(traceback.format_exception(self.error)), _MOST_OF_A_TRACEBACK)


def let_go(error: BaseException) -> None:
    """Take from *error* the frames that it came through: they hold it, too, and all would wait for a collection."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            # Its class may refuse assignments, as frozen dataclasses do.
            BaseException.with_traceback(each, None)
            todo += (each.__cause__, each.__context__)


def _bounded(text: str, most: int) -> str:
    """Return *text* without credentials, and not much more than *most* characters of it."""
    if len(text) > 2 * most:
        # Cut between words, so that no half of a credential is left, before it takes long to look for them.
        words = text[: 2 * most]
        text = words[: max(most + 1, words.rfind(" "), words.rfind("\n"))]
    return encodable(shortened(scrub(text), most))


_TEXTS = {
    "early": "no saga of that key has started",
    "parked": "the saga cannot take it now",
    "killed-worker": "its workers died while they handled it, every time",
    "no-handler": "no saga and no consumer on this endpoint handles its type",
}


def unreadable_id(body: bytes) -> str:
    """Return the id that the dead letter of *body* has, in which none can be read."""
    return derive_id("unreadable", body.hex())


class Ticket(Entry):
    """One delivery in work.

    Attributes:
        delivery: as it came out of the queue.
        envelope: what it holds; None where it cannot be read.
        nth: its place among those received with it.
        waiting: how many handlers are not through yet.
        troubles: what went wrong with those that are.
        exhausted: whether the broker has delivered it too often for it to be handled once more.
    """

    delivery: Delivery
    envelope: Envelope | None
    nth: int = 0
    exhausted: bool = False
    waiting: int = 0
    troubles: list[Trouble] = msgspec.field(default_factory=list)

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

    def dead_letter(
        self, trouble: Trouble, reason: str, now_ms: int, *, worker: str = "", host: str = "", handler: str = ""
    ) -> DeadLetter:
        """Return the dead letter of this delivery."""
        envelope = self.envelope
        return DeadLetter(
            id=envelope.id if envelope else unreadable_id(self.delivery.body),
            endpoint=self.delivery.queue,
            reason=reason,
            error=trouble.text,
            traceback=trouble.trace,
            attempts=self._attempts(),
            at_ms=now_ms,
            body=self.delivery.body,
            type=envelope.type if envelope else "",
            saga=str(trouble.saga or "") or (envelope.saga if envelope else ""),
            context=saga_context(trouble.snapshot) if trouble.snapshot else b"",
            worker=worker,
            host=host,
            handler=handler,
        )
