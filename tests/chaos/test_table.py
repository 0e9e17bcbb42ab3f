"""The page of results: one row can be run again without touching the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos import table
from tests.chaos.row import Row
from tests.chaos.verdict import Run, Verdict

ROWS = {n: Row(n, f"fault {n}", "baseline", lambda arena: Verdict(), errands=1, faults=1) for n in (1, 2)}
FINE = Verdict(messages=10, faults=2, seconds=1.0)


@pytest.fixture(autouse=True)
def _no_servers_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "versions", lambda: "Valkey 9")


def test_table_of_one_row_keeps_the_results_of_the_others(tmp_path: Path) -> None:
    """What is not run now stays as it was, with its date and its command."""
    page = tmp_path / "page.md"
    table.write(page, ROWS, [Run(1, 1, FINE), Run(1, 2, FINE), Run(2, 1, FINE)], "all", "2026-01-01")
    table.write(page, ROWS, [Run(2, 7, FINE)], "one", "2026-01-02")
    text = page.read_text()
    assert "| 1 | fault 1 | baseline | 20 | 4 | 0 | 0 | 0 | 2 | 1, 2 | holds |" in text
    assert "| 2 | fault 2 | baseline | 10 | 2 | 0 | 0 | 0 | 1 | 7 | holds |" in text
    assert "- Rows 1: run on 2026-01-01" in text
    assert "- Rows 2: run on 2026-01-02" in text
    assert list(json.loads(table.results_file(page).read_text())) == ["1", "2"]


def test_table_of_a_failure_and_of_an_excuse_shows_both(tmp_path: Path) -> None:
    """What failed is said to have failed, and what the machine did not permit is not said to hold."""
    page = tmp_path / "page.md"
    lost = Verdict(messages=10, faults=1, lost=1, texts=("lost: something",))
    table.write(page, ROWS, [Run(1, 1, FINE), Run(1, 2, lost), Run(2, 1, excused="no mount")], "all", "2026-01-01")
    text = page.read_text()
    assert "| **fails** |" in text
    assert "lost: something" in text
    assert "| not permitted here: no mount |" in text
    assert "holds" not in text
