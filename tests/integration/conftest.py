"""A place that a test shares with the processes it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import Place
from tests.integration.starter import Starter


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """Yield what starts commands."""
    with Starter() as starter:
        yield starter


@pytest.fixture
def place(valkey_url: str, namespace: str, tmp_path: Path, starter: Starter) -> Iterator[Place]:
    """Yield a namespace and a folder of this test's own; held handlers go on when it ends."""
    place = Place(valkey_url, namespace, tmp_path, starter)
    yield place
    place.open_gate()
