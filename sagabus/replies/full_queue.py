"""How senders that are no workers wait for room in a queue."""

from __future__ import annotations

from typing import Final

FULL_WAIT_S: Final = 10.0
"""How long, before they give up."""


def full_pause_s(waited_s: float) -> float:
    """Return how long to wait before the next try, having waited for so long, seconds."""
    return min(0.01 + waited_s / 2, 0.5)
