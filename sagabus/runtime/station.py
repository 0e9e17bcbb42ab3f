"""A station: one endpoint of a lane, with what runs its consumers and what becomes of messages that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from sagabus.bus import Bus
from sagabus.endpoint import MAX_BATCH, Endpoint
from sagabus.runtime.burial import Burial
from sagabus.runtime.crew import InlineCrew, ThreadedCrew
from sagabus.runtime.handler_threads import Through
from sagabus.runtime.recovery import Recovery
from sagabus.runtime.surroundings import Surroundings
from sagabus.telemetry.histogram import Histogram

CROWDED_BATCHES: Final = 4
"""Reading, merging and writing a state is paid a batch: larger ones where many messages are for one saga."""


@frozen
class Station:
    """One endpoint of a lane.

    Attributes:
        endpoint: the endpoint.
        crew: runs its consumers.
        recovery: what becomes of its messages that cannot be handled.
    """

    endpoint: Endpoint
    crew: InlineCrew | ThreadedCrew
    recovery: Recovery

    def room(self, *, crowded: bool = False) -> int:
        """Return how many more deliveries may be taken: a batch, or less where handlers are still at work.

        Args:
            crowded: many of the last ones were for each saga, so that larger batches cost less.
        """
        batch = self.endpoint.options.batch
        if crowded:
            batch = min(batch * CROWDED_BATCHES, MAX_BATCH)
        return min(batch, self.crew.room) if self.endpoint.consumers else batch

    @property
    def takes(self) -> bool:
        """Return whether it takes deliveries now: handlers that are slow get theirs in few large parts."""
        return not self.crew.busy or self.room() >= min(self.endpoint.options.batch, self.crew.places)


def open_station(
    bus: Bus,
    endpoint: Endpoint,
    *,
    places: int,
    times: Histogram,
    through: Through | None,
    burial: Burial,
    now_ms: Callable[[], int],
    jitter: Callable[[], float],
    log: Any,
) -> Station:
    """Return the station of *endpoint*; its crew is to be closed.

    Args:
        places: how many handlers of consumers may run at once.
        times: how long they took.
        through: told of each that is through; None runs them in the thread of the lane, for tests.
        burial: puts on record what is given up.
        now_ms: the store's time, ms since 1970.
        jitter: returns a number in [0, 1).
        log: a structlog logger.
    """
    options = endpoint.options
    surroundings = Surroundings(
        endpoint.name, bus.routes, bus.max_message_bytes, now_ms, bus.documents, jitter, bus.signing
    )
    crew: InlineCrew | ThreadedCrew
    if through is None:
        crew = InlineCrew(surroundings, places, times)
    else:
        name = f"crew-{endpoint.name}"
        crew = ThreadedCrew(surroundings, places, name, options.handler_timeout_s, through, times)
    recovery = Recovery(options, jitter, log.bind(endpoint=endpoint.name), burial, endpoint, bus.signing)
    return Station(endpoint, crew, recovery)
