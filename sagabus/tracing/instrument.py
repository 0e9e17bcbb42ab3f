"""The switch: from a bus that traces nothing to one that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagabus.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from sagabus.bus import Bus


def instrument(bus: Bus, tracer_provider: TracerProvider | None = None) -> Bus:
    """Have *bus*, and the workers made of it from now on, make OpenTelemetry spans; return the bus.

    Args:
        tracer_provider: what makes the spans; the global one by default, which may be set later.

    Raises:
        ConfigurationError: OpenTelemetry's API is not installed.
    """
    try:
        from sagabus.tracing.tracing import Tracing
    except ImportError as error:
        raise ConfigurationError(f"tracing needs OpenTelemetry ({error}); pip install 'sagabus[tracing]'") from error
    bus.tracing = Tracing(tracer_provider)
    return bus
