"""Every page keeps its word: its Python runs, its commands print what stands below them, its links lead somewhere."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.documents import ROOT, Execution, all_blocks, masked
from tests.pages import PAGES, prose, text_of

SHOWN: Final = frozenset(
    {"text", "diff", "json", "yaml", "toml", "ini", "sql", "lua", "promql", "{toctree}", "{eval-rst}"}
)
"""Languages of blocks that are only shown; `text` and `diff` stand with what is run."""


@pytest.mark.parametrize("page", PAGES)
def test_page_says_what_really_happens(page: str, tmp_path: Path) -> None:
    """Whoever copies its blocks, in order, into one folder sees the same; only times and names differ."""
    text = text_of(page)
    found = Execution(tmp_path, page).rewritten(text)
    assert found == text, f"`python -m tests.documents {page}` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(text).splitlines(), masked(found).splitlines(), page, "really", n=1)
    )


@pytest.mark.parametrize("page", PAGES)
def test_page_has_no_block_that_nobody_looks_at(page: str) -> None:
    """Each block says what it is, and each file that is written is used further down."""
    text = text_of(page)
    found = all_blocks(text)
    assert {block.language for block in found} <= SHOWN | {"python", "console"}
    for number, block in enumerate(found):
        if block.file and not block.reason:
            later = "".join(each.body for each in found[number + 1 :])
            shown = not block.file.startswith("test_") and any(
                each.language == "python" and not each.file for each in found[number + 1 :]
            )
            name = re.escape(block.file.removesuffix(".py"))
            assert shown or re.search(rf"\b{name}\b", later), f"{page}: nothing below runs {block.file}"


@pytest.mark.parametrize("page", PAGES)
def test_page_links_to_what_exists(page: str) -> None:
    """No link leads nowhere, and no link to a test names one that is not there."""
    folder = Path(page).parent
    for text, path in re.findall(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)\s#]+)(?:#[^)\s]*)?\)", prose(text_of(page))):
        target = ROOT / folder / path
        assert target.exists(), f"{page} links to {path}"
        for test in re.findall(r"\btest_\w+", text):
            if target.suffix == ".py" and test != target.stem:
                assert f"def {test}(" in target.read_text(encoding="utf-8"), f"{page}: {path} has no {test}"


def test_pages_are_all_there_are() -> None:
    """No Markdown page of the repository is forgotten here."""
    found = {
        os.path.relpath(path, ROOT)
        for folder in ("docs", "examples")
        for path in (ROOT / folder).rglob("*.md")
        if "_build" not in path.parts
    }
    assert found - set(PAGES) == {page for page in found if page.startswith("examples/")}


def test_architecture_names_every_folder_of_the_kernel() -> None:
    """A reader who opens `sagabus/` knows what each of them is for."""
    told = text_of("docs/architecture.md")
    folders = {path.parent.name for path in (ROOT / "sagabus").glob("*/__init__.py")}
    assert {name for name in folders if f"`sagabus/{name}/`" not in told} == set()
