"""docs/sagas/itinerary.md keeps its word: its program runs, and what it prints stands below it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Final

import pytest
from attrs import fields_dict

from sagas import Itinerary, Step
from tests.documents import ROOT, Execution, masked

PATH: Final = ROOT / "docs" / "sagas" / "itinerary.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


def test_page_prints_what_its_program_really_prints(tmp_path: Path) -> None:
    """Whoever copies it sees the same outcomes."""
    found = Execution(tmp_path).rewritten(TEXT)
    assert found == TEXT, "`python -m tests.documents docs/sagas/itinerary.md` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(TEXT).splitlines(), masked(found).splitlines(), "docs/sagas/itinerary.md", "really")
    )


def test_page_names_every_option_of_a_step_with_its_default() -> None:
    """The table of options is whole, and its defaults are those of the code."""
    table = TEXT.partition("## What a step says")[2].partition("\n\n**")[0]
    options = fields_dict(Step)
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))) == set(options) - {
        "name"
    }
    for name in ("within", "undo_within"):
        assert f"| `{name}` | 1 minute |" in table
        assert options[name].default.total_seconds() == 60
    for name in ("attempts", "undo_attempts"):
        assert f"| `{name}` | {options[name].default} |" in table


def test_page_shows_hooks_that_exist() -> None:
    """What it says to call or to override is there."""
    for name in ("turn_back", "ended", "on_late"):
        assert f"{name}" in TEXT
        assert callable(getattr(Itinerary, name))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_page_links_to_files_that_exist(link: str) -> None:
    """No link leads nowhere."""
    assert (PATH.parent / link).exists()
