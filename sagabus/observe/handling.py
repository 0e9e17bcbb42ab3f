"""Which message is being handled right now, for log lines: also those that users write in their handlers."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, NamedTuple


class Handling(NamedTuple):
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
        for name, value in current._asdict().items():
            if value:
                event.setdefault(name, value)
    return event
