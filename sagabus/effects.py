"""Effects: what a handler asks for. Plain values, collected while it runs, performed only after its saga is stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sagabus.errors import HandlerMisuseError
from sagabus.records import Record


class Send(Record, frozen=True):
    """Send a command to one endpoint; `to` None means the route of its type."""

    message: Any
    to: str | None = None


class Publish(Record, frozen=True):
    """Publish an event to whoever subscribed to its type."""

    message: Any


class Reply(Record, frozen=True):
    """Answer the sender of the message being handled."""

    message: Any


class ReplyToStarter(Record, frozen=True):
    """Answer who started the saga."""

    message: Any


class Defer(Record, frozen=True):
    """Deliver a message to the same saga at a later time.

    Attributes:
        due_ms: when, on the store's clock, ms since 1970.
        name: a second timer of the same name replaces the first; empty: a name of its own.
    """

    message: Any
    due_ms: int
    name: str = ""


class Cancel(Record, frozen=True):
    """Cancel the timer of that name; none of that name is no error."""

    name: str


Effect = Send | Publish | Reply | ReplyToStarter | Defer | Cancel


def due_ms(now_ms: int, after: timedelta | float | None, at: datetime | None) -> int:
    """Return when a deferred message is due, ms since 1970.

    Args:
        now_ms: the store's time.
        after: how long from now: a timedelta, or seconds; not negative.
        at: or when exactly; must know its time zone.

    Raises:
        HandlerMisuseError: neither or both are given, *after* is negative, or *at* has no time zone.
    """
    if (after is None) == (at is None):
        raise HandlerMisuseError("say either after= or at=, when the message is due")
    if at is not None:
        if at.tzinfo is None:
            raise HandlerMisuseError("at= needs a time zone; write datetime(..., tzinfo=UTC)")
        return round(at.timestamp() * 1000)
    seconds = after.total_seconds() if isinstance(after, timedelta) else float(after or 0.0)
    if seconds < 0:
        raise HandlerMisuseError(f"after={seconds:g} seconds is negative; it counts from now")
    return now_ms + round(seconds * 1000)
