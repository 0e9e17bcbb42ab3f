"""Histograms: what they count can be added up, and says about how long most took."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.telemetry.histogram import SECONDS, Histogram

TIMES = st.lists(st.floats(0.0, 1000.0), max_size=60)


def of(times: list[float]) -> Histogram:
    histogram = Histogram.of_seconds()
    for time_s in times:
        histogram.note(time_s)
    return histogram


@given(TIMES, TIMES)
def test_sum_of_histograms_is_the_histogram_of_all(first: list[float], second: list[float]) -> None:
    """Whoever counted: lanes, processes, machines."""
    together = of(first)
    together.add(of(second))
    assert together.counts == of([*first, *second]).counts
    assert together.total == pytest.approx(sum([*first, *second]))
    assert together.count == len(first) + len(second)


def test_bounds_are_inclusive_and_the_last_bucket_has_none() -> None:
    """As Prometheus has it: `le`."""
    histogram = of([SECONDS[3], SECONDS[-1], SECONDS[-1] * 2])
    assert [nth for nth, count in enumerate(histogram.counts) if count] == [3, len(SECONDS) - 1, len(SECONDS)]


def test_quantile_lies_in_the_bucket_of_the_true_one() -> None:
    """It is exact to a bucket, for any share of the values."""
    rng = random.Random(7)
    times = sorted(rng.lognormvariate(-4, 2) for _ in range(2000))
    histogram = of(times)
    for p in (0.01, 0.5, 0.9, 0.99, 1.0):
        found, true = histogram.quantile(p), times[max(0, round(p * len(times)) - 1)]
        assert found is not None
        assert true / 2.6 <= found <= true * 2.6


def test_quantile_of_nothing_is_nothing() -> None:
    """And not zero, which would be very quick."""
    assert of([]).quantile(0.5) is None
    assert of([3600.0]).quantile(0.5) == SECONDS[-1]
