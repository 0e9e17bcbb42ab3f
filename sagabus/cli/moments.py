"""Moments as people type them: how long ago, as `2h`, or exactly, as RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import click

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_LONGEST: Final = timedelta(days=36_500)


def read_span(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Return how long *value* says: `90s`, `15m`, `2h`, `3d`, `1w`, or several of them in a row; for click.

    Raises:
        click.BadParameter: it says nothing of the kind.
    """
    span = None if value is None else span_of(value)
    if value is not None and span is None:
        raise click.BadParameter(f"{value!r} is no span of time; write it as 90s, 15m, 2h, 3d or 1h30m", ctx, param)
    return span


def read_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | datetime | None:
    """Return when *value* says: a span before now, or RFC 3339, without an offset in UTC; for click.

    Raises:
        click.BadParameter: it says nothing of the kind.
    """
    if value is None:
        return None
    span = span_of(value)
    if span is not None:
        return span
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no moment; write it as 2h, for two hours ago, or 2024-05-31T12:00", ctx, param
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def span_of(text: str) -> timedelta | None:
    """Return how long *text* says; None where it is no span, or one that no message has waited or will wait."""
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    try:
        span = sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        return None
    return span if span <= _LONGEST else None


def before(moment: timedelta | datetime | None, now_ms: int) -> datetime | None:
    """Return *moment*, where it is a span so long before *now_ms*, ms since 1970."""
    if isinstance(moment, timedelta):
        return datetime.fromtimestamp(now_ms / 1000, UTC) - moment
    return moment
