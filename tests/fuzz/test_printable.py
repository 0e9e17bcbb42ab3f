"""Text from the wire on its way to people: terminals are told nothing, logs gain no lines."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sagabus.cli.output import console
from sagabus.errors import CodecError
from sagabus.observe.log import escape_event
from sagabus.printable import pictured, printable, printable_json, printable_lines, shortened
from sagabus.runtime.ticket import Trouble

EVIL = "a\x1b[2J\x1b]0;owned\x07\nlevel=error forged\r\u202eback\x9b31m"


def harmful(text: str, allowed: str = "") -> set[str]:
    """Return the characters of *text* that may do something else than be read."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    return {c for c in text if unicodedata.category(c) in kinds or c in "\u202a\u202b\u202c\u202d\u202e"} - set(allowed)


@given(text=st.text(st.characters()))
def test_text_that_is_shown_does_nothing_but_be_read(text: str) -> None:
    """Whatever comes in, no control character goes out; what is plain stays as it is, and JSON keeps its meaning."""
    assert not harmful(printable(text))
    assert not harmful(printable_lines(text), "\n\t")
    assert not harmful(pictured(text), "\n\t")
    assert len(pictured(text)) == len(text)
    shown = printable_json(json.dumps({"text": text}, ensure_ascii=False))
    assert not harmful(shown)
    assert json.loads(shown) == {"text": text}
    if not harmful(text) and text.isprintable():
        assert printable(text) == text


def test_console_shows_pictures_of_control_characters() -> None:
    """Tables, states and graphs cannot be made to clear a screen or set a title."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.file = io.StringIO()
    table = Table("head")
    table.add_row(Text(EVIL))
    out.print(table)
    out.print(Text(EVIL, "bold"), EVIL)
    assert not harmful(out.file.getvalue(), "\n")
    assert "owned" in out.file.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_log_line_stays_one_line_whatever_is_logged(as_json: bool) -> None:
    """An id or an error from the wire forges no second line."""
    out = io.StringIO()
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    log = structlog.wrap_logger(structlog.PrintLogger(out), processors=[escape_event, renderer])
    log.error("dead-lettered", error=EVIL, message_id=EVIL, types=[EVIL])
    assert out.getvalue().count("\n") == 1
    assert not harmful(out.getvalue(), "\n")


def test_error_and_traceback_of_a_letter_have_a_bound() -> None:
    """A message cannot have its body, or a megabyte of it, written to every log line."""
    trouble = Trouble.of(ValueError("x" * 10_000_000))
    assert len(trouble.text) < 5_000
    assert len(trouble.trace) < 50_000
    secret = Trouble.of(ValueError("word " * 1599 + "redis://user:hidden@host/" + "x" * 10_000))
    assert "hidden" not in secret.text + secret.trace
    assert Trouble.of(CodecError("short")).text == "CodecError: short"
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "abc... (shortened)"
