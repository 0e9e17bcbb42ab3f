"""A worker: one process's lanes, its timer pump, and the signs of life that keep others from its messages."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from sagabus.bus import Bus
from sagabus.errors import ConfigurationError, SagabusError, WorkAbandonedError
from sagabus.observe.log import get_logger
from sagabus.runtime.lane import Lane, LaneAbandonedError
from sagabus.runtime.timers import TimerPump

_MAX_TURNS: Final = 100_000


class Worker:
    """Works through endpoints of a bus in this process: a thread for each, one for timers, one for signs of life.

    Args:
        bus: what they are on.
        endpoints: their names; all of the bus by default.
        name: unique among the workers alive. A worker that restarts under the same name gets back at once what it had
            not finished.

    Raises:
        ConfigurationError: an endpoint is not on the bus, or has nothing that handles messages.
    """

    def __init__(self, bus: Bus, endpoints: Sequence[str] | None = None, *, name: str | None = None) -> None:
        # An endpoint of the app that handles nothing is one that it only sends to.
        names = [n for n, e in bus.endpoints.items() if e.handled_types()] if endpoints is None else list(endpoints)
        unknown = [n for n in names if n not in bus.endpoints]
        if unknown or not names:
            raise ConfigurationError(
                f"no endpoint {', '.join(unknown) or 'at all'} on this bus; "
                f"it has: {', '.join(bus.endpoints) or 'none'}"
            )
        empty = [n for n in names if not bus.endpoints[n].handled_types()]
        if empty:
            raise ConfigurationError(
                f"endpoint {', '.join(empty)} handles nothing; "
                f"give it a saga or a consumer, or leave it out with --endpoints"
            )
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{random.getrandbits(24):06x}"
        self._bus = bus
        self._endpoints = [bus.endpoints[n] for n in names]
        self._stop, self._abort, self._through = threading.Event(), threading.Event(), threading.Event()
        self._failed: list[BaseException] = []
        self._abandoned: list[LaneAbandonedError] = []
        self._log = get_logger().bind(worker=self.name)
        self.lanes: list[Lane] = []

    # -- threads -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `stop` is called, then finish what is in hand.

        Raises:
            SagabusError: a server could not be used at the start.
            WorkAbandonedError: it was stopped while a server did not answer; what it held is redelivered.
            RuntimeError: one of its threads died; what it held is redelivered.
        """
        self._open(inline=False)
        pump = TimerPump(self._bus, log=self._log)
        jobs: list[tuple[str, Callable[[], None]]] = [(f"lane-{lane.endpoint.name}", lane.run) for lane in self.lanes]
        jobs += [("timers", lambda: pump.run(self._stop)), ("signs-of-life", self._signs_of_life)]
        *threads, helper = [threading.Thread(target=self._guard, args=job, name=job[0]) for job in jobs]
        for thread in (*threads, helper):
            thread.start()
        self._log.info("working", endpoints=[lane.endpoint.name for lane in self.lanes])
        for thread in threads:
            thread.join()
        self._through.set()
        helper.join()
        self._log.info("stopped")
        if self._failed:
            raise RuntimeError(f"worker {self.name} stopped because one of its threads failed") from self._failed[0]
        if self._abandoned:
            raise WorkAbandonedError(self.name, self._abandoned[0]) from self._abandoned[0]

    def stop(self) -> None:
        """Receive nothing more and finish what is in hand; safe to call from a signal handler."""
        self._stop.set()

    def abort(self) -> None:
        """Do not wait for servers any more while stopping; safe to call from a signal handler."""
        self._abort.set()
        self._stop.set()

    def _guard(self, name: str, job: Callable[[], None]) -> None:
        """Run *job*; where it dies, the whole worker stops, so that what restarts workers sees it."""
        try:
            job()
        except LaneAbandonedError as error:
            self._log.error("abandoned", thread=name, error=str(error))
            self._abandoned.append(error)
        except BaseException as error:
            self._log.exception("thread-failed", thread=name)
            self._failed.append(error)
            self._stop.set()

    def _signs_of_life(self) -> None:
        # Also while the lanes finish what is in hand, which may take longer than the claim time.
        interval_s = self._bus.claim_s / 3
        while not self._through.wait(interval_s):
            for lane in self.lanes:
                try:
                    lane.hold()
                except SagabusError as error:
                    self._log.warning("no-sign-of-life", endpoint=lane.endpoint.name, error=str(error))

    def _open(self, *, inline: bool, jitter: Callable[[], float] = random.random) -> None:
        self.lanes = [
            Lane(
                self._bus,
                endpoint,
                consumer=self.name,
                stop=self._stop,
                abort=self._abort,
                jitter=jitter,
                log=self._log,
                inline=inline,
            )
            for endpoint in self._endpoints
        ]

    # -- no threads ----------------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Handle everything that is there and due, in this thread, lane by lane; for tests.

        Deterministic over `memory:` stores and transports. What is deferred beyond now stays.

        Raises:
            RuntimeError: it never ends; two handlers probably keep sending to each other.
        """
        if not self.lanes:
            self._open(inline=True, jitter=lambda: 0.0)
        pump = TimerPump(self._bus, log=self._log)
        pending: dict[str, Any] = {lane.endpoint.name: [] for lane in self.lanes}
        quiet = 0
        for _ in range(_MAX_TURNS):
            moved = pump.pump()
            for lane in self.lanes:
                before = pending[lane.endpoint.name]
                pending[lane.endpoint.name] = lane.turn(before, 0.0)
                moved += len(before) + len(pending[lane.endpoint.name])
            quiet = 0 if moved else quiet + 1
            if quiet > 1:
                return
        raise RuntimeError(
            f"the bus is not idle after {_MAX_TURNS} turns; handlers probably keep sending to each other"
        )
