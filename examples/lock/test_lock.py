"""What the lock promises, with real processes on a store of their own, one of them stopped in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.lock.ledger import Audit, Entry, Ledger, audit

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *options: str) -> tuple[int, list[str], dict[str, int]]:
    """Run the example in *folder*; return its exit code, what it told, and the counts of its last line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAGABUS_")}
    command = [sys.executable, "-m", "examples.lock", "--ttl", "0.3", "--entries", "2", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    *told, last = done.stdout.splitlines() or [""]
    assert "=" in last, done.stderr
    return done.returncode, told, {name: int(count) for name, count in (word.split("=") for word in last.split())}


def test_write_of_a_holder_who_was_stopped_beyond_its_lease_is_refused(tmp_path: Path) -> None:
    """It still believes in its lease; the store does not, and no entry is stale, missing or there twice."""
    status, told, counts = run(tmp_path)
    assert counts == {"entries": 8, "writers": 4, "refused": 1, "stale": 0, "missing": 0, "twice": 0}
    assert status == 0
    (token,) = (line.split()[6].rstrip(",") for line in told if "is stopped" in line)
    assert f"writer-1 was refused: token {token} is expired" in told


def test_without_the_fence_the_same_write_destroys_what_others_wrote(tmp_path: Path) -> None:
    """A lease alone does not protect: who was asleep writes over entries that it has never seen."""
    status, _, counts = run(tmp_path, "--no-fence", "--writers", "2")
    assert (status, counts["refused"]) == (1, 0)
    assert counts["missing"] > 0


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([("a", 1, 5), ("b", 1, 6)], Audit(0, 0, 0)),
        ([("a", 1, 5), ("b", 1, 5)], Audit(0, 0, 0)),
        ([("a", 1, 6), ("b", 1, 5)], Audit(1, 0, 0)),
        ([("a", 1, 5)], Audit(0, 1, 0)),
        ([("a", 1, 5), ("b", 1, 6), ("a", 1, 7)], Audit(0, 0, 1)),
    ],
)
def test_audit_finds_what_is_stale_missing_or_twice(entries: list[tuple[str, int, int]], found: Audit) -> None:
    """The judge is judged."""
    ledger = Ledger(tuple(Entry(*entry) for entry in entries))
    assert audit(ledger, ["a", "b"], 1) == found
    assert found.clean == (found == Audit(0, 0, 0))
