"""Idempotency keys of many messages at once."""

from __future__ import annotations

import pytest
from attrs import define

from sagabus import Bus, Saga, message, starts
from sagabus.commit import Want
from sagabus.definition import definition_of
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError


@message("bus-ids.go")
class Go:
    key: str


@define
class State:
    count: int = 0


class Counting(Saga[State], key="key"):
    @starts
    def go(self, m: Go) -> None:
        self.state.count += 1


@pytest.fixture
def bus() -> Bus:
    """Return a bus in memory with one saga on it."""
    bus = Bus("memory:", "memory:")
    bus.endpoint("e", Counting)
    return bus


def test_send_many_with_ids_may_be_made_again(bus: Bus) -> None:
    """Whoever does not know what became of a send sends all of it again: each id counts once."""
    for _ in range(2):
        assert bus.send_many([Go("1"), Go("1"), Go("2")], to="e", ids=["a", "b", "c"]) == ["a", "b", "c"]
        bus.worker().run_until_idle()
    snapshots = bus.store.load([Want(SagaKey("Counting", key)) for key in "12"])
    counts = [definition_of(Counting).codec.decode(snapshot.versions[0].state).count for snapshot in snapshots]
    assert counts == [2, 1]


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "b", "c"]])
def test_send_many_with_another_number_of_ids_sends_nothing(bus: Bus, ids: list[str]) -> None:
    """An id too few or too many would go to the wrong message."""
    with pytest.raises(ConfigurationError, match="2 messages and"):
        bus.send_many([Go("1"), Go("2")], to="e", ids=ids)
    assert [queue.depth for queue in bus.transport.queues()] == [0]
