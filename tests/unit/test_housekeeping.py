"""Housekeeping and the index of sagas: what has expired goes, a bounded part a turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sagabus import Bus
from sagabus.envelope import SagaKey
from sagabus.observe.log import get_logger
from sagabus.runtime import housekeeping
from sagabus.runtime.housekeeping import EVERY_S, Housekeeping
from sagabus.testing.index_contract import begun, ended


@pytest.fixture
def bus() -> Iterator[Bus]:
    """Yield a bus in memory."""
    with Bus("memory:", "memory:") as bus:
        yield bus


def test_tombstones_that_have_expired_leave_the_index_in_parts(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is more than one turn may remove, the next one comes at once."""
    monkeypatch.setattr(housekeeping, "_SAGAS", 2)
    keys = begun(bus.store, *"abcdef")
    ended(bus.store, *keys[:5], retention_s=0.0, dedupe_window_s=0.0)
    house = Housekeeping(bus, "me", log=get_logger())
    assert [house.step(0.0), house.step(0.0), house.step(0.0), house.step(0.0)] == [2, 2, 1, 0]
    assert bus.store.index.missing(keys) == keys[:5]
    ended(bus.store, keys[5], retention_s=0.0, dedupe_window_s=0.0)
    assert (house.step(EVERY_S - 1), house.step(EVERY_S)) == (0, 1)


def test_worker_keeps_house_on_a_store_without_an_index(bus: Bus) -> None:
    """One that somebody made for an older sagabus: its workers do all the rest."""
    del bus.store.index  # type: ignore[misc]
    assert Housekeeping(bus, "me", log=get_logger()).step(0.0) == 0
    assert bus.store.history(SagaKey("Order", "a")) == []
