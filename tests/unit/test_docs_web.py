"""The page about the web shows parts of the examples, and shows them as they are."""

from __future__ import annotations

import re

from tests.documents import ROOT, all_blocks

_PART = re.compile(r"it is part of (examples/web/\w+\.py), which the tests run")


def test_parts_of_examples_on_the_page_are_in_the_examples() -> None:
    """Line for line, but for empty ones and indentation: what the page shows is what the tests of the examples run."""
    text = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")
    shown = [(found[1], block.body) for block in all_blocks(text) if (found := _PART.fullmatch(block.reason))]
    assert {name for name, _ in shown} == {"examples/web/fastapi_app.py", "examples/web/django_app.py"}
    for name, body in shown:
        there = _lines((ROOT / name).read_text(encoding="utf-8"))
        wanted = _lines(body)
        assert any(there[first : first + len(wanted)] == wanted for first in range(len(there))), (
            f"docs/web.md shows what is not in {name}:\n{body}"
        )


def _lines(code: str) -> list[str]:
    return [line.strip() for line in code.splitlines() if line.strip()]
