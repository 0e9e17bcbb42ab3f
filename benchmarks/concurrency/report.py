"""What was measured, as text: a table, ratios, and a plot of bars. No dependencies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from benchmarks.concurrency.cells import Cell

_BAR: Final = 44
_COLUMNS: Final = (
    "way",
    "replies",
    "handler runs",
    "runs a reply",
    "store round trips",
    "seconds",
    "retries",
    "run again",
    "lease waits",
    "requeued",
    "siblings merged",
)
PLOTTED: Final[tuple[tuple[str, Callable[[Cell], float], str], ...]] = (
    ("handler runs a reply", lambda cell: cell.a_reply(cell.handler_runs), "{:.2f}"),
    ("store round trips a reply", lambda cell: cell.a_reply(cell.round_trips), "{:.2f}"),
    ("milliseconds a reply", lambda cell: cell.a_reply(cell.seconds * 1000), "{:.2f}"),
)
"""What is plotted: its name, how it is worked out, how it is written."""


def table(cells: Sequence[Cell]) -> str:
    """Return the figures of all cells as a Markdown table, those of one number of replies together."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |'}{' ---: |' * (len(_COLUMNS) - 1)}"]
    lines += [f"| {' | '.join(_row(cell))} |" for cell in sorted(cells, key=lambda cell: cell.replies)]
    return "\n".join(lines)


def _row(cell: Cell) -> Iterator[str]:
    yield cell.way
    yield f"{cell.replies:,}"
    yield f"{cell.handler_runs:,.0f}"
    yield f"{cell.a_reply(cell.handler_runs):.2f}"
    yield f"{cell.round_trips:,.0f}"
    yield f"{cell.seconds:.3f}" + (f" (capped, {cell.done:,.0f} replies done)" if cell.capped else "")
    yield f"{cell.retries:,.0f}"
    yield f"{cell.again:,.0f}"
    yield f"{cell.waited:,.0f}"
    yield f"{cell.parked:,.0f}"
    yield f"{cell.siblings:,.0f}"


def ratios(cells: Sequence[Cell]) -> str:
    """Return how the other ways compare to merging at the largest number of replies, as a Markdown table."""
    most = max(cell.replies for cell in cells)
    largest = {cell.way: cell for cell in cells if cell.replies == most}
    merge = largest.pop("merge")
    lines = [
        f"| at {most:,} replies, to merge | handler runs | store round trips | seconds |",
        "| --- | ---: | ---: | ---: |",
    ]
    for way, cell in largest.items():
        if cell.capped or merge.capped:
            lines.append(f"| {way} | not known: capped | not known: capped | not known: capped |")
        else:
            runs, trips = cell.handler_runs / merge.handler_runs, cell.round_trips / merge.round_trips
            lines.append(f"| {way} | {runs:.2f} | {trips:.2f} | {cell.seconds / merge.seconds:.2f} |")
    return "\n".join(lines)


def plot(cells: Sequence[Cell]) -> str:
    """Return bars of what a reply costs: of a way that grows linearly, all bars are of one length."""
    parts = []
    for name, figure, shape in PLOTTED:
        longest = max(figure(cell) for cell in cells) or 1.0
        lines = [name]
        for way in dict.fromkeys(cell.way for cell in cells):
            for cell in (cell for cell in cells if cell.way == way):
                bar = "█" * max(1, round(_BAR * figure(cell) / longest))
                lines.append(f"  {way:<9} {cell.replies:>6,} {bar} {shape.format(figure(cell))}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
