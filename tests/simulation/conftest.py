"""What searches millions of worlds runs untraced: the other tests here pass through the same code, and measure it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_LONG = frozenset(
    {
        "test_approval",
        "test_commit_rules_model",
        "test_explorer",
        "test_itinerary",
        "test_once",
        "test_quorum",
        "test_transfer",
    }
)


@pytest.fixture(autouse=True)
def untraced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have nothing measure coverage while a long search runs; it would take several times as long."""
    tracer = sys.gettrace() if request.module.__name__.rpartition(".")[2] in _LONG else None
    if tracer is None:
        yield
        return
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
