"""Metrics for Prometheus: made at the scrape, from what workers have counted and what servers say then.

Needs `prometheus-client` (the extra `metrics`); imported only by who serves metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sagabus.telemetry import families as f
from sagabus.telemetry.card import DRAINING, PAUSED, UNREADABLE, WAITS, WORKING
from sagabus.telemetry.counters import EndpointCounts
from sagabus.telemetry.families import Family
from sagabus.telemetry.histogram import Histogram
from sagabus.telemetry.lookup import Lookup
from sagabus.telemetry.standing import StoreStanding
from sagabus.telemetry.work import Work

if TYPE_CHECKING:
    from sagabus.transport import QueueInfo

_STATES: Final = (WORKING, DRAINING, PAUSED, WAITS, UNREADABLE)
_MAKERS: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_OF_TYPES: Final = ((f.HANDLED, "handled"), (f.FAILED, "failed"), (f.RETRIED, "retried"), (f.DEAD, "dead"))
_OF_ENDPOINTS: Final = (
    (f.EARLY, "early"),
    (f.REPEATED, "repeated"),
    (f.PARKED, "parked"),
    (f.MERGES, "merges"),
    (f.MERGES_FAILED, "unmergeable"),
    (f.MERGED, "folded"),
    (f.MERGES_POSTED, "posted_merges"),
    (f.DROPPED, "dropped_decisions"),
)
_HISTOGRAMS: Final = ((f.LATENCY, "latency"), (f.HANDLER, "handlers"), (f.SIBLINGS, "siblings"))


class WorkCollector(Collector):
    """Collects what the workers of this command have done.

    Args:
        work: says that.
    """

    def __init__(self, work: Callable[[], Work]) -> None:
        self._work = work

    def collect(self) -> Iterator[Metric]:
        work = self._work()
        endpoints = sorted(work.counts.items())
        for family, name in _OF_TYPES:
            metric = _made(family)
            for endpoint, counts in endpoints:
                for kind, of_type in sorted(counts.types.items()):
                    metric.add_metric([endpoint, kind], getattr(of_type, name))
            yield metric
        yield _commits(endpoints)
        for family, name in _OF_ENDPOINTS:
            metric = _made(family)
            for endpoint, counts in endpoints:
                metric.add_metric([endpoint], getattr(counts, name))
            yield metric
        for family, name in _HISTOGRAMS:
            metric = _made(family)
            for endpoint, counts in endpoints:
                histogram: Histogram = getattr(counts, name)
                metric.add_metric([endpoint], _buckets(histogram), histogram.total)
            yield metric
        up = _made(f.WORKER_UP)
        for worker, gets_on in sorted(work.workers.items()):
            up.add_metric([worker], int(gets_on))
        yield up
        yield _single(f.RESTARTS, work.restarts)


class StandingCollector(Collector):
    """Collects how the store and the queues stand; of one that does not answer, only that.

    Args:
        store, queues: what they say.
        endpoints: those of this app that handle something.
    """

    def __init__(
        self, store: Lookup[StoreStanding], queues: Lookup[tuple[QueueInfo, ...]], endpoints: frozenset[str]
    ) -> None:
        self._store, self._queues, self._endpoints = store, queues, endpoints

    def collect(self) -> Iterator[Metric]:
        store, queues = self._store.answer(), self._queues.answer()
        up = _made(f.UP)
        up.add_metric(["store"], int(store is not None))
        up.add_metric(["broker"], int(queues is not None))
        yield up
        if queues is not None:
            yield from self._of_queues(queues, store)
        if store is not None:
            yield from self._of_store(store, queues or ())

    def _of_queues(self, queues: tuple[QueueInfo, ...], store: StoreStanding | None) -> Iterator[Metric]:
        depth, age = _made(f.DEPTH), _made(f.AGE)
        for queue in queues:
            if queue.depth >= 0:
                depth.add_metric([queue.endpoint], queue.depth)
            if queue.depth == 0:
                age.add_metric([queue.endpoint], 0.0)
            elif queue.oldest_ms is not None and store is not None:
                age.add_metric([queue.endpoint], max(store.now_ms - queue.oldest_ms, 0) / 1000)
        yield from (depth, age)

    def _of_store(self, store: StoreStanding, queues: tuple[QueueInfo, ...]) -> Iterator[Metric]:
        paused = _made(f.PAUSED)
        for endpoint in sorted(self._endpoints | store.paused | {queue.endpoint for queue in queues}):
            paused.add_metric([endpoint], int(endpoint in store.paused))
        yield paused
        workers = _made(f.WORKERS)
        for state in sorted({*_STATES, *store.workers}):
            workers.add_metric([state], store.workers.get(state, 0))
        yield workers
        sagas = _made(f.SAGAS)
        for count in store.sagas:
            sagas.add_metric([count.name, "live"], count.live)
            sagas.add_metric([count.name, "completed"], count.completed)
        yield sagas
        yield _single(f.FORKED, store.forked.count)
        yield _single(f.OLDEST_FORK, store.oldest_fork_s)
        yield _single(f.LETTERS, store.letters)
        yield _single(f.OVERDUE, store.overdue_s)


def _made(family: Family) -> Any:
    return _MAKERS[family.kind](family.name, family.says, labels=family.labels)


def _single(family: Family, value: float) -> Metric:
    metric = _made(family)
    metric.add_metric([], value)
    return metric  # type: ignore[no-any-return]


def _commits(endpoints: list[tuple[str, EndpointCounts]]) -> Metric:
    metric = _made(f.COMMITS)
    for endpoint, counts in endpoints:
        for (outcome, reason), count in sorted(counts.outcomes().items()):
            metric.add_metric([endpoint, outcome, reason], count)
    return metric  # type: ignore[no-any-return]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus has them: up to each bound, all below included."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
