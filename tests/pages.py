"""The pages that people read, and what of them is prose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_FENCE: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def _found() -> list[str]:
    top = [path.name for path in ROOT.glob("*.md")]
    below = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    return sorted(top) + sorted(below)


PAGES: Final = _found()
"""README, CONTRIBUTING, CHANGELOG and all of docs/, from the root of the repository."""

EXAMPLES: Final = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.md"))
"""The pages of the examples, likewise."""


def text_of(page: str) -> str:
    """Return what a page says."""
    return (ROOT / page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return *text* without its blocks of code."""
    return _FENCE.sub("", text)
