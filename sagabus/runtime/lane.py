"""A lane: the loop of some endpoints. Receive, sort, start consumers, run sagas, collect, dispatch; and round again."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sagabus.bus import Bus
from sagabus.endpoint import Endpoint
from sagabus.errors import StoreFullError, StoreRefusedError, UnavailableError
from sagabus.health.vitals import LaneVitals
from sagabus.messages import MERGE
from sagabus.observe.log import says_all
from sagabus.runtime.burial import Burial
from sagabus.runtime.crew import LINGER_S, InlineCrew, ThreadedCrew, collect
from sagabus.runtime.dispatch import Dispatcher
from sagabus.runtime.handler_threads import Through
from sagabus.runtime.intake import ConsumerWork, message_id, sort_batch
from sagabus.runtime.leases import LeasesInHand
from sagabus.runtime.outbound import Outbound
from sagabus.runtime.pulse import Pulse
from sagabus.runtime.saga_runner import HandledSaga, SagaRunner
from sagabus.runtime.shared_work import SharedWork
from sagabus.runtime.station import CROWDED_BATCHES, Station, open_station
from sagabus.runtime.store_clock import StoreClock
from sagabus.runtime.surroundings import Finished
from sagabus.runtime.ticket import Ticket, Trouble, let_go
from sagabus.runtime.watchdog import HandlerCall, Watch, overdue
from sagabus.store.protocol import Bookkeeping
from sagabus.telemetry.counters import Counters, EndpointCounts
from sagabus.transport import SECOND, Delivery, is_bulk, rest

if TYPE_CHECKING:
    from sagabus.tracing.lane_tracer import LaneTracer

R = TypeVar("R")

IDLE_WAIT_S: Final = 1.0
_POLL_S: Final = 0.01
_MOST_A_TURN: Final = 512
_MUCH: Final = 32
"""From so many messages at once another lane helps."""
_QUICK_S: Final = 1.0
"""A batch is not made larger where it would then take longer, at the pace of the last: what it causes leaves last."""
_LIGHT_BYTES: Final = 1_000_000
_TROUBLE_WAIT_S: Final = 2.0
_PAUSED_S: Final = 0.25
"""A lane whose endpoints are all paused looks so often whether they still are."""


class LaneAbandonedError(Exception):
    """A lane was told to stop while a server did not answer; what it held is redelivered."""


class Lane:
    """Works through the queues of some endpoints, in one thread.

    One round trip brings the messages of all of them, and one dispatches what they caused.

    Attributes:
        endpoints: whose queues.
        watch: what handlers of its sagas run under.
        pulse: when it last got on, for others to look at.
        worn_by: the handler that was left behind once too often, so that the lane had its worker stop; mostly empty.
        counters: what it has done; others only read them.
        paused: endpoints that nothing is to be received from; another thread says which.

    Args:
        bus: what the endpoints are on.
        endpoints: with equal `handler_timeout_s`; several only where the transport receives for them together.
        consumer: the name of the worker.
        nth, of: which one this is of some lanes that share these endpoints, from 0, and of how many; the handlers that
            may run at once are shared out among them.
        shared: what they share.
        stop: set when no more is to be received.
        abort: set when work in progress is to be abandoned.
        inline: run consumers in this thread, for tests.
        jitter: returns a number in [0, 1).
        log: a structlog logger.
    """

    def __init__(
        self,
        bus: Bus,
        endpoints: Sequence[Endpoint],
        *,
        consumer: str,
        stop: threading.Event,
        abort: threading.Event,
        jitter: Callable[[], float],
        log: Any,
        inline: bool = False,
        nth: int = 0,
        of: int = 1,
        shared: SharedWork | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.name = ", ".join(endpoint.name for endpoint in endpoints)
        self._bus, self._stop, self._abort, self._inline = bus, stop, abort, inline
        self._log = log.bind(endpoint=self.name)
        store, transport = bus.store, bus.transport
        names = [endpoint.name for endpoint in endpoints]
        # Deliveries are held under the name of the worker; those of a second lane under another one that follows.
        self._receiver = transport.receiver(names, consumer=consumer + nth * SECOND, claim_s=bus.claim_s)
        self._shared, self._nth = shared or SharedWork(), nth
        self.counters = Counters({e.name: frozenset((*e.handled_types(), MERGE)) for e in endpoints})
        self._burial = burial = Burial(consumer)
        self._dispatcher = Dispatcher(
            transport,
            self._receiver,
            store,
            log=self._log,
            give_up=stop.is_set,
            burial=burial,
            counters=self.counters,
        )
        self._leases = LeasesInHand(
            store,
            # A worker that is started again under its name is not the one that held what it held.
            holder=f"{consumer}/{names[0]}/{uuid.uuid4().hex[:12]}",
            ttl_ms=max(1, round(bus.claim_s * 1000)),
            log=self._log,
        )
        self.paused: frozenset[str] = frozenset()
        self._clock = StoreClock()
        self._tracer = None if bus.tracing is None else bus.tracing.of_lane(consumer, store)
        self.watch = Watch(self.endpoints[0].options.handler_timeout_s)
        self.pulse = Pulse()
        self.worn_by = ""
        self._runner = SagaRunner(
            store,
            by=consumer,
            leases=self._leases,
            jitter=jitter,
            log=log,
            watch=self.watch,
            outlet=self._dispatcher.outlet,
            counters=self.counters,
            tracer=self._tracer,
        )
        self._through: Through = SimpleQueue()
        self._stations: dict[str, Station] = {}
        for endpoint in endpoints:
            concurrency = endpoint.options.concurrency
            self._stations[endpoint.name] = open_station(
                bus,
                endpoint,
                places=concurrency * (nth + 1) // of - concurrency * nth // of,
                times=self.counters.of(endpoint.name).handlers,
                through=None if inline else self._through,
                burial=burial,
                now_ms=self.now_ms,
                jitter=jitter,
                log=log,
            )
        self._held: dict[int, Delivery] = {}
        self._held_lock = threading.Lock()
        self._outbound = Outbound()
        self._handled: list[Ticket] = []
        # Errors of messages that were concluded; others of the same turn may have come to grief by the same.
        self._spent: list[BaseException] = []
        self._many, self._much, self._crowded = len(self._stations) > 1, False, False
        self._bulk = is_bulk(transport)

    @property
    def tally(self) -> EndpointCounts:
        """Return what this lane has done so far, for all its endpoints."""
        tally = EndpointCounts()
        for counts in self.counters.counts.values():
            tally.add(counts)
        return tally

    def now_ms(self) -> int:
        """Return the store's time, ms since 1970, as far as this lane knows it."""
        return self._clock.now_ms()

    def run(self) -> None:
        """Work until told to stop, then finish what is in hand.

        Raises:
            LaneAbandonedError: told to stop while a server did not answer.
        """
        deliveries: list[Delivery] = []
        try:
            if self._nth:
                # What was left under its name in an earlier life is taken back at once.
                deliveries = self.turn(deliveries, 0.0)
            while deliveries or self._busy or not self._stop.is_set():
                deliveries = self.turn(deliveries, self._rest() if self._nth and not deliveries else IDLE_WAIT_S)
            self._insist(self._flush)
        finally:
            for station in self._stations.values():
                station.crew.close()
            try:
                self._receiver.close()
            except (UnavailableError, StoreRefusedError) as error:
                self._log.warning("not-given-back", error=str(error))
            self.pulse.ended = True

    def turn(self, deliveries: Sequence[Delivery], wait_s: float) -> list[Delivery]:
        """Handle *deliveries*, dispatch what they caused, and return the next ones."""
        self.pulse.beat()
        began_at = time.monotonic()
        while self._spent:
            let_go(self._spent.pop())
        self._hold(deliveries)
        deliveries = self._without_given_up(deliveries)
        if deliveries and self._clock.old:
            self._insist(lambda: self._clock.set(self._bus.store.next_due_ms()[0]))
        batch = sort_batch(self._endpoint_of, deliveries, self._bus.max_message_bytes, self._bus.signing)
        crowds = self._bulk and batch.crowds() and sum([len(each.body) for each in deliveries]) <= _LIGHT_BYTES
        for doubt in batch.doubtful:
            self._log.warning("untrusted", error=str(doubt), taken=True)
        if self._tracer is not None:
            self._tracer.received(batch)
        for ticket in batch.finished:
            self._conclude(ticket)
        if not self._inline:
            # They may be at it while the sagas wait for the store.
            for work in batch.consumers:
                self._start(work)
        if batch.sagas or self._dispatcher.noting:
            with self._shared.holding(batch.sagas, self._waits_for_lane):
                self._insist(lambda: self._run_sagas(batch.sagas.values()))
        # Tests that run all in one thread are to be the same whatever else the machine does.
        took_s = 0.0 if self._inline else time.monotonic() - began_at
        self._crowded = crowds and took_s * (1 if self._crowded else CROWDED_BATCHES) <= _QUICK_S
        if self._inline:
            for work in batch.consumers:
                self._start(work)
        self._collect()
        self._look_behind()
        if self._tracer is not None and self._outbound:
            self._dispatch_apart(self._tracer)
        shares = self._shares() if not self._stop.is_set() else {}
        limit = sum(shares.values())
        if self._pauses() and not self._outbound and not self._busy:
            self._stop.wait(min(wait_s, _PAUSED_S))
            return []
        if self._busy or not limit or self._much:
            wait_s = 0.0
        received = self._insist(
            lambda: (
                self._dispatcher.exchange(
                    self._outbound, limit, wait_s, self.now_ms(), shares if self._many and limit else None
                )
                if limit or self._outbound
                else []
            )
        )
        self._release(self._outbound.done)
        self._outbound = Outbound()
        self._count_handled()
        self._much = len(received) >= _MUCH
        if not self._nth:
            self._shared.say(self._much)
        return received

    def _pauses(self) -> bool:
        """Return whether all endpoints are paused; what the broker has sent ahead of being asked then goes back."""
        if not self.paused or not self.paused.issuperset(self._stations):
            return False
        self._insist(lambda: rest(self._receiver))
        return True

    def _dispatch_apart(self, tracer: LaneTracer) -> None:
        """Dispatch in a trip of its own, so that a span says how long that took, and not how long nothing came."""
        began_ns, outbound = time.time_ns(), self._outbound
        self._insist(lambda: self._dispatcher.exchange(outbound, 0, 0.0, self.now_ms()))
        self._release(outbound.done)
        self._outbound = Outbound()
        self._count_handled()
        tracer.dispatched(outbound, began_ns)

    def _rest(self) -> float:
        """Wait until there is much to do, for a second at most; return how long to wait for messages then: no time."""
        if not self._busy:
            self._shared.much.wait(IDLE_WAIT_S)
        return 0.0

    def _waits_for_lane(self) -> None:
        self.pulse.beat()
        if self._abort.is_set():
            raise LaneAbandonedError("another lane waits for a server with the same sagas in hand")

    def _endpoint_of(self, delivery: Delivery) -> Endpoint:
        return self._stations[delivery.queue].endpoint

    @property
    def _busy(self) -> int:
        return sum([station.crew.busy for station in self._stations.values()])

    def _shares(self) -> dict[str, int]:
        """Return how many deliveries may be taken, by endpoint."""
        paused = self.paused
        rooms = {
            name: station.room(crowded=self._crowded)
            for name, station in self._stations.items()
            if name not in paused and station.takes
        }
        most = _MOST_A_TURN // len(self._stations)
        return {name: max(1, min(room, most)) if self._many else room for name, room in rooms.items() if room > 0}

    def _collect(self) -> None:
        """Take what consumers have come back with; wait for it a little where some are at work."""
        if not self._busy:
            return
        finished: list[Finished] = []
        crews: list[ThreadedCrew] = []
        for station in self._stations.values():
            if isinstance(station.crew, InlineCrew):
                finished += station.crew.collect()
            elif station.crew.busy:
                crews.append(station.crew)
        if crews:
            # What sagas have asked for is to leave, and messages for others may have come.
            wait_s = LINGER_S if self._outbound else _POLL_S if self._shares() else IDLE_WAIT_S
            finished += collect(crews, self._through, wait_s)
        # Answers to what came together are sent together, whoever was through first: one load and one commit for them.
        finished.sort(key=_place)
        for each in finished:
            self._outbound.add(each.outgoing)
            self._log_consumed(each)
            if each.ticket.through(each.trouble):
                self._conclude(each.ticket)

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
            self._clock.set(self._runner.now_ms)

    def _log_consumed(self, finished: Finished) -> None:
        envelope = finished.ticket.envelope
        if envelope is not None and finished.trouble is None and says_all(self._log):
            self._log.debug(
                "handled",
                endpoint=finished.ticket.delivery.queue,
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
            self._stations[work.ticket.delivery.queue].crew.start(work)

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
            self._log.info("given-up-before", endpoint=delivery.queue, message_id=name, deliveries=delivery.count)
        return given_up

    def _conclude(self, ticket: Ticket) -> None:
        if self._tracer is not None:
            self._tracer.concluded(ticket)
        recovery = self._stations[ticket.delivery.queue].recovery
        if not ticket.troubles:
            recovery.conclude(ticket, self._outbound, 0)
            self._handled.append(ticket)
            return
        letters = len(self._outbound.buried)
        recovery.conclude(ticket, self._outbound, self.now_ms())
        self._spent += [trouble.error for trouble in ticket.troubles if trouble.error is not None]
        self.counters.troubled(ticket, dead=len(self._outbound.buried) > letters)

    def _flush(self) -> None:
        if self._dispatcher.noting:
            self._run_sagas([])
        if self._outbound:
            began_ns = time.time_ns()
            self._dispatcher.exchange(self._outbound, 0, 0.0, self.now_ms())
            if self._tracer is not None:
                self._tracer.dispatched(self._outbound, began_ns)
            self._outbound = Outbound()
        self._count_handled()

    def _count_handled(self) -> None:
        if self._handled:
            self.counters.handled(self._handled, self.now_ms())
            self._handled = []

    def vitals(self, now: float) -> LaneVitals:
        """Return what this lane shows of itself; called from other threads.

        Args:
            now: on the monotonic clock.
        """
        pulse, call = self.pulse, self.watch.current
        asking_since = pulse.asking_since
        at_work = call is not None and not call.done
        return LaneVitals(
            endpoint=self.name,
            # Many handlers of one batch may take long together, and each of them that ends is a step on.
            beat_age_s=now - max(pulse.beat_at, self.watch.left_at),
            handler=call.name if call is not None and at_work else "",
            handler_age_s=now - call.began_at if call is not None and at_work else 0.0,
            asking_age_s=None if asking_since is None else now - asking_since,
            # Who is not to receive asks nobody.
            answered=pulse.answered or self.paused.issuperset(self._stations),
            waits_for=pulse.waits_for,
            ended=pulse.ended,
        )

    # -- handlers that take longer than they may -----------------------------------------------------------------

    def _look_behind(self) -> None:
        """Have the worker stop where more handlers are left behind than may run at once."""
        for station in self._stations.values():
            behind = station.crew.left_behind()
            if len(behind) > station.endpoint.options.concurrency and not self.worn_by:
                self.worn_by = behind[-1]
                self._log.error(
                    "worn-out",
                    endpoint=station.endpoint.name,
                    handlers_left_behind=len(behind),
                    handler=self.worn_by,
                )
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
        letter = self._burial.of_ticket(
            tickets[0], trouble, error.reason, self.now_ms(), self._endpoint_of(tickets[0].delivery)
        )
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


def _place(finished: Finished) -> int:
    return finished.ticket.nth
