"""When a worker looks for garbage: seldom, for what it makes itself is freed without being looked for."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 50_000
"""From so many new objects on, fewer those that were freed, they are looked through: more than batches have in hand.

Every 700, as is usual, took a sixth of a worker's time: it looks through the same batch again and again, and finds
nothing.
"""


def collect_rarely(before: tuple[int, int, int]) -> None:
    """Collect what importing the app has left, have later collections pass over the rest, and make them rare.

    Args:
        before: the thresholds before the app was imported; where it has set others, those stay.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == before:
        gc.set_threshold(YOUNG_OBJECTS, *before[1:])
