"""Moments and spans as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sagabus.cli.moments import before, span_of

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5d", timedelta(hours=36)),
        ("5200w", timedelta(weeks=5200)),
    ],
)
def test_span_is_as_long_as_it_says(text: str, span: timedelta) -> None:
    """However long it is, it can be counted back from now."""
    assert span_of(text) == span
    assert before(span, NOW_MS) == datetime.fromtimestamp(NOW_MS / 1000, UTC) - span


@pytest.mark.parametrize("text", ["", "h", "2", "2 h", "-2h", "2y", "99999999d", "99999999999w", "9" * 400 + "s"])
def test_span_that_is_none_or_beyond_all_measure_is_refused(text: str) -> None:
    """A mistake in an option is said as one, and is no traceback."""
    assert span_of(text) is None
