"""The one audit trail of a bus: what people did to sagas, endpoints, dead letters and waiting messages.

It is the trail that dead letters have had from the first (`sagabus.dead_letters.audit`), in the same place of the
store: of bounded length, and with lines that expire as dead letters do.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sagabus.dead_letters.audit import KEPT, AuditLine
from sagabus.dead_letters.dead_letters import milliseconds, whoami

if TYPE_CHECKING:
    from sagabus.bus import Bus


def note(
    bus: Bus,
    what: str,
    *,
    by: str | None = None,
    saga: str = "",
    endpoint: str = "",
    id: str = "",
    type: str = "",
    details: Mapping[str, Any] | None = None,
    key: str = "",
) -> None:
    """Write one line to the trail.

    Args:
        what: a stable word: `cancel`, `merge`, `pause`, `resume`, ...
        by: who did it; user and host of this process.
        saga: which saga it was done to, as `name/id`.
        endpoint: which endpoint, or where the message was to go.
        id: which message.
        type: its wire name.
        details: what else there is to say, plain data.
        key: tells the line from all others; one that was noted already is not noted again.
    """
    line = AuditLine(what, by or whoami(), id, endpoint, key or uuid.uuid4().hex, type, saga, dict(details or {}))
    bus.store.letters.note(line)


def trail(
    bus: Bus,
    *,
    what: str = "",
    by: str = "",
    saga: str = "",
    endpoint: str = "",
    id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
) -> list[AuditLine]:
    """Return the newest lines to which all that is said applies, newest first.

    Args:
        what, endpoint: exactly that; empty for any.
        by: who did it: all of it, or what stands before the `@`.
        saga: which saga, as `name/id`, or its name alone.
        id: what the message id begins with.
        since, until: noted at or after, and before; with a time zone.
        limit: the most lines.
    """
    since_ms, until_ms = milliseconds(since), milliseconds(until)
    found = [
        line
        for line in bus.store.letters.audit(id, KEPT)
        if what in ("", line.what)
        and by in ("", line.by, line.by.partition("@")[0])
        and saga in ("", line.saga, line.saga.partition("/")[0])
        and endpoint in ("", line.endpoint)
        and (since_ms is None or line.at_ms >= since_ms)
        and (until_ms is None or line.at_ms < until_ms)
    ]
    return found[:limit]
