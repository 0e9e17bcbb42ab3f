"""What the commands that look at a bus begin with: the app, and logs that stay off stdout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagabus.bus import Bus


@contextmanager
def opened(app: str) -> Iterator[Bus]:
    """Yield the bus of *app*, and close it. Warnings of the runtime go to stderr.

    Raises:
        ConfigurationError: there is no such bus.
    """
    from sagabus.app import load_app
    from sagabus.observe.log import configure

    configure(level="WARNING")
    with load_app(app) as bus:
        yield bus
