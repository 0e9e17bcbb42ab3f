"""docs/dead-letters.md keeps its word: its programs run, and print what stands there."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from tests.documents import ROOT, Execution, masked

TEXT = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")


def test_page_prints_what_its_programs_really_print(tmp_path: Path) -> None:
    """Every program of the page, run in a folder of its own."""
    found = Execution(tmp_path).rewritten(TEXT)
    assert found == TEXT, "`python -m tests.documents docs/dead-letters.md` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(TEXT).splitlines(), masked(found).splitlines(), "docs", "really")
    )


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_page_links_to_files_that_exist(link: str) -> None:
    """No link leads nowhere."""
    assert (ROOT / "docs" / link).exists()
