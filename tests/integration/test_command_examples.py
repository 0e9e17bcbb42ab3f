"""docs/cli.md shows what commands print with `--json`: every command, and every field."""

from __future__ import annotations

import json
import re

import pytest

from tests.command_examples import APP, PAGE, Example, examples, shape
from tests.documents import blocks
from tests.unit.test_named import every_command, options_of

NOT_LINES = {("docs", "asyncapi")}
"""What prints one document of a standard's own."""


@pytest.fixture(scope="module")
def printed(valkey_url: str) -> list[Example]:
    """Return what each command prints now."""
    return list(examples(valkey_url))


def test_command_prints_the_fields_that_the_page_shows(printed: list[Example]) -> None:
    """A field that is new, gone or of another kind is told; `python -m tests.command_examples` writes the page anew."""
    text = PAGE.read_text(encoding="utf-8").partition("## JSON")[2].partition("## Every command")[0]
    shown = [json.loads(block) for block in blocks(text, "json")]
    now = [found for example in printed for found in example.objects]
    assert [shape(each) for each in shown] == [shape(each) for each in now]


def test_every_command_with_json_has_an_example(printed: list[Example]) -> None:
    """Whoever parses it can read on the page what comes."""
    with_json = {path for path, command in every_command().items() if "--json" in options_of(command)}
    typed = {example.command for example in printed}
    without = {path for path in with_json - NOT_LINES if not any(each[: len(path)] == path for each in typed)}
    assert without == set()
    headings = re.findall(r"^### `sagabus ([^`]+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) == len(printed)
    assert all(APP not in heading for heading in headings)
