"""What a worker process has counted, in a file for the command that runs several of them.

A process that is killed leaves what it wrote last, at most a second before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from sagabus.telemetry.card import UNREADABLE, WorkerCard, decode_card, encode_card
from sagabus.telemetry.counters import Counts, total

WRITE_EVERY_S: Final = 1.0


@frozen
class CountsFile:
    """One such file, replaced as a whole.

    Attributes:
        path: where it is.
    """

    path: Path

    def write(self, counts: Counts) -> None:
        """Say what was counted.

        Raises:
            OSError: the file cannot be written.
        """
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        beside.write_bytes(encode_card(WorkerCard("", counts=counts)))
        beside.replace(self.path)

    def read(self) -> Counts:
        """Return what was counted; nothing where nothing was written."""
        try:
            card = decode_card("", self.path.read_bytes(), 0)
        except OSError:
            return {}
        return {} if card.state == UNREADABLE else card.counts

    def remove(self) -> None:
        """Forget what was counted."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def written(self, counts: Callable[[], Counts], log: Any) -> Iterator[None]:
        """Write what *counts* returns once a second, in a thread of its own, and at the end of the block."""
        stop = threading.Event()

        def run() -> None:
            well = True
            while not stop.wait(WRITE_EVERY_S):
                well = self._try(counts, log if well else None)

        thread = threading.Thread(target=run, name="counts-file", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._try(counts, log)

    def _try(self, counts: Callable[[], Counts], log: Any) -> bool:
        try:
            self.write(counts())
        except OSError as error:
            if log is not None:
                log.error("counts-not-written", path=str(self.path), error=str(error))
            return False
        return True


class LivesCounts:
    """What one worker has counted over all its lives. Thread-safe: it never falls, whoever looks when."""

    def __init__(self, file: CountsFile) -> None:
        self.file = file
        self._before: Counts = {}
        self._lock = threading.Lock()

    def begin_life(self) -> None:
        """Keep what the last process has written; the next begins at nothing."""
        with self._lock:
            self._before = total([self._before, self.file.read()])
            self.file.remove()

    def counts(self) -> Counts:
        """Return what was counted so far."""
        with self._lock:
            return total([self._before, self.file.read()])
