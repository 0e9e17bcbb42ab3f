"""What a half of a commit asks for, as values that people and programs can look at. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import frozen

from sagabus.commit import Half
from sagabus.envelope import Envelope, rfc3339
from sagabus.observe.record_lines import kind_name
from sagabus.outgoing import Outgoing, OutgoingKind


@frozen
class Asked:
    """One thing that a half asks for.

    Attributes:
        kind: `command`, `event`, `timer`, or `cancel` of a timer.
        to: the endpoint or the topic; of a cancellation, the name of the timer.
        type: the wire name of the message; empty for a cancellation.
        body: its body, plain data, secrets encrypted; None for a cancellation.
        id: of the message; empty for a cancellation.
        due_ms: when a timer is due, ms since 1970; 0 for the others.
    """

    kind: str
    to: str
    type: str = ""
    body: Any = None
    id: str = ""
    due_ms: int = 0

    def __str__(self) -> str:
        match self.kind:
            case "command":
                said = f"{self.type} to {self.to}"
            case "cancel":
                return f"cancel of timer {self.to}"
            case "event":
                said = f"event {self.type}"
            case _:
                said = f"timer {self.type}, due {rfc3339(self.due_ms)}"
        return f"{said} {msgspec.json.encode(self.body).decode()}" if self.body else said

    def row(self) -> dict[str, Any]:
        """Return it as plain data for programs."""
        due = {"due": rfc3339(self.due_ms)} if self.due_ms else {}
        return {"kind": self.kind, "to": self.to, "type": self.type, "body": self.body, "id": self.id} | due


def asked(half: Half | None) -> tuple[Asked, ...]:
    """Return what *half* asks for, in order; nothing for no half."""
    if half is None:
        return ()
    messages = tuple(_message(outgoing) for sent in half.outgoing.values() for outgoing in sent)
    return (*messages, *(Asked("cancel", name) for name in half.cancelled))


def _message(outgoing: Outgoing) -> Asked:
    envelope = msgspec.json.decode(outgoing.body, type=Envelope)
    body = msgspec.json.decode(envelope.data)
    due_ms = outgoing.due_ms if outgoing.kind is OutgoingKind.TIMER else 0
    return Asked(kind_name(outgoing.kind), outgoing.to, envelope.type, body, outgoing.id, due_ms)
