"""What spans say: names, kinds and attributes by OpenTelemetry's semantic conventions for messaging, version 1.44.

They are in development there, so they may change: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from typing import Final

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from sagabus.envelope import Envelope
from sagabus.printable import said
from sagabus.redaction import scrub

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
_SYSTEM: Final = "sagabus"
_MOST_OF_AN_ERROR: Final = 1000
_propagator: Final = TraceContextTextMapPropagator()


def operation(name: str, kind: str, destination: str, envelope: Envelope | None) -> dict[str, AttributeValue]:
    """Return the attributes of an operation.

    Args:
        name: what it is called here.
        kind: `send`, `receive`, `process` or `settle`; empty for what is none of them.
        destination: the endpoint or topic; empty for none.
        envelope: the message, where it is about one.
    """
    attributes: dict[str, AttributeValue] = {"messaging.system": _SYSTEM, "messaging.operation.name": name}
    if kind:
        attributes["messaging.operation.type"] = kind
    if destination:
        attributes["messaging.destination.name"] = destination
    if envelope is not None:
        attributes["messaging.message.id"] = envelope.id
        attributes["messaging.message.conversation_id"] = envelope.correlationid or envelope.id
        attributes["sagabus.message.type"] = envelope.type
    return attributes


def context_of(traceparent: str) -> Context:
    """Return the context that *traceparent* names; an empty one, for a trace of its own, where it names none."""
    # Nothing that happens to be current here is its parent.
    return _propagator.extract({"traceparent": traceparent}, Context()) if traceparent else Context()


def traceparent_of(span: Span) -> str:
    """Return *span* as a message carries it; empty where it is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")


def within(span: Span) -> Context:
    """Return the current context with *span* in it."""
    return set_span_in_context(span, contexts.get_current())


def fail(span: Span, error: BaseException) -> None:
    """Have *span* say that it ended with *error*, without credentials."""
    fail_as(span, f"{type(error).__module__}.{type(error).__qualname__}", said(error))


def fail_as(span: Span, kind: str, text: str) -> None:
    """Have *span* say that it ended with an error of a *kind*."""
    span.set_attribute("error.type", kind.removeprefix("builtins."))
    span.set_status(Status(StatusCode.ERROR, scrub(text[:_MOST_OF_AN_ERROR])))
