"""How long those who lost a race wait before they try again in process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 0.064


def race_pause_s(nth: int, jitter: Callable[[], float]) -> float:
    """Return how long to wait before try number *nth* (from 0), seconds: twice as long each time, up to a bound.

    Args:
        jitter: returns a number in [0, 1), which spreads those that keep colliding.
    """
    return jitter() * min(_SHORTEST_S * 2.0**nth, _LONGEST_S)
