"""A crew: the worker processes of one run, killed now and then, and replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from attrs import define, field

from examples.racing.rollcall import Rollcall
from sagabus import Bus, SagabusError
from sagabus.connect import choose_urls, scheme_of
from sagabus.supervisor import Supervisor

_START_TIMEOUT_S: Final = 60.0
_DRAIN_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1
_ROLL_EVERY_S: Final = 0.1
_QUIET_POLLS: Final = 3


class CrewError(SagabusError):
    """The worker processes cannot do their work; the text names the next step."""


def urls_of(store: str | None, transport: str | None) -> tuple[str, str]:
    """Return the URLs of store and transport for several processes: those given, else what the environment says.

    Raises:
        CrewError: one of them is within one process.
    """
    urls = choose_urls(store, transport)
    if any(scheme_of(url) == "memory" for url in urls):
        raise CrewError(
            "memory: is within one process, and the workers are others; leave the URL out, unset SAGABUS_STORE and "
            "SAGABUS_TRANSPORT, or use embedded:, redis: or, for the transport, amqp:"
        )
    return urls


@define
class Crew:
    """Worker processes of an app, whose bus answers the roll call: see `open_rollcall`.

    Attributes:
        bus: the bus of the process that they are children of; it gets an endpoint for the roll call.
        app: what they run, as `sagabus worker` takes it.
        processes: how many there are.
        environment: what they are told.
        kill_every_s: how often `look_after` kills one with SIGKILL, in seconds, or as soon after as it may; 0: never.
        victim: returns which is killed next, from 0.
        all_at_work: whether nobody is killed until all are at work; else the victim alone must be.
        kills: how many were killed.
    """

    bus: Bus
    app: str
    processes: int
    environment: Mapping[str, str]
    kill_every_s: float
    victim: Callable[[], int]
    all_at_work: bool = False
    kills: int = field(default=0, init=False)
    rollcall: Rollcall = field(init=False)
    supervisor: Supervisor = field(init=False)
    _next_kill_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.rollcall = Rollcall(self.bus)
        options = ["--log-level", "ERROR"]
        self.supervisor = Supervisor(self.app, self.processes, options=options, env=dict(self.environment))

    @contextmanager
    def at_work(self, *endpoints: str) -> Iterator[None]:
        """Have all processes work, and *endpoints* of the bus here beside them, until the block is left.

        Raises:
            CrewError: they did not start.
            SagabusError: a server cannot be used.
        """
        clerk = self.bus.worker([*endpoints, self.rollcall.endpoint.name])
        thread = threading.Thread(target=clerk.run, name="clerk", daemon=True)
        try:
            thread.start()
            self.supervisor.start()
            self._call_roll()
            self._next_kill_at = time.monotonic() + self.kill_every_s
            yield
        finally:
            self.supervisor.stop()
            clerk.stop()
            if thread.is_alive():
                thread.join()

    def _call_roll(self) -> None:
        missing = self.rollcall.wait_for(self._pids, _START_TIMEOUT_S)
        if missing or self.supervisor.hopeless:
            raise CrewError(
                f"{len(missing)} of {self.processes} workers did not start within {_START_TIMEOUT_S:g} s; "
                f"see what `python -m sagabus worker {self.app}` says"
            )

    def _pids(self) -> Sequence[int]:
        self.supervisor.check()
        return self.supervisor.pids

    def look_after(self) -> None:
        """Replace who has died, and kill somebody if it is time to."""
        self.supervisor.check()
        if not self.kill_every_s or time.monotonic() < self._next_kill_at:
            return
        pids = self.supervisor.pids
        missing = self.rollcall.missing(pids)
        number = self.victim()
        if number >= len(pids) or pids[number] in missing or (self.all_at_work and missing):
            # Killed before it has begun, a worker would teach nothing, and the others might have nobody to race with.
            self._next_kill_at = time.monotonic() + _ROLL_EVERY_S
            return
        self._next_kill_at = time.monotonic() + self.kill_every_s
        if self.supervisor.kill(number) is not None:
            self.kills += 1

    def finish(self) -> bool:
        """Wait until nothing is under way any more, end the processes, and return whether all queues are empty."""
        quiet = self._drained()
        self.supervisor.stop()
        # What the workers still had in hand when they were told to end has left by now.
        return quiet and self._drained()

    def _drained(self) -> bool:
        """Wait until all queues have been empty for a moment; return whether they were."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        quiet = 0
        while quiet < _QUIET_POLLS:
            if time.monotonic() > deadline:
                return False
            self.supervisor.check()
            quiet = quiet + 1 if not any(queue.depth for queue in self.bus.transport.queues()) else 0
            time.sleep(_POLL_S)
        return True
