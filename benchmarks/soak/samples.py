"""Samples taken while the soak runs, and what "flat" means."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from attrs import frozen

TOLERANCE: Final = 0.05
_WINDOWS: Final = 5


@frozen
class Sample:
    """What was seen at one moment.

    Attributes:
        at_s: since the load began.
        cases_per_s: outcomes a second since the last sample.
        kept: outcomes within the retention before this moment: what the store still has to remember.
        steady_mb: resident memory of the worker that is never killed.
        victim_mb, victim_age_s: of the workers that are killed in turn, the one that lives longest; 0 where none runs.
        judge_mb: of the process that drives and judges.
        store_used_mb, store_rss_mb: what the store says it uses, and its resident memory.
        dbsize: how many keys it has.
        aof_mb: how large its append-only file is.
        open_cases: asked for, and without an outcome.
        oldest_s: for how long the oldest of them has been waiting.
        worker_kills, store_kills: so far.
    """

    at_s: float
    cases_per_s: float
    kept: int
    steady_mb: float
    victim_mb: float
    victim_age_s: float
    judge_mb: float
    store_used_mb: float
    store_rss_mb: float
    dbsize: int
    aof_mb: float
    open_cases: int
    oldest_s: float
    worker_kills: int
    store_kills: int


@frozen
class Flatness:
    """Whether a series stayed within ±5% from the end of the warm-up on.

    Attributes:
        median: of the whole series.
        drift: what a straight line fitted to it (least squares) rises from its begin to its end, as a share of the
            median.
        spread: the largest distance of a window's median from the median of all, as a share of that. There are five
            windows of equal length: one kill of the store is an outlier in its window, a leak moves the window.
    """

    median: float
    drift: float
    spread: float

    @property
    def flat(self) -> bool:
        """Return whether neither exceeds five per cent."""
        return abs(self.drift) <= TOLERANCE and self.spread <= TOLERANCE


def flatness(times: Sequence[float], values: Sequence[float], load: Sequence[float] | None = None) -> Flatness:
    """Return how flat *values* are.

    Args:
        times: of the values, seconds, ascending.
        values: at least five.
        load: what the values rightly depend on (the store holds what the last minute brought, and how much that was is
            the machine's business): what a fit `values = a + b * load + c * time` ascribes to it is taken off first.
    """
    if load is not None:
        share = _slope_of_load(times, values, load)
        usual = statistics.median(load)
        values = [value - share * (amount - usual) for value, amount in zip(values, load, strict=True)]
    median = statistics.median(values)
    slope = _slope(times, values)
    size = len(values) / _WINDOWS
    windows = [values[round(i * size) : round((i + 1) * size)] for i in range(_WINDOWS)]
    spread = max(abs(statistics.median(window) - median) for window in windows if window)
    return Flatness(median, slope * (times[-1] - times[0]) / median, spread / median)


def _slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    return statistics.linear_regression(xs, ys).slope if len(set(xs)) > 1 else 0.0


def _slope_of_load(times: Sequence[float], values: Sequence[float], load: Sequence[float]) -> float:
    """Return b of `values = a + b * load + c * time`, by what is left of each when time is taken out."""
    left = [[y - x * _slope(times, ys) for x, y in zip(times, ys, strict=True)] for ys in (load, values)]
    return _slope(left[0], left[1])


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """Write all samples, one a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([attribute.name for attribute in attrs.fields(Sample)])
        writer.writerows(attrs.astuple(sample) for sample in samples)


def rss_mb(pid: int) -> float | None:
    """Return the resident memory of a process, MB; None where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * 4096 / 1e6
