"""The progress bar of an exploration that takes its time, drawn on the terminal in which pytest runs."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

from sagabus.testing.session import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

DELAY_S: Final = 2.0
"""An exploration shorter than this is over before anybody wonders."""
EVERY_S: Final = 0.2


class Bar:
    """A bar on stderr, if that is a terminal. It exists from the first drawing to `end`.

    Args:
        uncaptured: a context in which stderr is the real one.
        clock: returns seconds.
    """

    def __init__(
        self, uncaptured: Callable[[], AbstractContextManager[object]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uncaptured, self._clock = uncaptured, clock
        self._next_s = clock() + DELAY_S
        self._drawn: RichProgress | None = None

    def update(self, states: int, waiting: int) -> None:
        """Draw that *states* are through and *waiting* more are known; no more than a few times a second."""
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + EVERY_S
        with self._uncaptured():
            if self._drawn is None:
                if not sys.stderr.isatty():
                    self._next_s = math.inf
                    return
                self._drawn = _begin()
            found = states + waiting
            text = f"{states:,} of {found:,} states found so far"
            self._drawn.update(self._drawn.task_ids[0], completed=states, total=found, description=text)
            self._drawn.refresh()

    def end(self) -> None:
        """Wipe it off."""
        if self._drawn is not None:
            with self._uncaptured():
                self._drawn.stop()


@contextmanager
def watched(uncaptured: Callable[[], AbstractContextManager[object]]) -> Iterator[Progress]:
    """Yield what is to be told of the progress; the bar is gone when the block is left."""
    bar = Bar(uncaptured)
    try:
        yield bar.update
    finally:
        bar.end()


def _begin() -> RichProgress:
    """Return a bar below the line that pytest has begun. Nothing is drawn but by refresh: no thread, no redirection."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    print(file=sys.stderr)
    drawn = Progress(
        TextColumn("sagabus"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    drawn.add_task("")
    drawn.start()
    return drawn
