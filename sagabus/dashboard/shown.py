"""How values look on a page: times, ages, numbers, JSON; nothing of what is shown can act."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sagabus.observe.changes import word
from sagabus.printable import pictured, shortened
from sagabus.saga import utc

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
_LONGEST: Final = 200_000
"""So many characters of one value are shown at most, and so many of a traceback."""
_AROUND: Final = 2
_DAY_MS: Final = 86_400_000
_IN_A_CELL: Final = 1_000


def environment() -> Environment:
    """Return what renders the templates; all that they are given is escaped, and what cannot be shown is pictured."""
    env = Environment(
        loader=PackageLoader("sagabus.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    env.filters |= {
        "age": age,
        "when": when,
        "day": day,
        "moment": moment,
        "number": number,
        "json": json_text,
        "rate": rate,
        "ms": ms,
        "value": cell,
        "brief": brief,
        "ends": ends,
    }
    return env


def _finalize(value: Any) -> Any:
    return pictured(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def age(span_ms: float | None) -> str:
    """Return a span as people say it: `850 ms`, `12 s`, `3 min`, `2 d`; a dash for None."""
    if span_ms is None:
        return "–"  # noqa: RUF001
    sign, span_ms = ("-" if span_ms < 0 else ""), abs(span_ms)
    for size, unit in _UNITS:
        if span_ms >= size:
            value = span_ms / size
            return f"{sign}{value:.1f} {unit}" if value < 10 else f"{sign}{value:.0f} {unit}"
    return f"{sign}{span_ms:.0f} ms"


def clock(at_ms: int) -> str:
    """Return a time as `12:00:00.123`, UTC."""
    return utc(at_ms).strftime("%H:%M:%S.") + f"{at_ms % 1000:03d}"


def when(at_ms: int, now_ms: int) -> str:
    """Return a time of today as `12:00:00.123`, of other days as `2026-11-23 12:00:00`; UTC."""
    return clock(at_ms) if at_ms // _DAY_MS == now_ms // _DAY_MS else day(at_ms)


def day(at_ms: int) -> str:
    """Return a time as `2026-11-23 12:00:00`, UTC; what is none as the number that it is."""
    try:
        return utc(at_ms).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def moment(at_ms: int) -> str:
    """Return a time as `2026-11-23 12:00:00.123`, UTC."""
    return f"{day(at_ms)}.{at_ms % 1000:03d}"


def number(value: float) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,.0f}".replace(",", "\u202f")


def rate(value: float | None) -> str:
    """Return a rate, with a decimal where it is small; a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001
    return number(value) if value >= 10 or value == 0 else f"{value:.1f}"


def ms(value: float | None) -> str:
    """Return seconds as people say them, from milliseconds on; a dash for None."""
    if value is None or value >= 1:
        return age(None if value is None else value * 1000)
    return f"{rate(value * 1000)} ms"


def cell(value: Any) -> str:
    """Return plain data as JSON in a line, as much of it as a table holds."""
    return shortened(word(value), _IN_A_CELL)


def brief(text: str) -> str:
    """Return as much of the first line of *text* as a table holds."""
    return shortened(text.partition("\n")[0], _IN_A_CELL // 2)


def ends(text: str) -> str:
    """Return *text*; where it is too long its beginning and its end, where tracebacks say what happened."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n… ({number(len(text) - 2 * half)} characters left out)\n{text[-half:]}"


def json_text(value: Any, marked: Collection[str] = (), most: int = _LONGEST) -> Markup:
    """Return plain data as indented JSON; members whose path is in *marked*, as `scores.equifax`, stand out.

    Args:
        most: about so many characters at most. What is longer is shown around its marks, and then to where it fits.
    """
    lines: list[_Line] = []
    try:
        _lines(value, "", "", "", frozenset(marked), lines)
    except RecursionError:
        return Markup("(too deep to be shown)")
    if sum(len(text) for text, _ in lines) > most:
        lines = _fitted(_folded(lines), most)
    return Markup("\n").join(_line(text, mark) for text, mark in lines)


_Line = tuple[str, bool]
"""A line, and whether it stands out."""


def _lines(value: Any, lead: str, tail: str, path: str, marked: frozenset[str], out: list[_Line]) -> None:
    indent = " " * (len(lead) - len(lead.lstrip(" ")))
    if isinstance(value, dict) and value:
        out.append((lead + "{", path in marked))
        last = len(value) - 1
        for index, (name, inner) in enumerate(value.items()):
            below = f"{path}.{name}" if path else str(name)
            head = f"{indent}  {_one(str(name))}: "
            _lines(inner, head, "," if index < last else "", below, marked, out)
        out.append((f"{indent}}}{tail}", path in marked))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        out.append((lead + "[", path in marked))
        for index, inner in enumerate(value):
            _lines(inner, f"{indent}  ", "," if index < len(value) - 1 else "", f"{path}[{index}]", marked, out)
        out.append((f"{indent}]{tail}", path in marked))
    else:
        out.append((f"{lead}{_one(value)}{tail}", path in marked))


def _folded(lines: Sequence[_Line]) -> list[_Line]:
    """Return *lines* without those that are far from any that stands out; all of them where none does."""
    near = {at + by for at, (_, mark) in enumerate(lines) if mark for by in range(-_AROUND, _AROUND + 1)}
    if not near:
        return list(lines)
    found: list[_Line] = []
    skipped = 0
    for at, line in enumerate(lines):
        if at in near or at in (0, len(lines) - 1):
            if skipped:
                found.append((f"… {number(skipped)} lines that do not differ", False))
                skipped = 0
            found.append(line)
        else:
            skipped += 1
    return found


def _fitted(lines: Sequence[_Line], most: int) -> list[_Line]:
    """Return as many of *lines* as *most* characters have room for, and what was left out."""
    found: list[_Line] = []
    for at, (text, mark) in enumerate(lines):
        if len(text) > most:
            left = len(lines) - at - 1
            found.append((f"{text[:most]} … ({number(len(text) - most)} characters, {number(left)} lines more)", mark))
            break
        found.append((text, mark))
        most -= len(text)
    return found


def _line(text: str, marked: bool) -> Markup:
    shown = escape(pictured(text))
    return Markup('<mark class="differs">{}</mark>').format(shown) if marked else Markup(shown)


def _one(value: Any) -> str:
    return msgspec.json.encode(value).decode()
