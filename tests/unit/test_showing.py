"""What a worker shows of itself, and that a store which is down disturbs it in nothing."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import structlog

from sagabus import Bus, Context, message
from sagabus.errors import StoreUnavailableError
from sagabus.runtime.showing import Showing
from sagabus.store.memory import MemoryStore
from sagabus.telemetry.card import WorkerCard
from sagabus.worker import Worker
from transports.memory import MemoryTransport


@message("showing.job")
class Job:
    pass


class Shaky:
    """The presence of a store that is down when it is told to be."""

    def __init__(self, store: MemoryStore) -> None:
        self._real = store.presence
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise StoreUnavailableError("redis://nowhere", "down")
        return getattr(self._real, name)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.presence = Shaky(store)  # type: ignore[assignment]
    return store


@pytest.fixture
def bus(store: MemoryStore) -> Bus:
    bus = Bus(store=store, transport=MemoryTransport())
    for name in ("jobs", "mail"):

        @bus.endpoint(name).consumer
        def work(m: Job, context: Context) -> None: ...

    return bus


@pytest.fixture
def worker(bus: Bus) -> Worker:
    worker = bus.worker(name="w")
    worker.run_until_idle()
    return worker


@pytest.fixture
def draining() -> list[bool]:
    return []


@pytest.fixture
def showing(store: MemoryStore, worker: Worker, draining: list[bool]) -> Showing:
    return Showing(
        store,
        worker="w",
        endpoints=["jobs", "mail"],
        lanes=worker.lanes,
        counts=worker.counts,
        draining=lambda: bool(draining),
        log=structlog.get_logger(),
    )


def card(store: MemoryStore) -> WorkerCard:
    [card] = store.presence.cards().cards
    return card


def test_card_says_who_and_where_and_how_much(store: MemoryStore, bus: Bus, worker: Worker, showing: Showing) -> None:
    """Who is paged at night finds the process by it, and sees whether it gets on."""
    bus.send_many([Job()] * 3, to="jobs")
    worker.run_until_idle()
    showing.step()
    shown = card(store)
    assert (shown.worker, shown.host, shown.pid) == ("w", socket.gethostname(), os.getpid())
    assert (shown.endpoints, shown.state) == (("jobs", "mail"), "working")
    assert shown.counts["jobs"].handled == 3
    assert shown.handled_per_s > 0
    showing.step()
    assert card(store).handled_per_s == 0.0
    showing.end()
    assert store.presence.cards().cards == ()


def test_state_is_the_one_that_explains_most(
    store: MemoryStore, worker: Worker, showing: Showing, draining: list[bool]
) -> None:
    """A worker with all its endpoints paused is paused; one that waits for a server, or ends, says that first."""
    store.presence.pause("jobs", "ann")
    showing.step()
    showing.step()
    assert card(store).state == "working"
    store.presence.pause("mail", "ann")
    showing.step()
    showing.step()
    assert card(store).state == "paused"
    worker.lanes[0].pulse.refused("the broker does not answer")
    showing.step()
    assert card(store).state == "waits-for-server"
    draining.append(True)
    showing.step()
    assert card(store).state == "draining"


def test_store_that_is_down_leaves_the_worker_as_it_was_told_last(
    store: MemoryStore, worker: Worker, showing: Showing
) -> None:
    """It is told of once, not every second; a pause goes on, and what was resumed meanwhile is heard of afterwards."""
    presence: Any = store.presence
    with structlog.testing.capture_logs() as lines:
        presence.pause("jobs", "ann")
        showing.begin()
        presence.down = True
        for _ in range(3):
            showing.step()
        showing.end()
        assert {lane.paused for lane in worker.lanes} == {frozenset({"jobs"})}
        presence.down = False
        presence.resume("jobs")
        showing.step()
        assert {lane.paused for lane in worker.lanes} == {frozenset()}
    assert [line["event"] for line in lines] == ["paused", "not-shown", "resumed"]


def test_worker_does_not_begin_without_knowing_what_is_paused(store: MemoryStore, showing: Showing) -> None:
    """It could receive what it must not."""
    presence: Any = store.presence
    presence.down = True
    with pytest.raises(StoreUnavailableError):
        showing.begin()
