"""What was measured, into the documentation: the table, three pictures, and all figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.concurrency.figure import require as require

PAGE: Final = "performance.md"
_BEGINS, _ENDS = "<!-- what `make bench-peers` printed -->", "<!-- until here -->"


def write(folder: Path, text: str, whole: Mapping[str, Any]) -> None:
    """Put the table into the page, and everything else beside it."""
    (folder / "performance.json").write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    page = folder / PAGE
    before, _, rest = page.read_text("utf-8").partition(_BEGINS)
    _, _, after = rest.partition(_ENDS)
    page.write_text(f"{before}{_BEGINS}\n\n{text}\n{_ENDS}{after}", "utf-8")
    if whole["alone"] is not None:
        _draw(whole["alone"], folder / "performance.png")


def _draw(alone: Mapping[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")  # draws without a screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    rows = alone["by_processes"]
    axes[0].plot([row["processes"] for row in rows], [row["checks_per_s"] for row in rows], marker="o")
    axes[0].set(title="checks a second", xlabel="worker processes", ylim=(0, None), xticks=[1, 2, 4])
    rows = alone["by_width"]
    axes[1].plot([row["width"] for row in rows], [row["us_a_reply"] for row in rows], marker="o")
    axes[1].set(title="µs a reply", xlabel="replies to one saga at once", xscale="log", ylim=(0, None))
    rows = alone["by_stored"]
    axes[2].plot([row["stored"] for row in rows], [row["us_a_message"] for row in rows], marker="o")
    axes[2].set(title="CPU µs a message, workers and store", xlabel="live sagas stored", xscale="log", ylim=(0, None))
    for axis in axes:
        axis.grid(visible=True, linewidth=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
