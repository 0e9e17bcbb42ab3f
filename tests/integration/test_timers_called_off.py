"""Timers that are called off before they were ever scheduled leave nothing in the store."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define

from sagabus import Bus, Saga, handles, message, starts
from tests.integration.apps import Clock, Crash, Failpoints, memory_parts


@message("calledoff.begin")
class Begin:
    number: str


@message("calledoff.call-off")
class CallOff:
    number: str


@message("calledoff.end")
class End:
    number: str


@message("calledoff.put-off")
class PutOff:
    number: str


@message("calledoff.bell")
class Bell:
    """A timer of an hour."""


@define
class State:
    ended: bool = False


def either(siblings: Any) -> State:
    return State(any(sibling.ended for sibling in siblings))


class Alarm(Saga[State], key="number", merger=either):
    @starts
    def begun(self, m: Begin) -> None:
        self.defer(Bell(), after=3600, name="bell")

    @handles(key="number")
    def called_off(self, m: CallOff) -> None:
        self.cancel("bell")

    @handles(key="number")
    def put_off(self, m: PutOff) -> None:
        self.defer(Bell(), after=7200, name="bell")

    @handles(key="number")
    def over(self, m: End) -> None:
        self.state.ended = True

    @handles
    def rang(self, m: Bell) -> None: ...

    def decide(self) -> None:
        if self.state.ended:
            self.complete()


def alarm_bus(*parts: Any, **options: Any) -> Bus:
    bus = Bus(*parts, **options)
    bus.endpoint("alarms", Alarm)
    return bus


@pytest.mark.parametrize(
    ("second", "left_s"), [(None, [3600]), (CallOff("1"), []), (End("1"), []), (PutOff("1"), [7200])]
)
def test_timer_called_off_in_the_run_that_set_it_is_not_scheduled(second: Any, left_s: list[int]) -> None:
    """What one batch sets and cancels, replaces or ends never reaches the store's timers; what it keeps does."""
    clock = Clock()
    with alarm_bus(*memory_parts(clock)) as bus:
        bus.send(Begin("1"), to="alarms")
        if second is not None:
            bus.send(second, to="alarms")
        bus.worker().run_until_idle()
        assert [(item.due_ms - clock.ms()) / 1000 for item in bus.store.scheduled()] == left_s


@pytest.mark.parametrize(
    ("second", "left_s"), [(None, [3600]), (CallOff("1"), []), (End("1"), []), (PutOff("1"), [7200])]
)
def test_timer_called_off_while_its_setter_lay_dead_is_not_scheduled(second: Any, left_s: list[int]) -> None:
    """What a crash left undispatched is dispatched again, but for timers that somebody has called off meanwhile."""
    clock, points = Clock(), Failpoints()
    store, transport = memory_parts(clock)
    with alarm_bus(points.store(store), points.transport(transport), claim_s=2.0) as bus:
        bus.send(Begin("1"), to="alarms")
        points.arm("after-commit")
        with pytest.raises(Crash):
            bus.worker(name="first").run_until_idle()
        begun_ms = clock.ms()
        if second is not None:
            bus.send(second, to="alarms")
        other = bus.worker(name="second")
        other.run_until_idle()
        clock.advance(2.5)
        other.run_until_idle()
        assert not any(queue.depth for queue in bus.transport.queues())
        assert [(item.due_ms - begun_ms) / 1000 for item in bus.store.scheduled()] == left_s
