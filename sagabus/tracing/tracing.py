"""The tracing of one bus: spans of what is sent into it, and a tracer for each lane of its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import Span, SpanKind, TracerProvider, get_tracer

import sagabus
from sagabus.outgoing import Outgoing
from sagabus.tracing.lane_tracer import LaneTracer
from sagabus.tracing.spans import SCHEMA_URL, fail, operation, traceparent_of

if TYPE_CHECKING:
    from sagabus.store.protocol import Store


class Tracing:
    """Makes the spans of one bus. Thread-safe.

    Args:
        provider: what makes the spans; the global one where it is None.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("sagabus", sagabus.__version__, provider, SCHEMA_URL)
        self._sends: dict[str, list[Span]] = {}

    def written(self, write: Callable[..., Outgoing], message_id: str) -> Outgoing:
        """Return what *write* makes, which carries the span of its send; `sending` ends that."""
        span = self._tracer.start_span("send", kind=SpanKind.PRODUCER)
        try:
            outgoing = write(traceparent=traceparent_of(span))
        except BaseException as error:
            fail(span, error)
            span.end()
            raise
        self._sends.setdefault(message_id, []).append(span)
        return outgoing

    @contextmanager
    def sending(self, messages: Sequence[Outgoing]) -> Iterator[None]:
        """Have the spans of *messages* last until they are sent, or were not."""
        spans = [self._taken(message.id) for message in messages]
        for span, message in zip(spans, messages, strict=True):
            span.update_name(f"send {message.to}")
            for name, value in operation("send", "send", message.to, message.envelope).items():
                span.set_attribute(name, value)
        try:
            yield
        except BaseException as error:
            for span in spans:
                fail(span, error)
            raise
        finally:
            for span in spans:
                span.end()

    def of_lane(self, worker: str, store: Store) -> LaneTracer:
        """Return what makes the spans of one lane of *worker*."""
        return LaneTracer(self._tracer, worker, store)

    def _taken(self, message_id: str) -> Span:
        spans = self._sends[message_id]
        span = spans.pop(0)
        if not spans:
            self._sends.pop(message_id, None)
        return span
