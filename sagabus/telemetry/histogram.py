"""Histograms with fixed buckets: what is counted in one thread can be added to what others have counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from attrs import define, field

SECONDS: Final = tuple(digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5))
"""The upper bounds of the buckets of times, s: 1, 2, 5, 10 and so on, from a tenth of a millisecond to 500 s."""
SIBLINGS: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0)
"""Those of numbers of siblings."""


@define
class Histogram:
    """How often values fell into each bucket.

    The bounds are fixed for ever: what another version of sagabus has counted is added to what this one has.

    Attributes:
        bounds: the upper bound of each bucket but the last, which has none, inclusive and rising.
        counts: how many values each bucket has; one more than there are bounds.
        total: the sum of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field()
    total: float = 0.0

    @counts.default
    def _nothing(self) -> list[int]:
        return [0] * (len(self.bounds) + 1)

    @classmethod
    def of_seconds(cls, counts: Sequence[int] = (), total: float = 0.0) -> Histogram:
        """Return a histogram of times, s."""
        return cls(SECONDS, _filled(counts, len(SECONDS) + 1), total)

    @classmethod
    def of_siblings(cls, counts: Sequence[int] = (), total: float = 0.0) -> Histogram:
        """Return a histogram of how many siblings were found."""
        return cls(SIBLINGS, _filled(counts, len(SIBLINGS) + 1), total)

    @property
    def count(self) -> int:
        """Return how many values there are."""
        return sum(self.counts)

    def note(self, value: float, times: int = 1) -> None:
        """Count *value*, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add(self, other: Histogram) -> None:
        """Count all that *other*, with the same buckets, has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def quantile(self, p: float) -> float | None:
        """Return a value that about the share *p* of all values do not exceed; None where there are no values.

        Interpolated within its bucket; what is beyond the last bound counts as that bound.

        Args:
            p: from 0 to 1; 0.5 asks for the median.
        """
        counts = list(self.counts)
        rank, below = p * sum(counts), 0
        if not any(counts):
            return None
        for nth, count in enumerate(counts):
            if count and below + count >= rank:
                low = self.bounds[nth - 1] if nth else 0.0
                high = self.bounds[min(nth, len(self.bounds) - 1)]
                return low + (high - low) * max(rank - below, 0.0) / count
            below += count
        return self.bounds[-1]


def _filled(counts: Sequence[int], length: int) -> list[int]:
    return [*counts, *[0] * (length - len(counts))][:length]
