"""A saga as it was when a message for it was given up: plain data, of bounded size, for the letter to keep."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sagabus.codec import shown_state
from sagabus.commit import Snapshot

MAX_BYTES: Final = 65_536
"""The most bytes of one context."""


def saga_context(snapshot: Snapshot, max_bytes: int = MAX_BYTES) -> bytes:
    """Return *snapshot* as a JSON object of at most *max_bytes*: lifecycle, life, versions, pending merge, timers.

    The states are those stored: a field that is encrypted stays so. Where they are too large, first they and then the
    rest make room for `omitted_bytes`, which says how long all of it would have been.
    """
    found: dict[str, Any] = {
        "saga": str(snapshot.key),
        "lifecycle": snapshot.lifecycle.value,
        "life": snapshot.life,
        "versions": [
            {"version": str(version.dot), "context": dict(version.context), "state": shown_state(version.state)}
            for version in snapshot.versions
        ],
        "pending_merge": snapshot.pending_merge,
        "timers": dict(sorted(snapshot.timers.items())),
    }
    data = msgspec.json.encode(found)
    if len(data) <= max_bytes:
        return data
    omitted = {"omitted_bytes": len(data)}
    for version in found["versions"]:
        del version["state"]
    without_states = msgspec.json.encode(found | omitted)
    if len(without_states) <= max_bytes:
        return without_states
    return msgspec.json.encode({name: found[name] for name in ("saga", "lifecycle", "life")} | omitted)
