"""How many messages a lane takes at once: more where they crowd at few sagas."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import define

from sagabus import Bus, Saga, message, starts
from transports.memory import MemoryTransport


@message("batches.begin")
class Begin:
    key: str
    padding: str = ""


@message("batches.aside")
class Aside:
    pass


@define
class State:
    number: int = 0


class Counting(Saga[State], key="key", merger=lambda siblings: siblings[0]):
    @starts
    def begun(self, m: Begin) -> None:
        self.state.number += 1


class OneByOne(Saga[State], key="key", exclusive=True):
    @starts
    def begun(self, m: Begin) -> None:
        self.state.number += 1


def taken(
    keys: Iterable[str],
    *,
    batch: int = 64,
    consumer: bool = False,
    saga: type[Saga[State]] = Counting,
    padding: int = 0,
    inline: bool = True,
) -> list[int]:
    """Have a worker handle a message to each of these sagas, and return how many it took at a time."""
    with Bus(store="memory:", transport="memory:") as bus:
        endpoint = bus.endpoint("sagas", saga, batch=batch)
        if consumer:
            endpoint.consumer(Aside)(lambda m: None)
        bus.send_many((Begin(key, " " * padding) for key in keys), to="sagas")
        worker = bus.worker()
        worker._open(inline=inline)
        (lane,) = worker.lanes
        sizes, deliveries = list[int](), lane.turn([], 0.0)
        while deliveries:
            sizes.append(len(deliveries))
            deliveries = lane.turn(deliveries, 0.0)
        return sizes


def test_messages_for_one_saga_are_taken_in_larger_batches() -> None:
    """Once the first batch has shown that they are."""
    assert taken(["hot"] * 400) == [64, 256, 80]


def test_messages_for_many_sagas_are_not() -> None:
    """Fifteen a saga are too few: sixteen are not, on average."""
    assert taken((str(number // 15) for number in range(240)), batch=60) == [60] * 4
    assert taken((str(number // 16) for number in range(240)), batch=64) == [64, 176]
    assert taken(["hot"] * 31 + ["cold"] + ["hot"] * 100, batch=32) == [32, 100]


def test_batches_are_small_again_when_the_crowd_is_gone() -> None:
    """What the last one was for is what counts."""
    assert taken(["hot"] * 64 + [str(number) for number in range(400)]) == [64, 256, 64, 64, 16]


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 300), (15, [15] * 20), (100, [100, 200]), (1000, [300])])
def test_smaller_batches_stay_what_they_are(batch: int, sizes: list[int]) -> None:
    """Too few messages at a time never crowd."""
    assert taken(["hot"] * 300, batch=batch) == sizes


def test_no_batch_is_more_than_one_commit_takes() -> None:
    """A thousand."""
    assert taken(["hot"] * 2500, batch=300) == [300, 1000, 1000, 200]


def test_batches_of_an_exclusive_saga_stay_what_they_are() -> None:
    """It handles one message a commit, and larger batches would only leave later."""
    assert taken(["hot"] * 200, saga=OneByOne) == [64, 64, 64, 8]


def test_batches_that_take_long_are_not_followed_by_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a saga asks for leaves with its batch; where all is one thread, as in tests, no clock is asked."""
    monkeypatch.setattr("sagabus.runtime.lane._QUICK_S", 0.0)
    assert taken(["hot"] * 200, inline=False) == [64, 64, 64, 8]
    assert taken(["hot"] * 200) == [64, 136]


def test_batches_of_large_messages_stay_what_they_are() -> None:
    """A worker has them all in memory, and one command takes them to the store."""
    assert taken(["hot"] * 200, padding=20_000) == [64, 64, 64, 8]


def test_endpoint_with_a_consumer_takes_no_more_than_that_has_places_for() -> None:
    """Twice as many as it handles at once, as long as nobody knows how long it takes."""
    assert max(taken(["hot"] * 300, consumer=True)) == 32


def test_broker_that_sends_before_it_is_asked_is_always_asked_for_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on sending the larger number when the crowd is gone."""
    monkeypatch.setattr(MemoryTransport, "bulk", False)
    assert taken(["hot"] * 200) == [64, 64, 64, 8]
