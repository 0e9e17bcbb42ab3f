"""docs/sagas/once.md keeps its word: its program runs, and what it prints stands below it."""

from __future__ import annotations

import difflib
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from attrs import fields

from sagas import Once, OnceRecord, OnceStatus
from sagas.once import TAKEOVER_AFTER
from tests.documents import ROOT, Execution, blocks, masked

PATH: Final = ROOT / "docs" / "sagas" / "once.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


def test_page_prints_what_its_program_really_prints(tmp_path: Path) -> None:
    """Whoever copies it sees one import of twenty notifications."""
    found = Execution(tmp_path).rewritten(TEXT)
    assert found == TEXT, "`python -m tests.documents docs/sagas/once.md` mends it:\n" + "\n".join(
        difflib.unified_diff(masked(TEXT).splitlines(), masked(found).splitlines(), "docs/sagas/once.md", "really")
    )
    (session,) = blocks(TEXT, "console")
    assert session.count("importing") == 1


def test_page_names_what_there_is() -> None:
    """Every status, what operators call, and the default of the time-out."""
    for status in OnceStatus:
        assert f"`{status}`" in TEXT
    for name in ("state", "forget"):
        assert f"import_file.{name}(bus.documents" in TEXT
        assert callable(getattr(Once, name))
    assert "(an hour by default)" in TEXT
    assert timedelta(hours=1) == TAKEOVER_AFTER
    assert {"status", "idempotency_key", "begun_at", "attempts"} <= {a.name for a in fields(OnceRecord)}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_page_links_to_files_that_exist(link: str) -> None:
    """No link leads nowhere."""
    assert (PATH.parent / link).exists()
