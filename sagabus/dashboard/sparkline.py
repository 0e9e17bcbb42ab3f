"""A line of values as shapes, without axes: whether something rises or falls. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

WIDTH: Final = 120
HEIGHT: Final = 32
_FEW: Final = 60


@frozen
class Sparkline:
    """Two paths on a plane of WIDTH by HEIGHT: the line, and what is below it; empty where there is nothing to draw."""

    line: str = ""
    area: str = ""


def sparkline(values: Sequence[float | None]) -> Sparkline:
    """Return the last minute of *values*, oldest first, from zero to their greatest; None counts as zero."""
    last = [value or 0.0 for value in values[-_FEW:]]
    if len(last) < 2:
        return Sparkline()
    top = max(*last, 1e-9)
    step = WIDTH / (_FEW - 1)
    start = WIDTH - step * (len(last) - 1)
    points = [f"{start + i * step:.1f} {HEIGHT - 1 - value / top * (HEIGHT - 3):.1f}" for i, value in enumerate(last)]
    line = "M" + "L".join(points)
    return Sparkline(line, f"{line}L{WIDTH} {HEIGHT}L{start:.1f} {HEIGHT}Z")
