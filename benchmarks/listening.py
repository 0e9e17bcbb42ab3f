"""Working on endpoints in a thread of the process that measures."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sagabus import Bus


@contextmanager
def listening(bus: Bus, endpoints: Sequence[str]) -> Iterator[None]:
    """Work on *endpoints* in a thread of this process, until the block is left."""
    worker = bus.worker(endpoints)
    thread = threading.Thread(target=worker.run, name="driver")
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()
