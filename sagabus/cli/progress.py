"""A progress bar on stderr, for what may take longer than a second; on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar

T = TypeVar("T")
SHORT_S: Final = 0.5
"""What takes no longer is not worth a bar."""


def watched(items: Iterable[T], total: int | None, text: str, *, prints: bool = False) -> Iterator[T]:
    """Yield *items*, and show how many of *total* are done once that takes its time.

    Args:
        total: how many there are, about; None where nobody knows before they have come.
        text: what they are.
        prints: whether a line is printed for each: then there is a bar only where stdout goes elsewhere.
    """
    if not sys.stderr.isatty() or (prints and sys.stdout.isatty()):
        yield from items
        return
    begun_s, tell = time.monotonic(), None
    with ExitStack() as stack:
        for done, item in enumerate(items):
            if tell is None and time.monotonic() - begun_s >= SHORT_S:
                tell = stack.enter_context(progress_bar(text))
            if tell is not None:
                # There may be more by now than were counted.
                tell(done, None if total is None else max(done, total))
            yield item


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield what is to be told how much is done, and of how much; the bar is gone when the block is left."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as drawn:
        task = drawn.add_task(text, total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)
