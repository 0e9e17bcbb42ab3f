"""docs/testing.md keeps its word: its files are written, its commands run, and what they print stands in it."""

from __future__ import annotations

import difflib
import re
import textwrap
from pathlib import Path
from typing import Final

import pytest

from tests.documents import ROOT, Execution, blocks, masked, run

PATH: Final = ROOT / "docs" / "testing.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


@pytest.mark.slow
def test_tutorial_prints_what_its_commands_really_print(tmp_path: Path) -> None:
    """Whoever follows it sees the same reports, counts and tokens; only times and the names of messages differ."""
    found = Execution(tmp_path).rewritten(TEXT)
    assert found == TEXT, "`python -m tests.documents docs/testing.md` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(TEXT).splitlines(), masked(found).splitlines(), "docs/testing.md", "really")
    )


def test_tutorial_reports_a_test_that_fails_until_the_mend(tmp_path: Path) -> None:
    """The test at the end of the report, pasted, is a counter-example before the mend and passes after it."""
    execution = Execution(tmp_path)
    before, mended, after = TEXT.partition(next(f"```diff\n{body}```" for body in blocks(TEXT, "diff")))
    saga = blocks(before, "python")[0]
    report = blocks(before, "text")[-1]
    execution.rewritten(f"```python\n{saga}```\n")
    (tmp_path / "test_pasted.py").write_text(textwrap.dedent(report.partition("as a test:\n")[2]), encoding="utf-8")
    assert after
    pasted = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pasted.py")
    assert "1 failed" in run(tmp_path, *pasted).stdout
    execution.rewritten(mended)
    assert "1 passed" in run(tmp_path, *pasted).stdout


def test_tutorial_forks_a_saga_in_ten_lines() -> None:
    """The whole file that forks a saga on purpose, imports included, has ten lines at most."""
    (race,) = (body for body in blocks(TEXT, "python") if body.startswith("# test_race.py\n"))
    assert ".together(" in race
    assert len(race.splitlines()) - 1 <= 10


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_tutorial_links_to_files_that_exist(link: str) -> None:
    """No link leads nowhere."""
    assert (PATH.parent / link).exists()
