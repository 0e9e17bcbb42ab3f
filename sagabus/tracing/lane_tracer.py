"""The spans of one lane: what becomes of each message from its arrival until it is acked.

    process ENDPOINT            CONSUMER   a child of what sent the message; what its handlers send are children of it
      receive ENDPOINT          CLIENT     from its arrival in the worker until its handler begins
      handle SAGA or FUNCTION   INTERNAL   the handlers, and for a saga `decide()`; one more for each run again
      merge SAGA                INTERNAL   where siblings were folded; it links to the spans that wrote them
      commit SAGA               CLIENT     the atomic write
      dispatch ENDPOINT         CLIENT     what it caused is sent, and it is acked

All that is known only afterwards is made afterwards, with the times that were noted. The core, `advance`, knows nothing
of it: the messages it is given carry the span, and what it makes of them carries it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from attrs import define, evolve
from msgspec.structs import replace
from opentelemetry import context as contexts
from opentelemetry.trace import Link, Span, SpanKind, Tracer, get_current_span

from sagabus.commit import Commit, Outcome, Result
from sagabus.envelope import Incoming, SagaKey
from sagabus.errors import SagabusError
from sagabus.runtime.intake import ConsumerWork, SagaWork, Sorted
from sagabus.runtime.ticket import Ticket
from sagabus.tracing.spans import context_of, fail, fail_as, operation, traceparent_of, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagabus.runtime.outbound import Outbound
    from sagabus.store.protocol import Store

_UNTRUSTED: Final = "untrusted"


@define(eq=False)
class MessageTrace:
    """One delivery on its way.

    Attributes:
        span: from its arrival until it is acked.
        queue: the endpoint that it came to.
        arrived_ns: when it came, ns since 1970.
        received: whether its handler has begun.
    """

    span: Span
    queue: str
    arrived_ns: int
    received: bool = False


@define(eq=False)
class Run:
    """One run of a saga: the spans of its handlers, by message id, and when it began, ns since 1970."""

    handles: dict[str, Span]
    began_ns: int


class LaneTracer:
    """Makes the spans of one lane. Used by its thread; what it puts around consumers, by theirs.

    Args:
        tracer: makes spans.
        worker: whose lane.
        store: has the histories, in which the writers of siblings are found.
    """

    def __init__(self, tracer: Tracer, worker: str, store: Store) -> None:
        self._tracer, self._worker, self._store = tracer, worker, store
        self._open: dict[Ticket, MessageTrace] = {}
        self._concluded: list[Ticket] = []
        # When merging began and ended, of runs that are to be committed.
        self._times: dict[SagaKey, tuple[int, int]] = {}

    # -- a batch has come ----------------------------------------------------------------------------------------

    def received(self, batch: Sorted) -> None:
        """Begin the spans of a batch, and have its messages carry them."""
        now_ns = time.time_ns()
        for work in batch.sagas.values():
            work.incoming = [self._carrying(m, work.tickets[m.id], now_ns) for m in work.incoming]
        batch.consumers = [self._watched(work, now_ns) for work in batch.consumers]
        for ticket in batch.finished:
            self._trace(ticket, now_ns)

    def _trace(self, ticket: Ticket, now_ns: int) -> MessageTrace:
        trace = self._open.get(ticket)
        if trace is None:
            envelope, queue = ticket.envelope, ticket.delivery.queue
            attributes = operation("process", "process", queue, envelope)
            attributes["messaging.client.id"] = self._worker
            trusted = all(trouble.reason != _UNTRUSTED for trouble in ticket.troubles)
            traceparent = envelope.traceparent if envelope is not None and trusted else ""
            if envelope is not None and envelope.attempt > 1:
                attributes["sagabus.attempt"] = envelope.attempt
            if ticket.delivery.count > 1:
                attributes["sagabus.deliveries"] = ticket.delivery.count
            span = self._tracer.start_span(
                f"process {queue}", context_of(traceparent), SpanKind.CONSUMER, attributes, start_time=now_ns
            )
            trace = self._open[ticket] = MessageTrace(span, queue, now_ns)
        return trace

    def _carrying(self, incoming: Incoming, tickets: Sequence[Ticket], now_ns: int) -> Incoming:
        """Return *incoming* with its span as what caused it, so that what it causes has it too."""
        trace = next(self._trace(ticket, now_ns) for ticket in tickets)
        return _with_parent(incoming, trace.span)

    def _watched(self, work: ConsumerWork, now_ns: int) -> ConsumerWork:
        trace = self._trace(work.ticket, now_ns)
        consumer = work.consumer
        called = self._awaited if consumer.is_async else self._called
        function = called(trace, consumer.name, consumer.function)
        return replace(
            work, consumer=evolve(consumer, function=function), incoming=_with_parent(work.incoming, trace.span)
        )

    # -- consumers -----------------------------------------------------------------------------------------------

    def _called(self, trace: MessageTrace, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self._handling(trace, name):
                return function(*args)

        return call

    def _awaited(self, trace: MessageTrace, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            with self._handling(trace, name):
                return await function(*args)

        return call

    @contextmanager
    def _handling(self, trace: MessageTrace, name: str) -> Iterator[None]:
        now_ns = time.time_ns()
        self._received(trace, now_ns)
        span = self._child(trace, f"handle {name}", now_ns)
        token = contexts.attach(within(span))
        try:
            yield
        except BaseException as error:
            fail(span, error)
            raise
        finally:
            contexts.detach(token)
            span.end()

    def _received(self, trace: MessageTrace, now_ns: int) -> None:
        if trace.received or not trace.span.is_recording():
            return
        trace.received = True
        attributes = operation("receive", "receive", trace.queue, None)
        self._child(trace, f"receive {trace.queue}", trace.arrived_ns, SpanKind.CLIENT, attributes).end(now_ns)

    # -- sagas ---------------------------------------------------------------------------------------------------

    def begin_run(self, work: SagaWork) -> Run:
        """Note that the handlers of a saga begin."""
        now_ns = time.time_ns()
        handles: dict[str, Span] = {}
        for incoming in work.incoming:
            trace = self._of(work, incoming.id)
            if trace is not None:
                self._received(trace, now_ns)
                handles[incoming.id] = self._child(
                    trace, f"handle {work.definition.name}", now_ns, attributes={"sagabus.saga": str(work.key)}
                )
        return Run(handles, now_ns)

    def guarded(self, run: Run, guard: Callable[..., Any]) -> Callable[..., Any]:
        """Return *guard*, with the span of the message current while a handler of the user's runs."""

        def call(message: Incoming | None, function: Callable[..., Any], *args: Any) -> Any:
            span = run.handles.get(message.id) if message is not None else next(iter(run.handles.values()), None)
            if span is None:
                return guard(message, function, *args)
            token = contexts.attach(within(span))
            try:
                return guard(message, function, *args)
            finally:
                contexts.detach(token)

        return call

    def end_run(self, run: Run, commit: Commit) -> None:
        """Note that they have ended, and what they came out as. What was left over has no span yet."""
        ended_ns = time.time_ns()
        if commit.merged:
            self._times[commit.key] = run.began_ns, ended_ns
        for id_ in commit.ids:
            if id_ in run.handles:
                run.handles[id_].end(ended_ns)
        for failure in commit.failures:
            span = run.handles.get(failure.incoming.id)
            if span is not None:
                fail(span, failure.error)
                span.end(ended_ns)
        if commit.unmergeable is not None:
            for span in run.handles.values():
                fail(span, commit.unmergeable)
                span.end(ended_ns)

    def committed(self, runs: Sequence[tuple[SagaWork, Commit]], results: Sequence[Result], began_ns: int) -> None:
        """Make the spans of one trip to the store, for each message in it.

        Args:
            began_ns: when it began, ns since 1970.
        """
        ended_ns, times, self._times = time.time_ns(), self._times, {}
        for (work, commit), result in zip(runs, results, strict=True):
            stored = result.outcome in (Outcome.STORED, Outcome.FORKED)
            links = self._writers(commit) if commit.merged and stored else []
            attributes: dict[str, Any] = {"sagabus.saga": str(work.key), "sagabus.outcome": result.outcome.value}
            if result.reason:
                attributes["sagabus.reason"] = result.reason
            if result.dot is not None:
                attributes["sagabus.version"] = str(result.dot)
            if result.live > 1:
                attributes["sagabus.siblings"] = result.live
            if result.outcome is Outcome.FORKED and commit.decision is not None:
                attributes["sagabus.dropped_decision"] = True
            for id_ in commit.ids:
                trace = self._of(work, id_)
                if trace is None:
                    continue
                if commit.merged and stored and id_ == commit.ids[0]:
                    self._merge(trace, work, commit, links, times[work.key])
                name = f"commit {work.definition.name}"
                self._child(trace, name, began_ns, SpanKind.CLIENT, attributes).end(ended_ns)

    def _merge(
        self, trace: MessageTrace, work: SagaWork, commit: Commit, links: Sequence[Link], times: tuple[int, int]
    ) -> None:
        began_ns, ended_ns = times
        span = self._tracer.start_span(
            f"merge {work.definition.name}",
            within(trace.span),
            SpanKind.INTERNAL,
            {"sagabus.saga": str(work.key), "sagabus.merged": [str(dot) for dot in commit.parents]},
            links,
            began_ns,
        )
        span.end(ended_ns)

    def _writers(self, commit: Commit) -> list[Link]:
        """Return links to the spans that wrote the versions which *commit* has merged, as far as history has them."""
        try:
            entries = self._store.history(commit.key)
        except SagabusError:
            # Only what is shown is poorer for it; the store says so itself where it matters.
            return []
        parents = dict.fromkeys(commit.parents)
        links = []
        for entry in entries:
            if entry.dot in parents and entry.messages:
                writer = get_current_span(context_of(entry.messages[-1].traceparent)).get_span_context()
                if writer.is_valid:
                    links.append(Link(writer, {"sagabus.version": str(entry.dot)}))
        return links

    def _of(self, work: SagaWork, message_id: str) -> MessageTrace | None:
        tickets = work.tickets.get(message_id)
        trace = self._open.get(tickets[0]) if tickets else None
        # Of what is not sampled nothing is made but what its messages carry.
        return trace if trace is not None and trace.span.is_recording() else None

    # -- the end -------------------------------------------------------------------------------------------------

    def concluded(self, ticket: Ticket) -> None:
        """Note that all handlers of a delivery are through; what is left is to dispatch what they caused."""
        self._concluded.append(ticket)

    def dispatched(self, outbound: Outbound, began_ns: int) -> None:
        """End the spans of what is acked now.

        Args:
            outbound: what was dispatched.
            began_ns: when that began, ns since 1970.
        """
        ended_ns = time.time_ns()
        kind = "send" if outbound.parcels or outbound.scheduled else "settle"
        for ticket in self._concluded:
            trace = self._open.pop(ticket, None)
            if trace is None or not trace.span.is_recording():
                continue
            queue = ticket.delivery.queue
            attributes = operation("dispatch", kind, queue, None)
            attributes["messaging.batch.message_count"] = len(outbound.parcels) + len(outbound.scheduled)
            self._child(trace, f"dispatch {queue}", began_ns, SpanKind.CLIENT, attributes).end(ended_ns)
            if ticket.troubles:
                trouble = ticket.troubles[0]
                fail_as(trace.span, trouble.reason, trouble.text)
            trace.span.end(ended_ns)
        self._concluded.clear()

    def _child(
        self,
        trace: MessageTrace,
        name: str,
        start_ns: int,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
    ) -> Span:
        return self._tracer.start_span(name, within(trace.span), kind, attributes, start_time=start_ns)


def _with_parent(incoming: Incoming, span: Span) -> Incoming:
    """Return *incoming*, saying that *span* caused it; as it is where that is none, or names the same."""
    traceparent = traceparent_of(span)
    if not traceparent:
        return incoming
    return Incoming(msgspec.structs.replace(incoming.envelope, traceparent=traceparent), incoming._message)
