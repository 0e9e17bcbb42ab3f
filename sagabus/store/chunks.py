"""Lists in parts that one command may take, also where a transport runs it inside a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

ITEMS_A_COMMAND: Final = 1000
"""Of two arguments each they are fewer than Lua's unpack can take."""

T = TypeVar("T")


def chunks(items: Sequence[T], size: int = ITEMS_A_COMMAND) -> Iterator[Sequence[T]]:
    """Yield *items* in order, up to *size* at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
