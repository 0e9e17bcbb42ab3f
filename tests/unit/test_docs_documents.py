"""docs/documents.md and docs/leases.md keep their word: their files are run, and print what stands there."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from tests.documents import ROOT, Execution, masked

PAGES = ("documents.md", "leases.md")
TEXTS = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in PAGES}
LINKS = [(name, link) for name in PAGES for link in sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXTS[name])))]


@pytest.mark.parametrize("name", PAGES)
def test_page_prints_what_its_programs_really_print(name: str, tmp_path: Path) -> None:
    """Every program of the page, run in a folder of its own."""
    text = TEXTS[name]
    found = Execution(tmp_path).rewritten(text)
    assert len(list(tmp_path.glob("*.py"))) == text.count("```console")
    assert found == text, f"`python -m tests.documents docs/{name}` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(text).splitlines(), masked(found).splitlines(), f"docs/{name}", "really")
    )


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_page_links_to_files_that_exist(name: str, link: str) -> None:
    """No link leads nowhere."""
    assert (ROOT / "docs" / link).exists()
