"""A lane: one endpoint's loop. Receive, sort, run sagas, start consumers, collect them, dispatch; and round again."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from sagabus.bus import Bus
from sagabus.endpoint import Endpoint
from sagabus.errors import StoreFullError, StoreRefusedError, UnavailableError
from sagabus.health.vitals import LaneVitals
from sagabus.messages import MERGE
from sagabus.runtime.burial import Burial
from sagabus.runtime.crew import Crew, InlineCrew, ThreadedCrew
from sagabus.runtime.dispatch import Dispatcher
from sagabus.runtime.intake import ConsumerWork, message_id, sort_batch
from sagabus.runtime.leases import LeasesInHand
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.pulse import Pulse
from sagabus.runtime.recovery import Recovery
from sagabus.runtime.saga_runner import HandledSaga, SagaRunner
from sagabus.runtime.surroundings import Finished, Surroundings
from sagabus.runtime.ticket import Ticket, Trouble
from sagabus.runtime.watchdog import HandlerCall, Watch, overdue
from sagabus.store.protocol import Bookkeeping
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

    Attributes:
        watch: what handlers of its sagas run under.
        pulse: when it last got on, for others to look at.
        worn_by: the handler that was left behind once too often, so that the lane had its worker stop; mostly empty.

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
        self._burial = burial = Burial(consumer)
        self._dispatcher = Dispatcher(
            transport, self._receiver, store, log=self._log, give_up=stop.is_set, burial=burial
        )
        self._leases = LeasesInHand(
            store,
            # A worker that is started again under its name is not the one that held what it held.
            holder=f"{consumer}/{endpoint.name}/{uuid.uuid4().hex[:12]}",
            ttl_ms=max(1, round(bus.claim_s * 1000)),
            log=self._log,
        )
        self.watch = Watch(endpoint.options.handler_timeout_s)
        self.pulse = Pulse()
        self.worn_by = ""
        self._runner = SagaRunner(
            store, by=consumer, leases=self._leases, jitter=jitter, log=self._log, watch=self.watch
        )
        self._recovery = Recovery(endpoint.options, jitter, self._log, burial, endpoint)
        surroundings = Surroundings(
            endpoint.name, bus.routes, bus.max_message_bytes, self.now_ms, bus.documents, jitter, bus.signing
        )
        self._crew: Crew = (
            InlineCrew(surroundings)
            if inline
            else ThreadedCrew(
                surroundings,
                endpoint.options.concurrency,
                f"crew-{endpoint.name}",
                endpoint.options.handler_timeout_s,
            )
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
            except (UnavailableError, StoreRefusedError) as error:
                self._log.warning("not-given-back", error=str(error))
            self.pulse.ended = True

    def turn(self, deliveries: Sequence[Delivery], wait_s: float) -> list[Delivery]:
        """Handle *deliveries*, dispatch what they caused, and return the next ones."""
        self.pulse.beat()
        self._hold(deliveries)
        deliveries = self._without_given_up(deliveries)
        if deliveries and time.monotonic() - self._clock_set_at >= _CLOCK_AGE_S:
            self._insist(lambda: self._set_clock(self._bus.store.next_due_ms()[0]))
        batch = sort_batch(self.endpoint, deliveries, self._bus.max_message_bytes, self._bus.signing)
        for doubt in batch.doubtful:
            self._log.warning("untrusted", error=str(doubt), taken=True)
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
        self._look_behind()
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

    def _without_given_up(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return *deliveries* without those to be acked because their dead letters are on record already.

        Who puts a letter there may die, or be cut off, before its message is acked.
        """
        again = [delivery for delivery in deliveries if delivery.count > 1]
        buried = [delivery for delivery in again if self._insist(partial(self._is_given_up, delivery))]
        self._outbound.done += buried
        return [delivery for delivery in deliveries if delivery not in buried]

    def _is_given_up(self, delivery: Delivery) -> bool:
        name = message_id(delivery.body, self._bus.max_message_bytes)
        given_up = self._bus.store.letters.given_up(delivery.queue, name)
        if given_up:
            self._log.info("given-up-before", message_id=name, deliveries=delivery.count)
        return given_up

    def _conclude(self, ticket: Ticket) -> None:
        self._recovery.conclude(ticket, self._outbound, self.now_ms() if ticket.troubles else 0)

    def _flush(self) -> None:
        if self._dispatcher.noting:
            self._run_sagas([])
        if self._outbound:
            self._dispatcher.exchange(self._outbound, 0, 0.0, self.now_ms())
            self._outbound = Outbound()

    def vitals(self, now: float) -> LaneVitals:
        """Return what this lane shows of itself; called from other threads.

        Args:
            now: on the monotonic clock.
        """
        pulse, call = self.pulse, self.watch.current
        asking_since = pulse.asking_since
        at_work = call is not None and not call.done
        return LaneVitals(
            endpoint=self.endpoint.name,
            # Many handlers of one batch may take long together, and each of them that ends is a step on.
            beat_age_s=now - max(pulse.beat_at, self.watch.left_at),
            handler=call.name if call is not None and at_work else "",
            handler_age_s=now - call.began_at if call is not None and at_work else 0.0,
            asking_age_s=None if asking_since is None else now - asking_since,
            answered=pulse.answered,
            waits_for=pulse.waits_for,
            ended=pulse.ended,
        )

    # -- handlers that take longer than they may -----------------------------------------------------------------

    def _look_behind(self) -> None:
        """Have the worker stop where more handlers are left behind than may run at once."""
        behind = self._crew.left_behind()
        if len(behind) > self.endpoint.options.concurrency and not self.worn_by:
            self.worn_by = behind[-1]
            self._log.error("worn-out", handlers_left_behind=len(behind), handler=self.worn_by)
            self._stop.set()

    def bury_hung(self, call: HandlerCall) -> None:
        """Put the message that *call* hangs on on record as a dead letter; called from another thread.

        Where no single message is to blame nothing is: what the worker leaves is delivered again, one by one.
        """
        handled: HandledSaga = call.subject
        if handled.message is None or handled.message.envelope.type == MERGE:
            return
        assert self.watch.timeout_s is not None
        error = overdue(call.name, self.watch.timeout_s, call.thread)
        trouble = Trouble(error.reason, error, handled.work.key, handled.snapshot)
        # It may end in this very moment, and the lane be through with it.
        tickets = list(handled.work.tickets.get(handled.message.id, ()))
        if not tickets:
            return
        letter = self._burial.of_ticket(tickets[0], trouble, error.reason, self.now_ms(), self.endpoint)
        self._bus.store.note(Bookkeeping(buried=(letter,)))

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
            self.pulse.asks()
            try:
                answer = step()
                self.pulse.heard()
                return answer
            except (UnavailableError, StoreFullError, StoreRefusedError) as error:
                tries += 1
                self.pulse.refused(str(error))
                self._log.error("waiting-for-server", error=str(error), tries=tries)
                if self._abort.is_set() or (self._stop.is_set() and tries > 1):
                    raise LaneAbandonedError(str(error)) from error
                self._stop.wait(min(0.1 * tries, _TROUBLE_WAIT_S))
