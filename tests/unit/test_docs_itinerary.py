"""docs/sagas/itinerary.md names what there is, with its defaults."""

from __future__ import annotations

import re
from typing import Final

from attrs import fields_dict

from sagas import Itinerary, Step
from tests.documents import ROOT

PATH: Final = ROOT / "docs" / "sagas" / "itinerary.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


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
