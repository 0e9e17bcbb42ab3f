"""docs/sagas/quorum.md and approval.md keep their word: their programs run, and what they print stands below them."""

from __future__ import annotations

import difflib
import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest

from sagabus import Saga
from sagas import Approval, Level, Quorum
from tests.documents import ROOT, Execution, masked

FOLDER: Final = ROOT / "docs" / "sagas"
PAGES: Final = ("quorum.md", "approval.md")


def text_of(page: str) -> str:
    """Return what a page says."""
    return (FOLDER / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_page_prints_what_its_programs_really_print(page: str, tmp_path: Path) -> None:
    """Whoever copies them sees the same, and the tests pass."""
    text = text_of(page)
    found = Execution(tmp_path).rewritten(text)
    assert found == text, f"`python -m tests.documents docs/sagas/{page}` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(text).splitlines(), masked(found).splitlines(), f"docs/sagas/{page}", "really")
    )


def first_column(text: str, heading: str) -> set[str]:
    """Return the names before any bracket in the first column of the table that begins with *heading*."""
    table = text.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return set(re.findall(r"`(\w+)", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))


@pytest.mark.parametrize(("page", "saga"), [("quorum.md", Quorum), ("approval.md", Approval)])
def test_page_names_every_option_and_every_hook(page: str, saga: type[Saga[Any]]) -> None:
    """The tables are whole, and name nothing that is not there."""
    text = text_of(page)
    options = inspect.signature(saga.__init_subclass__).parameters
    assert first_column(text, "argument") == set(options) - {"options"}
    hooks = {name for name in vars(saga) if not name.startswith("_") and inspect.isfunction(getattr(saga, name))}
    assert first_column(text, "method") == hooks - {"decide", "on_late"}


def test_page_names_every_option_of_a_level() -> None:
    """With its default."""
    parameters = inspect.signature(Level).parameters
    named = first_column(text_of("approval.md"), "`Level(*approvers)`")
    assert named == set(parameters) - {"approvers"}
    for name in named:
        assert f"| `{name}` | `{parameters[name].default}` |" in text_of("approval.md")


@pytest.mark.parametrize(
    ("page", "link"),
    [(page, link) for page in PAGES for link in sorted(set(re.findall(r"\]\(([^)#]+)\)", text_of(page))))],
)
def test_page_links_to_files_that_exist(page: str, link: str) -> None:
    """No link leads nowhere."""
    assert (FOLDER / link).exists()
