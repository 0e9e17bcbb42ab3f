"""Timers end to end: pumps that race and pumps that die, on every transport."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, Saga, handles, message, starts
from sagabus.commit import Want
from sagabus.definition import definition_of
from sagabus.envelope import SagaKey
from sagabus.observe.log import get_logger
from sagabus.runtime.timers import TimerPump
from sagabus.store.protocol import Bookkeeping, Scheduled
from sagabus.worker import Worker
from tests.integration.apps import settle
from tests.servers import until
from transports.memory import MemoryTransport

Parts = Callable[[], dict[str, Any]]


@pytest.fixture(params=["memory", "one server", "rabbitmq"])
def make_parts(request: pytest.FixtureRequest, namespace: str) -> Parts:
    """Return what a bus of each kind is made of; every call gives new connections to the same queues and sagas."""
    url = request.getfixturevalue("valkey_url")
    transport: Any = url
    if request.param == "memory":
        transport = MemoryTransport()
    elif request.param == "rabbitmq":
        transport = request.getfixturevalue("rabbitmq_url")
    return lambda: {"store": url, "transport": transport, "namespace": namespace}


@message("timers.set")
class Set:
    key: str
    how: str


@message("timers.rang")
class Rang:
    what: str


@define
class Bells:
    steps: list[str] = field(factory=list)
    rung: list[str] = field(factory=list)


class Bell(Saga[Bells], key="key"):
    @starts
    def set(self, m: Set) -> None:
        self.state.steps.append(m.how)
        match m.how:
            case "at":
                self.defer(Rang("at"), at=self.now.astimezone(timezone(timedelta(hours=-9))))
            case "now":
                self.defer(Rang("now"), after=0.0, name="bell")
            case "far":
                self.defer(Rang("far"), after=3600.0, name="bell")
            case "cancel":
                self.cancel("bell")
            case _:
                self.complete()

    @handles
    def rang(self, m: Rang) -> None:
        self.state.rung.append(m.what)


def bells(parts: dict[str, Any]) -> Bus:
    bus = Bus(**parts)
    bus.endpoint("bells", Bell)
    return bus


def bell(bus: Bus) -> Bells:
    """Return what the saga knows, nothing where it has not begun."""
    (snapshot,) = bus.store.load([Want(SagaKey("Bell", "1"))])
    return definition_of(Bell).codec.decode(snapshot.versions[0].state) if snapshot.versions else Bells()


def work_until(worker: Worker, condition: Callable[[], bool], what: str) -> None:
    """Have *worker* work until *condition* holds; a broker hands out to the worker that asked first."""

    def met() -> bool:
        worker.run_until_idle()
        return condition()

    until(met, what)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["at"], ["at"]),
        (["now"], ["now"]),
        (["far", "now"], ["now"]),
        (["far", "cancel"], []),
        (["far", "complete"], []),
    ],
)
def test_timer_rings_as_it_was_last_set_on_every_transport(
    make_parts: Parts, steps: list[str], expected: list[str]
) -> None:
    """At the instant named, in whatever zone; not where it was replaced or cancelled, or its saga has ended."""
    with bells(make_parts()) as bus:
        worker = bus.worker()
        for number, step in enumerate(steps, 1):
            bus.send(Set("1", step), to="bells")
            work_until(worker, lambda number=number: len(bell(bus).steps) == number, step)  # type: ignore[misc]
        work_until(worker, lambda: bell(bus).rung == expected, "the timer")
        worker.run_until_idle()
        assert bell(bus).rung == expected
        assert (bus.store.scheduled(), bus.store.dead()) == ([], [])


def test_timer_sent_by_a_pump_that_died_before_it_forgot_it_rings_once(
    make_parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another pump sends it again when the lease has ended, under the same id: the saga takes it once."""
    monkeypatch.setattr("sagabus.runtime.timers._LONGEST_LEASE_S", 0.0)
    with bells(make_parts()) as bus:
        now_ms, _ = bus.store.next_due_ms()
        bus.send(Set("1", "far"), to="bells")
        worker = bus.worker()
        work_until(worker, lambda: bool(bus.store.scheduled()), "the start")
        (item,) = bus.store.scheduled()
        bus.store.note(Bookkeeping(scheduled=(Scheduled(item.id, item.endpoint, item.body, now_ms - 1),)))
        with monkeypatch.context() as patch:
            patch.setattr(bus.store, "note", _die)
            with pytest.raises(KeyboardInterrupt):
                TimerPump(bus, log=get_logger()).pump()
        work_until(worker, lambda: bell(bus).rung == ["far"] and not bus.store.scheduled(), "the timer")
        worker.run_until_idle()
        assert bell(bus).rung == ["far"]
        assert (bus.store.scheduled(), bus.store.dead()) == ([], [])


def _die(_bookkeeping: Bookkeeping) -> None:
    raise KeyboardInterrupt


def test_timer_that_two_pumps_see_is_sent_by_one(valkey_url: str, namespace: str) -> None:
    """A pump's lease keeps what it sends from the others, so that in quiet times nothing is sent twice."""
    parts = {"store": valkey_url, "transport": valkey_url, "namespace": namespace}
    got: Counter[str] = Counter()
    buses = [Bus(**parts) for _ in range(2)]
    for bus in buses:
        bus.endpoint("e").consumer(Rang)(lambda m, context: got.update([context.message_id]))
    body = _body(buses[0])
    now_ms, _ = buses[0].store.next_due_ms()
    items = [Scheduled(f"t{n}", "e", body.replace(b"template", b"t%d" % n), now_ms - 1000) for n in range(1200)]
    buses[0].store.note(Bookkeeping(scheduled=tuple(items)))
    together = threading.Barrier(2)

    def drain(bus: Bus) -> None:
        pump = TimerPump(bus, log=get_logger())
        together.wait()
        while pump.pump():
            pass

    threads = [threading.Thread(target=drain, args=(bus,)) for bus in buses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(buses[0])
    assert got == {item.id: 1 for item in items}
    for bus in buses:
        bus.close()


def _body(bus: Bus) -> bytes:
    bus.send(Rang("x"), to="e", id="template", after=3600.0)
    (item,) = bus.store.scheduled()
    bus.store.note(Bookkeeping(unscheduled=(item.id,)))
    return item.body
