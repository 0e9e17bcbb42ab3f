"""`GET /metrics`, for Prometheus to scrape; by prometheus-client's own server, in daemon threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sagabus.errors import ConfigurationError
from sagabus.health.health_server import address_of
from sagabus.telemetry.lookup import Lookup
from sagabus.telemetry.standing import queue_standing, store_standing

if TYPE_CHECKING:
    from sagabus.bus import Bus
    from sagabus.telemetry.work import Work


@contextmanager
def metrics_served(address: str, bus: Bus, work: Callable[[], Work], log: Any) -> Iterator[int]:
    """Serve metrics for as long as the block, and yield the port. Anybody who can connect may ask.

    Args:
        address: HOST:PORT, or PORT on loopback.
        bus: whose store and queues are looked at, at most once a few seconds.
        work: says what the workers of this command have done.

    Raises:
        ConfigurationError: nothing can listen there, or prometheus-client is not installed.
    """
    host, port = address_of(address, "metrics")
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        from sagabus.telemetry.exposition import StandingCollector, WorkCollector
    except ImportError as error:
        raise ConfigurationError(f"metrics need a library ({error}); pip install 'sagabus[metrics]'") from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkCollector(work))
    registry.register(
        StandingCollector(
            Lookup(lambda: store_standing(bus), name="store", log=log),
            Lookup(lambda: queue_standing(bus), name="broker", log=log),
            frozenset(name for name, endpoint in bus.endpoints.items() if endpoint.handled_types()),
        )
    )
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigurationError(
            f"metrics cannot be served at {address}: {error}; choose a free address of this machine"
        ) from error
    log.info("metrics", port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
