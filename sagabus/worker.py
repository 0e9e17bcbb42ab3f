"""A worker: one process's lanes, its timer pump, and the signs of life that keep others from its messages."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define

from sagabus.bus import Bus
from sagabus.endpoint import Endpoint
from sagabus.errors import ConfigurationError, HandlerHungError, SagabusError, WorkAbandonedError
from sagabus.health.vitals import Health, judge
from sagabus.observe.log import get_logger
from sagabus.runtime.lane import Lane, LaneAbandonedError
from sagabus.runtime.shared_work import SharedWork
from sagabus.runtime.showing import Showing
from sagabus.runtime.timers import TimerPump
from sagabus.runtime.watchdog import HandlerCall
from sagabus.secrecy.keyring import KEYS_VARIABLE, MAKE_ONE
from sagabus.secrecy.process_keys import process_keys
from sagabus.telemetry.card import SHOW_EVERY_S
from sagabus.telemetry.counters import Counters, Counts, total
from sagabus.transport import is_joint

_MAX_TURNS: Final = 100_000
_JOIN_S: Final = 0.2
_LOOK_S: Final = 0.25
_TELL_S: Final = 1.0
_FEW_PLACES: Final = 8
_LANES: Final = 2
_OTHERS_END_S: Final = 3.0
"""How long the other lanes of a worker have to finish what is in hand where one hangs."""


@define
class Share:
    """Endpoints that share lanes, and how many of them."""

    endpoints: list[Endpoint]
    lanes: int = 1


class Worker:
    """Works through endpoints of a bus in this process: threads for their lanes, for timers, for signs of life.

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
        if not names:
            raise ConfigurationError(
                "this bus has no endpoint that handles anything; give it one: bus.endpoint(NAME, SAGA), or a consumer "
                "with @endpoint.consumer"
            )
        if unknown:
            raise ConfigurationError(
                f"no endpoint {', '.join(unknown)} on this bus; it has: {', '.join(bus.endpoints) or 'none'}"
            )
        empty = [n for n in names if not bus.endpoints[n].handled_types()]
        if empty:
            raise ConfigurationError(
                f"endpoint {', '.join(empty)} handles nothing; "
                f"give it a saga or a consumer, or leave it out with --endpoints"
            )
        self._check_keys([bus.endpoints[n] for n in names])
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{random.getrandbits(24):06x}"
        self._bus = bus
        self._endpoints = [bus.endpoints[n] for n in names]
        self._stop, self._abort, self._through = threading.Event(), threading.Event(), threading.Event()
        self._failed: list[BaseException] = []
        self._abandoned: list[LaneAbandonedError] = []
        self._hung: HandlerHungError | None = None
        self._hung_thread: int | None = None
        self._leave_at = float("inf")
        self._log = get_logger().bind(worker=self.name)
        self.lanes: list[Lane] = []
        # Of lanes that were, too: what was counted is never taken back.
        self._counters: list[Counters] = []
        self._inline_pump: TimerPump | None = None

    @staticmethod
    def _check_keys(endpoints: Sequence[Endpoint]) -> None:
        """Refuse to begin with messages and states that could be neither read nor written, for want of a key."""
        if process_keys.keyring is not None:
            return
        for endpoint in endpoints:
            codecs: list[tuple[str, Any]] = [(d.name, d.codec) for d in endpoint.sagas]
            kinds = [h.kind for d in endpoint.sagas for h in d.handlers.values()] + [c.kind for c in endpoint.consumers]
            codecs += [(kind.name, kind.codec) for kind in kinds]
            for name, codec in codecs:
                if codec.secrets is not None:
                    raise ConfigurationError(
                        f"{name} on endpoint {endpoint.name} has encrypted fields, and there is no key here; give "
                        f"Bus(keyring=Keyring(...)), or set {KEYS_VARIABLE}: {MAKE_ONE}"
                    )

    # -- threads -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `stop` is called, then finish what is in hand.

        Raises:
            SagabusError: a server could not be used at the start, or refused at any time what waiting does not mend.
            HandlerHungError: handlers hang in a way that only the end of the process ends. The thread of one that hangs
                in a saga stays behind.
            WorkAbandonedError: it was stopped while a server did not answer; what it held is redelivered.
            RuntimeError: one of its threads died; what it held is redelivered.
        """
        self._open(inline=False)
        pump = self._pump()
        showing = Showing(
            self._bus.store,
            worker=self.name,
            endpoints=[endpoint.name for endpoint in self._endpoints],
            lanes=self.lanes,
            counts=self.counts,
            draining=self._stop.is_set,
            log=self._log,
        )
        showing.begin()
        jobs: list[tuple[str, Callable[[], None]]] = [(f"lane-{lane.name}", lane.run) for lane in self.lanes]
        jobs += [("timers", lambda: pump.run(self._stop))]
        helping: list[tuple[str, Callable[[], None]]] = [("signs-of-life", lambda: self._signs_of_life(showing))]
        if any(lane.watch.timeout_s is not None for lane in self.lanes):
            helping.append(("watchdog", self._watch))
        # A lane may hang in a handler for good, and nothing at the end of the process is to wait for it.
        threads = [threading.Thread(target=self._guard, args=job, name=job[0], daemon=True) for job in jobs]
        helpers = [threading.Thread(target=self._guard, args=job, name=job[0]) for job in helping]
        for thread in (*threads, *helpers):
            thread.start()
        self._log.info("working", endpoints=[endpoint.name for endpoint in self._endpoints])
        for thread in threads:
            self._join(thread)
        self._through.set()
        for thread in helpers:
            thread.join()
        self._log.info("stopped")
        if self._hung is not None:
            raise self._hung
        for lane in self.lanes:
            if lane.worn_by:
                raise HandlerHungError(self.name, lane.worn_by, "and others were left behind, too many of them")
        if self._failed:
            if isinstance(self._failed[0], ConfigurationError):
                # Said for users, and with an exit code of its own: starting again would not help.
                raise self._failed[0]
            raise RuntimeError(f"worker {self.name} stopped because one of its threads failed") from self._failed[0]
        if self._abandoned:
            raise WorkAbandonedError(self.name, self._abandoned[0]) from self._abandoned[0]

    def _join(self, thread: threading.Thread) -> None:
        """Wait until *thread* ends, or hangs, or until another hangs and this one had time to end."""
        while thread.is_alive() and thread.ident != self._hung_thread and time.monotonic() < self._leave_at:
            thread.join(_JOIN_S)

    def health(self, alive_within_s: float) -> Health:
        """Return how this worker is; any thread may ask.

        Args:
            alive_within_s: how long a lane may stand still before it counts as stuck, s.
        """
        now = time.monotonic()
        return judge(
            [lane.vitals(now) for lane in self.lanes], draining=self._stop.is_set(), alive_within_s=alive_within_s
        )

    def counts(self) -> Counts:
        """Return what this worker has done since it was made, by endpoint; any thread may ask."""
        return total(counters.counts for counters in self._counters)

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

    def _signs_of_life(self, showing: Showing) -> None:
        # Also while the lanes finish what is in hand, which may take longer than the claim time.
        interval_s = self._bus.claim_s / 3
        show_at = time.monotonic()
        hold_at = show_at + interval_s
        while not self._through.wait(max(min(hold_at, show_at) - time.monotonic(), 0.0)):
            # First: a store that is down must not have messages taken from here.
            if time.monotonic() >= hold_at:
                hold_at = time.monotonic() + interval_s
                self._hold()
            if time.monotonic() >= show_at:
                show_at = time.monotonic() + SHOW_EVERY_S
                showing.step()
        if not self._abort.is_set():
            showing.end()

    def _hold(self) -> None:
        for lane in self.lanes:
            try:
                lane.hold()
            except SagabusError as error:
                self._log.warning("no-sign-of-life", endpoint=lane.name, error=str(error))

    def _watch(self) -> None:
        """Look after handlers of sagas; those of consumers are looked after by their lanes."""
        timeouts_s = [lane.watch.timeout_s for lane in self.lanes if lane.watch.timeout_s is not None]
        interval_s = min(min(timeouts_s) / 4, _LOOK_S)
        while not self._through.wait(interval_s):
            for lane in self.lanes:
                call = lane.watch.look(time.monotonic())
                if call is not None and self._hung is None:
                    self._leave_behind(lane, call)

    def _leave_behind(self, lane: Lane, call: HandlerCall) -> None:
        """Put the message on record that *call* hangs on, and have the worker end without it."""
        try:
            lane.bury_hung(call)
        except SagabusError as error:
            # It is delivered again, and hangs again, until the deliveries are too many.
            self._tell("not-on-record", lane, call, error=str(error))
        if call.done:
            return
        self._hung = HandlerHungError(self.name, call.name, "hangs and cannot be interrupted")
        self._hung_thread = call.thread
        self._leave_at = time.monotonic() + _OTHERS_END_S
        self.abort()
        self._tell("hung", lane, call, error=str(self._hung))

    def _tell(self, event: str, lane: Lane, call: HandlerCall, **more: Any) -> None:
        # The handler may hang while it logs, and hold what logging needs.
        told = {"endpoint": lane.name, "handler": call.name, **more}
        teller = threading.Thread(target=self._log.error, args=(event,), kwargs=told, daemon=True)
        teller.start()
        teller.join(_TELL_S)

    def _open(self, *, inline: bool, jitter: Callable[[], float] = random.random) -> None:
        shares = [Share([each]) for each in self._endpoints] if inline else self._shares()
        self.lanes = []
        for share in shares:
            shared = SharedWork()
            self.lanes += [
                Lane(
                    self._bus,
                    share.endpoints,
                    consumer=self.name,
                    stop=self._stop,
                    abort=self._abort,
                    jitter=jitter,
                    log=self._log,
                    inline=inline,
                    nth=nth,
                    of=share.lanes,
                    shared=shared,
                )
                for nth in range(share.lanes)
            ]
        self._counters += [lane.counters for lane in self.lanes]

    def _pump(self) -> TimerPump:
        pump = TimerPump(self._bus, log=self._log, worker=self.name)
        self._counters.append(pump.counters)
        return pump

    def _shares(self) -> list[Share]:
        """Return which endpoints share lanes.

        Those do that nothing of the others keeps from getting on: whose sagas wait for nobody, and whose consumers have
        places for more than a few. They have two lanes: one is at work while the other waits for the server.
        """
        if not is_joint(self._bus.transport):
            return [Share([endpoint]) for endpoint in self._endpoints]
        shares: dict[object, Share] = {}
        for endpoint in self._endpoints:
            options = endpoint.options
            alone = any(saga.serial for saga in endpoint.sagas) or (
                endpoint.consumers and options.concurrency < _FEW_PLACES
            )
            share = shares.setdefault(endpoint.name if alone else ("", options.handler_timeout_s), Share([]))
            share.endpoints.append(endpoint)
            share.lanes = 1 if alone else _LANES
        return list(shares.values())

    # -- no threads ----------------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Handle everything that is there and due, in this thread, lane by lane; for tests.

        Deterministic over `memory:` stores and transports. What is deferred beyond now stays.

        Raises:
            RuntimeError: it never ends; two handlers probably keep sending to each other.
        """
        if not self.lanes:
            self._open(inline=True, jitter=lambda: 0.0)
        paused = frozenset(self._bus.store.presence.paused())
        for lane in self.lanes:
            lane.paused = paused
        pump = self._inline_pump = self._inline_pump or self._pump()
        pending: dict[str, Any] = {lane.name: [] for lane in self.lanes}
        quiet = 0
        for _ in range(_MAX_TURNS):
            moved = pump.pump()
            for lane in self.lanes:
                before = pending[lane.name]
                pending[lane.name] = lane.turn(before, 0.0)
                moved += len(before) + len(pending[lane.name])
            quiet = 0 if moved else quiet + 1
            if quiet > 1:
                return
        raise RuntimeError(
            f"the bus is not idle after {_MAX_TURNS} turns; handlers probably keep sending to each other"
        )
