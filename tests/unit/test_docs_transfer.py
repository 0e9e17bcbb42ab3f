"""docs/sagas/transfer.md keeps its word: its program runs, and what it prints stands below it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Final

import pytest

from sagas.transfer import Reason, Stage, leg_key
from sagas.transfer.bank import TRIES
from sagas.transfer.saga import Phase
from tests.documents import ROOT, Execution, masked

PATH: Final = ROOT / "docs" / "sagas" / "transfer.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


def test_page_prints_what_its_program_really_prints(tmp_path: Path) -> None:
    """Whoever copies it sees both ways, a refusal, and an audit."""
    found = Execution(tmp_path).rewritten(TEXT)
    assert found == TEXT, "`python -m tests.documents docs/sagas/transfer.md` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(TEXT).splitlines(), masked(found).splitlines(), "docs/sagas/transfer.md", "really")
    )
    assert "True True ()" in TEXT


def test_page_names_every_reason_and_every_step() -> None:
    """What a user may meet in an event, a leg or a saga is on the page, under its own name."""
    assert [reason for reason in Reason if f"`{reason}`" not in TEXT] == []
    assert [stage for stage in Stage if f"`{stage}`" not in TEXT and f"leg: {stage}" not in TEXT] == [Stage.MOVED]
    for phase in (Phase.RESERVING, Phase.DEPOSITING, Phase.CONFIRMING, Phase.RELEASING):
        assert f"\n    {phase.name} " in TEXT
    assert f"`{leg_key('ID', 'zurich').name}`" in TEXT
    assert TRIES == 8
    assert "up to eight times on the spot" in TEXT


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_page_links_to_files_that_exist(link: str) -> None:
    """No link leads nowhere."""
    assert (PATH.parent / link).exists()
