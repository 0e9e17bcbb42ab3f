"""A lane: one endpoint's loop. Receive, sort, run sagas, start consumers, collect them, dispatch; and round again."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from sagabus.bus import Bus
from sagabus.endpoint import Endpoint
from sagabus.errors import StoreFullError, StoreRefusedError, UnavailableError
from sagabus.runtime.crew import Crew, Finished, InlineCrew, Surroundings, ThreadedCrew
from sagabus.runtime.dispatch import Dispatcher
from sagabus.runtime.intake import ConsumerWork, sort_batch
from sagabus.runtime.leases import LeasesInHand
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.recovery import Recovery
from sagabus.runtime.saga_runner import SagaRunner
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.transport import Delivery

R = TypeVar("R")

IDLE_WAIT_S: Final = 1.0
_POLL_S: Final = 0.01
_CLOCK_AGE_S: Final = 60.0
_TROUBLE_WAIT_S: Final = 2.0


class LaneAbandonedError(Exception):
    """A lane was told to stop while a server did not answer; what it held is redelivered."""


class Lane:
    """Works through the queue of one endpoint, in one thread.

    Args:
        bus: what the endpoint is on.
        endpoint: whose queue.
        consumer: the name under which deliveries are held.
        stop: set when no more is to be received.
        abort: set when work in progress is to be abandoned.
        inline: run consumers in this thread, for tests.
        jitter: returns a number in [0, 1).
        log: a structlog logger.
    """

    def __init__(
        self,
        bus: Bus,
        endpoint: Endpoint,
        *,
        consumer: str,
        stop: threading.Event,
        abort: threading.Event,
        jitter: Callable[[], float],
        log: Any,
        inline: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._bus, self._stop, self._abort = bus, stop, abort
        self._log = log.bind(endpoint=endpoint.name)
        store, transport = bus.store, bus.transport
        self._receiver = transport.receiver([endpoint.name], consumer=consumer, claim_s=bus.claim_s)
        self._dispatcher = Dispatcher(transport, self._receiver, store, log=self._log, give_up=stop.is_set)
        self._leases = LeasesInHand(
            store,
            # A worker that is started again under its name is not the one that held what it held.
            holder=f"{consumer}/{endpoint.name}/{uuid.uuid4().hex[:12]}",
            ttl_ms=max(1, round(bus.claim_s * 1000)),
            log=self._log,
        )
        self._runner = SagaRunner(store, by=consumer, leases=self._leases, jitter=jitter, log=self._log)
        self._recovery = Recovery(endpoint.options, jitter, self._log)
        surroundings = Surroundings(
            endpoint.name, bus.routes, bus.max_message_bytes, self.now_ms, bus.documents, jitter
        )
        self._crew: Crew = (
            InlineCrew(surroundings)
            if inline
            else ThreadedCrew(surroundings, endpoint.options.concurrency, f"crew-{endpoint.name}")
        )
        self._held: dict[int, Delivery] = {}
        self._held_lock = threading.Lock()
        self._clock_offset_ms = 0.0
        self._clock_set_at = -_CLOCK_AGE_S
        self._outbound = Outbound()

    @property
    def tally(self) -> Any:
        """Return what this lane's sagas have done so far."""
        return self._runner.tally

    def now_ms(self) -> int:
        """Return the store's time, ms since 1970, as far as this lane knows it."""
        return round(time.monotonic() * 1000 + self._clock_offset_ms)

    def _set_clock(self, store_now_ms: int) -> None:
        self._clock_set_at = time.monotonic()
        self._clock_offset_ms = store_now_ms - self._clock_set_at * 1000

    def run(self) -> None:
        """Work until told to stop, then finish what is in hand.

        Raises:
            LaneAbandonedError: told to stop while a server did not answer.
        """
        deliveries: list[Delivery] = []
        try:
            while deliveries or self._crew.busy or not self._stop.is_set():
                deliveries = self.turn(deliveries, IDLE_WAIT_S)
            self._insist(self._flush)
        finally:
            self._crew.close()
            try:
                self._receiver.close()
            except UnavailableError as error:
                self._log.warning("not-given-back", error=str(error))

    def turn(self, deliveries: Sequence[Delivery], wait_s: float) -> list[Delivery]:
        """Handle *deliveries*, dispatch what they caused, and return the next ones."""
        self._hold(deliveries)
        if deliveries and time.monotonic() - self._clock_set_at >= _CLOCK_AGE_S:
            self._insist(lambda: self._set_clock(self._bus.store.next_due_ms()[0]))
        batch = sort_batch(self.endpoint, deliveries, self._bus.max_message_bytes)
        for ticket in batch.finished:
            self._conclude(ticket)
        if batch.sagas or self._dispatcher.noting:
            self._insist(lambda: self._run_sagas(batch.sagas.values()))
        for work in batch.consumers:
            self._start(work)
        if self._crew.busy:
            room = self._room() > 0
            for finished in self._crew.collect(_POLL_S if room else IDLE_WAIT_S):
                self._outbound.add(finished.outgoing)
                self._log_consumed(finished)
                if finished.ticket.through(finished.trouble):
                    self._conclude(finished.ticket)
        receiving = not self._stop.is_set()
        limit = self._room() if receiving else 0
        wait_s = 0.0 if self._crew.busy or not receiving else wait_s
        received = self._insist(
            lambda: (
                self._dispatcher.exchange(self._outbound, limit, wait_s, self.now_ms())
                if limit or self._outbound
                else []
            )
        )
        self._release(self._outbound.done)
        self._outbound = Outbound()
        return received

    def _room(self) -> int:
        """Return how many more deliveries may be taken: a batch, or less where handlers are still at work."""
        options = self.endpoint.options
        if not self.endpoint.consumers:
            return options.batch
        return max(0, min(options.batch, 2 * options.concurrency - self._crew.busy))

    def _run_sagas(self, works: Any) -> None:
        noting = self._dispatcher.noting
        self._runner.now_ms = 0
        if noting and not any(work.incoming for work in works):
            self._bus.store.note(noting)
        else:
            self._runner.run(works, self._outbound, self._saga_through, noting)
        if noting:
            self._dispatcher.noted()
        if self._runner.now_ms:
            self._set_clock(self._runner.now_ms)

    def _log_consumed(self, finished: Finished) -> None:
        envelope = finished.ticket.envelope
        if envelope is not None and finished.trouble is None:
            self._log.debug(
                "handled",
                saga=envelope.replysaga,
                message_id=envelope.id,
                message_type=envelope.type,
                outcome="consumed",
                sent=len(finished.outgoing),
            )

    def _saga_through(self, ticket: Ticket, trouble: Trouble | None) -> None:
        if ticket.through(trouble):
            self._conclude(ticket)

    def _start(self, work: ConsumerWork) -> None:
        if work.ticket.exhausted:
            if work.ticket.through(Trouble("killed-worker")):
                self._conclude(work.ticket)
        else:
            self._crew.start(work)

    def _conclude(self, ticket: Ticket) -> None:
        self._recovery.conclude(ticket, self._outbound, self.now_ms() if ticket.troubles else 0)

    def _flush(self) -> None:
        if self._dispatcher.noting:
            self._run_sagas([])
        if self._outbound:
            self._dispatcher.exchange(self._outbound, 0, 0.0, self.now_ms())
            self._outbound = Outbound()

    # -- signs of life, and trouble ------------------------------------------------------------------------------

    def hold(self) -> None:
        """Say that what this lane has received is still being worked on; called from another thread."""
        with self._held_lock:
            held = list(self._held.values())
        try:
            self._leases.renew()
        finally:
            if held:
                self._receiver.hold(held)

    def _hold(self, deliveries: Sequence[Delivery]) -> None:
        with self._held_lock:
            self._held.update((id(delivery), delivery) for delivery in deliveries)

    def _release(self, deliveries: Sequence[Delivery]) -> None:
        with self._held_lock:
            for delivery in deliveries:
                self._held.pop(id(delivery), None)

    def _insist(self, step: Callable[[], R]) -> R:
        """Do *step* until the servers let it be done; nothing is acked meanwhile, so nothing is lost.

        Raises:
            LaneAbandonedError: told to stop before they did.
        """
        tries = 0
        while True:
            try:
                return step()
            except (UnavailableError, StoreFullError, StoreRefusedError) as error:
                tries += 1
                self._log.error("waiting-for-server", error=str(error), tries=tries)
                if self._abort.is_set() or (self._stop.is_set() and tries > 1):
                    raise LaneAbandonedError(str(error)) from error
                self._stop.wait(min(0.1 * tries, _TROUBLE_WAIT_S))
