"""The comparison of merged, serial and exclusive sagas, with few replies: it runs, and counts rightly."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.integration.processes import ROOT


def test_comparison_of_ten_replies_counts_what_each_way_costs() -> None:
    """Every reply is handled in each way; a handler of an exclusive saga runs once, and none runs less often."""
    command = [
        "-m",
        "benchmarks.concurrency",
        "-n",
        "10",
        "--rounds",
        "1",
        "--processes",
        "2",
        "--batch",
        "2",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    cells = {cell["way"]: cell for cell in found["cells"]}
    assert list(cells) == ["merge", "serial", "exclusive"]
    assert (found["processes"], found["batch"], found["rounds"]) == (2, 2, 1)
    assert all((cell["replies"], cell["done"], cell["capped"]) == (10, 10, False) for cell in cells.values())
    assert all(cell["handler_runs"] >= 10 and cell["seconds"] > 0 for cell in cells.values())
    assert cells["exclusive"]["handler_runs"] == 10
    assert cells["exclusive"]["again"] == cells["merge"]["waited"] == cells["serial"]["waited"] == 0
    assert cells["serial"]["siblings"] == cells["exclusive"]["siblings"] == 0
