"""What was measured, as a picture. Needs matplotlib, which is in the extra `bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.concurrency.cells import Cell

_PANELS: Final[tuple[tuple[str, Callable[[Cell], float]], ...]] = (
    ("handler runs", lambda cell: cell.handler_runs),
    ("store round trips", lambda cell: cell.round_trips),
    ("seconds", lambda cell: cell.seconds),
)
# Told apart by marker and dash too, for those who do not see colours, and for paper.
_STYLES: Final = {
    "merge": {"color": "#0072b2", "marker": "o", "linestyle": "-"},
    "serial": {"color": "#d55e00", "marker": "s", "linestyle": "--"},
    "exclusive": {"color": "#009e73", "marker": "^", "linestyle": "-."},
}


class NoPlotterError(Exception):
    """matplotlib is not installed."""


def require() -> None:
    """Make sure that there is something to draw with.

    Raises:
        NoPlotterError: there is not; the text has the mend.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NoPlotterError(
            f"the picture needs matplotlib ({error}): run `make compare-concurrency`, or pip install -e '.[bench]'"
        ) from error


def draw(medians: Sequence[Cell], rounds: Sequence[Cell], path: Path) -> None:
    """Draw the *medians*, and as thin bars from where to where *rounds* went, into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")  # draws without a screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(_PANELS), figsize=(12, 4), layout="constrained")
    for axis, (name, figure_of) in zip(axes, _PANELS, strict=True):
        _panel(axis, name, figure_of, medians, rounds)
    figure.suptitle("so many replies to one saga at once")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def _panel(
    axis: Any, name: str, figure_of: Callable[[Cell], float], medians: Sequence[Cell], rounds: Sequence[Cell]
) -> None:
    counts = sorted({cell.replies for cell in medians})
    for way in dict.fromkeys(cell.way for cell in medians):
        own = sorted((cell for cell in medians if cell.way == way), key=lambda cell: cell.replies)
        heights = [figure_of(cell) for cell in own]
        spread = [[figure_of(cell) for cell in rounds if (cell.way, cell.replies) == (way, n)] for n in counts]
        below = [height - min(values) for height, values in zip(heights, spread, strict=True)]
        above = [max(values) - height for height, values in zip(heights, spread, strict=True)]
        axis.errorbar(counts, heights, yerr=[below, above], label=way, capsize=3, **_STYLES[way])
    if name == "handler runs":
        axis.plot(counts, counts, color="grey", linewidth=0.8, linestyle=":", label="one a reply")
    axis.set(xscale="log", yscale="log", xlabel="replies", title=name)
    axis.set_xticks(counts, [f"{n:,}" for n in counts])
    axis.minorticks_off()
    axis.grid(visible=True, linewidth=0.3)
    axis.legend()
