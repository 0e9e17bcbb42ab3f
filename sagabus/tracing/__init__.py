"""OpenTelemetry spans of what buses and workers do; off unless `instrument(bus)` switches them on."""

from sagabus.tracing.instrument import instrument

__all__ = ["instrument"]
