"""A message that waits in the store: a saga's timer, a delayed send, a retry, or one that was parked."""

from __future__ import annotations

import enum
import sys

from attrs import frozen

from sagabus.envelope import Envelope, decode
from sagabus.errors import CodecError
from sagabus.store.protocol import Scheduled


class WaitingKind(enum.Enum):
    """Why a message waits."""

    TIMER = "timer"
    DELAYED = "delayed"
    RETRY = "retry"
    PARKED = "parked"
    UNREADABLE = "unreadable"


@frozen
class Waiting:
    """A message as it lies in the store.

    Attributes:
        item: what is scheduled.
        at_ms: when it is handed out next, ms since 1970, store's clock. Where that is not when it is due, a worker is
            about to send it, or somebody has hurried it.
    """

    item: Scheduled
    at_ms: int

    @property
    def envelope(self) -> Envelope | None:
        """Return the message; None where it cannot be read."""
        try:
            return decode(self.item.body, sys.maxsize)
        except CodecError:
            return None

    @property
    def still(self) -> bool:
        """Return whether nobody has begun to send it."""
        return self.at_ms == self.item.due_ms


@frozen
class WaitingMessage:
    """A message that waits, as people see it.

    Attributes:
        name: what it is called in the store; tells it from all others.
        kind: why it waits.
        endpoint: where it goes.
        at_ms: when it is handed out next, ms since 1970, store's clock.
        due_ms: when it was to be.
        id: the message id.
        type: its wire name.
        saga: the saga that it is for, as `name/id`; empty for none.
        timer: the name of the timer that it is; empty for none.
        life: which life of the saga; 0 for any.
        attempt: how often handling it will have been begun.
        body: the envelope, JSON.
    """

    name: str
    kind: WaitingKind
    endpoint: str
    at_ms: int
    due_ms: int
    id: str
    type: str
    saga: str
    timer: str
    life: int
    attempt: int
    body: bytes


def describe(waiting: Waiting) -> WaitingMessage:
    """Return what *waiting* is."""
    item, envelope = waiting.item, waiting.envelope
    if envelope is None:
        kind = WaitingKind.UNREADABLE
        return WaitingMessage(
            item.id, kind, item.endpoint, waiting.at_ms, item.due_ms, item.id, "", "", "", 0, 0, item.body
        )
    return WaitingMessage(
        name=item.id,
        kind=kind_of(item, envelope),
        endpoint=item.endpoint,
        at_ms=waiting.at_ms,
        due_ms=item.due_ms,
        id=envelope.id,
        type=envelope.type,
        saga=envelope.saga,
        timer=envelope.timer,
        life=envelope.sagalife,
        attempt=envelope.attempt,
        body=item.body,
    )


def kind_of(item: Scheduled, envelope: Envelope) -> WaitingKind:
    """Return why *item* waits; the names of copies, `again/ENDPOINT/ID/ATTEMPT`, and parked `.../DUE`, say so."""
    copies = f"again/{item.endpoint}/{envelope.id}/"
    if item.id.startswith(copies):
        return WaitingKind.PARKED if "/" in item.id[len(copies) :] else WaitingKind.RETRY
    return WaitingKind.TIMER if envelope.timer else WaitingKind.DELAYED
