"""Dead letters as lines of JSON: what is written comes back, whatever stands in it."""

from __future__ import annotations

import pytest

from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.lines import from_lines, to_line
from sagabus.errors import ConfigurationError
from sagabus.printable import printable_json

BODIES = {
    "text": b'{"a": 1}',
    "what Python takes for ends of lines": '{"a": "\u2028 \u2029 \x85 \x1c \x0b \r"}'.encode(),
    "bytes": b"\xff\x00{",
    "nothing": b"",
}


@pytest.mark.parametrize("shown", [False, True])
def test_letters_written_as_lines_come_back_as_they_were(shown: bool) -> None:
    """Also as a command shows them, with escapes for what a terminal would obey."""
    letters = [
        DeadLetter(
            f"id-{n}", "e", "failed", "Error: one\u2028two\x9b2J", "trace\x85", 3, 1, body, context=b'{"life":1}'
        )
        for n, body in enumerate(BODIES.values())
    ]
    lines = [to_line(letter).decode() for letter in letters]
    if shown:
        lines = [printable_json(line) for line in lines]
        assert all(len(line.splitlines()) == 1 for line in lines)
    assert list(from_lines("\n".join(lines) + "\n")) == letters


def test_line_that_holds_no_letter_is_told_by_its_number() -> None:
    """Empty lines count."""
    line = to_line(DeadLetter("id", "e", "failed", "", "", 3, 1, b"{}")).decode()
    with pytest.raises(ConfigurationError, match="line 3 "):
        list(from_lines(f"{line}\n\n{{}}\n"))
