"""The messages of a bus that wait for their time: found, cancelled, or sent now; each step on the audit trail."""

from __future__ import annotations

import enum
import itertools
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sagabus.dead_letters.audit import AuditLine
from sagabus.dead_letters.dead_letters import milliseconds, whoami
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.part import Removal
from sagabus.dead_letters.patch import digest
from sagabus.envelope import SagaKey
from sagabus.errors import AmbiguousWaitingMessageError, WaitingMessageNotFoundError
from sagabus.store.protocol import Bookkeeping
from sagabus.waiting.message import Waiting, WaitingKind, WaitingMessage, describe

if TYPE_CHECKING:
    from sagabus.bus import Bus

_SHOWN: Final = 5
_COPIES: Final = (WaitingKind.RETRY, WaitingKind.PARKED, WaitingKind.UNREADABLE)


class Cancelled(enum.Enum):
    """What became of a message that was to be cancelled.

    CANCELLED: nobody has sent it, and nobody will.
    BURIED: so it is, and as a dead letter it can be looked at and sent again.
    STALE: it had fallen due meanwhile, but the saga has forgotten the timer and passes it over.
    TOO_LATE: it had fallen due meanwhile, and is handled as ever.
    """

    CANCELLED = "cancelled"
    BURIED = "buried"
    STALE = "stale"
    TOO_LATE = "too-late"

    @property
    def said(self) -> str:
        """Return what to tell whoever cancelled it."""
        return _SAID[self]


_SAID: Final = {
    Cancelled.CANCELLED: "cancelled",
    Cancelled.BURIED: "cancelled; it is a dead letter now, to be sent again or dropped",
    Cancelled.STALE: "it has fallen due meanwhile, but its saga has forgotten the timer and passes it over",
    Cancelled.TOO_LATE: "too late: it has fallen due, and is handled as ever",
}


class WaitingMessages:
    """The messages of a bus that wait for their time, `bus.waiting`. Thread-safe."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def find(
        self,
        *,
        saga: str = "",
        endpoint: str = "",
        type: str = "",
        timer: str = "",
        kind: WaitingKind | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[WaitingMessage]:
        """Yield the messages to which all that is said applies, soonest first, page by page.

        Args:
            saga: which saga they are for, as `name/id`, or its name alone.
            endpoint: where they go.
            type: their wire name.
            timer: the name of the timer that they are.
            kind: why they wait.
            since, until: sent at or after, and before; with a time zone.
        """
        for waiting in self._bus.store.waiting.find(milliseconds(since), milliseconds(until)):
            message = describe(waiting)
            if (
                saga in ("", message.saga, message.saga.partition("/")[0])
                and endpoint in ("", message.endpoint)
                and type in ("", message.type)
                and timer in ("", message.timer)
                and kind in (None, message.kind)
            ):
                yield message

    def get(self, name: str) -> WaitingMessage:
        """Return what waits under *name*, or the one message whose name, or whose id, begins with it.

        Raises:
            WaitingMessageNotFoundError: there is none.
            AmbiguousWaitingMessageError: there are several.
        """
        exact = self._bus.store.waiting.get(name)
        if exact is not None:
            return describe(exact)
        meant = (message for message in self.find() if message.name.startswith(name) or message.id.startswith(name))
        found = {message.name: message for message in itertools.islice(meant if name else (), _SHOWN)}
        if not found:
            raise WaitingMessageNotFoundError(name)
        if len(found) > 1:
            raise AmbiguousWaitingMessageError(name, list(found))
        return found.popitem()[1]

    def cancel(self, name: str, *, by: str | None = None) -> Cancelled:
        """Have what waits under *name* never be sent.

        A saga's timer is forgotten by its saga first, so that it is stale from then on, even if it is being sent just
        now. A message that was to be tried again becomes a dead letter, `cancelled`: none is dropped in silence.

        Args:
            by: who wants it, for the audit trail; user and host of this process.

        Raises:
            WaitingMessageNotFoundError: nothing waits under that name.
        """
        store = self._bus.store
        waiting, message = self._noted("cancel", name, by)
        forgotten = False
        if message.kind is WaitingKind.TIMER and message.saga:
            forgotten = store.waiting.forget_timer(SagaKey.parse(message.saga), message.timer, message.id)
        if message.kind in _COPIES:
            return self._bury(waiting, _letter(message, by or whoami(), store.next_due_ms()[0]))
        if store.waiting.take(waiting):
            return Cancelled.CANCELLED
        return Cancelled.STALE if forgotten else Cancelled.TOO_LATE

    def _bury(self, waiting: Waiting, letter: DeadLetter) -> Cancelled:
        """Have *waiting* become *letter*. The letter is there first: a crash in between leaves both."""
        store, token = self._bus.store, uuid.uuid4().hex
        store.note(Bookkeeping(buried=(letter,)))
        # Marked as one that may yet be sent, until it is known that it cannot.
        store.letters.mark_resent([letter], token)
        if store.waiting.take(waiting):
            store.letters.mark_resent([letter], "")
            return Cancelled.BURIED
        line = AuditLine(
            "too-late", letter.worker, letter.id, letter.endpoint, uuid.uuid4().hex, letter.type, letter.saga
        )
        store.letters.remove([Removal(letter, line, token)])
        return Cancelled.TOO_LATE

    def fire(self, name: str, *, by: str | None = None) -> bool:
        """Have what waits under *name* be sent now; return whether that was not under way already.

        Raises:
            WaitingMessageNotFoundError: nothing waits under that name.
        """
        waiting, _ = self._noted("fire", name, by)
        return self._bus.store.waiting.hurry(waiting)

    def _noted(self, what: str, name: str, by: str | None) -> tuple[Waiting, WaitingMessage]:
        """Return what waits under *name*, having written down what is about to be done to it."""
        store = self._bus.store
        waiting = store.waiting.get(name)
        if waiting is None:
            raise WaitingMessageNotFoundError(name)
        message = describe(waiting)
        details = {
            "name": name,
            "kind": message.kind.value,
            "timer": message.timer,
            "due_ms": message.due_ms,
            "body": digest(message.body),
        }
        line = AuditLine(
            what, by or whoami(), message.id, message.endpoint, uuid.uuid4().hex, message.type, message.saga, details
        )
        store.letters.note(line)
        return waiting, message


def _letter(message: WaitingMessage, by: str, now_ms: int) -> DeadLetter:
    return DeadLetter(
        message.id,
        message.endpoint,
        "cancelled",
        f"cancelled by {by} while it waited to be tried again",
        "",
        max(0, message.attempt - 1),
        now_ms,
        message.body,
        message.type,
        message.saga,
        worker=by,
    )
