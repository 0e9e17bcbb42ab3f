"""Which message is being handled right now, for log lines: also those that users write in their handlers."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from msgspec.structs import asdict

from sagabus.records import Record


class Handling(Record, frozen=True):
    """What a log line from inside a handler carries."""

    saga: str
    message_id: str
    message_type: str
    endpoint: str


handling: Final[ContextVar[Handling | None]] = ContextVar("sagabus_handling", default=None)


def add_handling(_logger: Any, _method: str, event: Any) -> Any:
    """Add the message being handled to an event; a structlog processor. What the event says itself wins."""
    current = handling.get()
    if current is not None:
        for name, value in asdict(current).items():
            if value:
                event.setdefault(name, value)
    return event
