"""Text from anywhere, made safe to show: no escape sequence reaches a terminal, and no line is forged in a log."""

from __future__ import annotations

import re
from typing import Final

# Control characters, ends of lines for some, what turns the direction of text, half characters.
_DIRECTIONS: Final = "\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_A_LINE: Final = re.compile(f"[\x00-\x1f\x7f-\x9f{_DIRECTIONS}]")
_IN_LINES: Final = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_DIRECTIONS}]")


def printable(text: str) -> str:
    """Return *text* as one line that does nothing but be read: `\\n` and `\\x1b` in place of what they stand for."""
    return text if text.isprintable() else _IN_A_LINE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return *text* with its lines and tabs as they are, and everything else as `printable` has it."""
    return text if text.isprintable() else _IN_LINES.sub(_escape, text)


def printable_json(text: str) -> str:
    """Return JSON *text* that means the same and does nothing to a terminal."""
    return text if text.isprintable() else _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def pictured(text: str) -> str:
    """Return *text* with a picture in place of each such character, so that what is aligned stays so; lines stay."""
    return text if text.isprintable() else _IN_LINES.sub(_picture, text)


def shortened(text: str, most: int) -> str:
    """Return the first *most* characters of *text*, and a word that says so, where it has more."""
    return text if len(text) <= most else f"{text[:most]}... (shortened)"


def said(error: BaseException) -> str:
    """Return the type and the text of *error*, also where it cannot say its text."""
    try:
        text = str(error)
    except Exception as second:  # it is the user's code, and what went wrong first must not be lost over it
        text = f"(its text cannot be had: {type(second).__name__})"
    return f"{type(error).__name__}: {text}"


def encodable(text: str) -> str:
    """Return *text* as UTF-8 can hold it: half characters, which Python has for bytes in file names, as escapes."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
