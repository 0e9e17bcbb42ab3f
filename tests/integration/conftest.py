"""A place that a test shares with the processes it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import Place


@pytest.fixture
def place(valkey_url: str, namespace: str, tmp_path: Path) -> Iterator[Place]:
    """Yield a namespace and a folder of this test's own; held handlers go on when it ends."""
    place = Place(valkey_url, namespace, tmp_path)
    yield place
    place.open_gate()
