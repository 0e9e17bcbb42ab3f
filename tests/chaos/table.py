"""The table that readers see, docs/reliability.md, and the file of results beside it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sagabus.store.server_binary import find_server_binary
from tests.chaos.row import Row
from tests.chaos.verdict import Run

_HEAD: Final = """# Reliability

Every fault below was made on real servers, while sagas were under way on worker processes that a driver kept sending
to. The judge is outside: consumers and the driver write what they did to a file, and once the queues had drained every
clause of the baseline was checked against it and against the store.

The baseline: every message that was accepted had its effect; no effect happened twice; every saga completed once, with
an allowed outcome; no siblings, waiting or unacked messages, undispatched effects or dead letters were left; and the
ids that the sagas consumed are those of the effects. A second copy of one message, with the same id, is
delivery "at least once" at work: it is counted under *repeats* and is no second effect.

"""
_COLUMNS: Final = (
    "| row | fault | must hold | messages | faults | lost | twice | repeats | seconds | seeds | result |\n"
    "| --: | --- | --- | --: | --: | --: | --: | --: | --: | --- | --- |\n"
)
_FOOT: Final = """
*messages* are those that had to have an effect, *faults* how often the fault was seen to happen; both, like the other
counts, are sums over the seeds. A run in which the fault did not happen fails. `make chaos ROW=4` runs one row again.
"""


def results_file(page: Path) -> Path:
    """Return the file of results beside *page*."""
    return page.with_suffix(".json")


def write(page: Path, rows: Mapping[int, Row], runs: Iterable[Run], command: str, date: str) -> None:
    """Write *page* and its results; rows that were not run now keep the results that they have.

    Args:
        command: how the runs were started.
        date: of the runs.
    """
    file = results_file(page)
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    fresh: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        fresh.setdefault(str(run.row), []).append(run.as_json())
    machine = {"cores": os.cpu_count(), "versions": versions()}
    for row, results in fresh.items():
        known[row] = {"date": date, "command": command, **machine, "runs": results}
    known = {row: known[row] for row in sorted(known, key=int)}
    file.write_text(json.dumps(known, indent=1) + "\n")
    page.write_text(_HEAD + _provenance(known) + _COLUMNS + "".join(_lines(rows, known)) + _FOOT + _notes(known))


def versions() -> str:
    """Return which servers and which Python were used."""
    binary = find_server_binary()
    parts = [f"{binary.flavour.capitalize()} {'.'.join(map(str, binary.version))}"]
    for name, command in (("Redis", ["redis-server", "--version"]), ("RabbitMQ", ["rabbitmqctl", "version"])):
        if shutil.which(command[0]) is None:
            continue
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
        if found := re.search(r"\d+\.\d+\.\d+", said):
            parts.append(f"{name} {found[0]}")
    return ", ".join([*parts, f"Python {platform.python_version()}", f"{platform.system()} {platform.machine()}"])


def _provenance(known: Mapping[str, Any]) -> str:
    """Return where, when and how the rows were run; those run alike in one line."""
    groups: dict[str, list[str]] = {}
    for row, results in known.items():
        text = f"{results['date']}, {results['cores']} cores, `{results['command']}`, {results['versions']}"
        groups.setdefault(text, []).append(row)
    if len(groups) == 1:
        return f"Run on {next(iter(groups))}.\n\n"
    return "".join(f"- Rows {', '.join(numbers)}: run on {text}.\n" for text, numbers in groups.items()) + "\n"


def _lines(rows: Mapping[int, Row], known: Mapping[str, Any]) -> Iterable[str]:
    for number, results in known.items():
        row = rows.get(int(number))
        if row is None:
            continue
        runs = [run for run in results["runs"] if not run["excused"]]
        excuses = sorted({run["excused"] for run in results["runs"] if run["excused"]})
        if any(run["complaint"] for run in runs):
            result = "**fails**"
        else:
            result = " ".join((["holds"] if runs else []) + [f"not permitted here: {text}" for text in excuses])
        sums = [sum(run[name] for run in runs) for name in ("messages", "faults", "lost", "twice", "repeats")]
        seconds = sum(run["seconds"] for run in runs)
        cells = [number, row.fault, row.holds, *(f"{count:,}" for count in sums), f"{seconds:.0f}"]
        seeds = ", ".join(str(run["seed"]) for run in results["runs"])
        yield f"| {' | '.join([*cells, seeds, result])} |\n"


def _notes(known: Mapping[str, Any]) -> str:
    """Return what runs noted beyond their counts."""
    lines = []
    stale = sum(run["stale_timers"] for results in known.values() for run in results["runs"])
    if stale:
        lines.append(
            f"- In all runs, {stale} timers of sagas that had completed stayed in the store until they were due:\n"
            "  the fault came between the commit and the withdrawal of its timers. Nobody hears such a timer.\n"
        )
    for number, results in known.items():
        for run in results["runs"]:
            texts = [*run["notes"], *([f"failed: {run['complaint']}"] if run["complaint"] else [])]
            lines += [f"- Row {number}, seed {run['seed']}: {text}".replace("\n", " ") + "\n" for text in texts]
    return "\n## Notes\n\n" + "".join(lines) if lines else ""
