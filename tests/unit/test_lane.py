"""A lane's sense of time. What it does with messages is in the integration tests."""

from __future__ import annotations

import types

import pytest
from attrs import define

from sagabus import Bus, Context, Saga, message, starts
from sagabus.runtime import store_clock


@message("lane.begin")
class Begin:
    key: str


@message("lane.ping")
class Ping: ...


@define
class State:
    n: int = 0


class Asking(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None:
        self.send(Ping(), to="elsewhere")


def test_clock_of_a_lane_is_not_set_back_by_marks_without_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noting what was dispatched tells no time: the time of the last load is over by then."""
    passed_s = [1000.0]
    monkeypatch.setattr(store_clock, "time", types.SimpleNamespace(monotonic=lambda: passed_s[0]))
    bus = Bus(store="memory:", transport="memory:")
    endpoint = bus.endpoint("e", Asking)
    bus.endpoint("elsewhere")
    seen: list[float] = []

    @endpoint.consumer
    def pinged(m: Ping, context: Context) -> None:
        seen.append(context.now.timestamp())

    worker = bus.worker(["e"])
    bus.send(Begin("1"), to="e")
    worker.run_until_idle()
    (lane,) = worker.lanes
    bus.send(Begin("2"), to="e")
    first = lane.turn([], 0.0)
    bus.send(Ping(), to="e")
    second = lane.turn(first, 0.0)
    before = lane.now_ms()
    passed_s[0] += 30.0
    lane.turn(second, 0.0)
    assert seen[0] * 1000 >= before + 30_000
    assert lane.now_ms() >= before + 30_000
