"""Pausing an endpoint: nothing is received from it until it is resumed, and nothing is lost or taken away meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sagabus import Bus, Context, RetryPolicy, message
from sagabus.store.memory import MemoryStore
from sagabus.telemetry.card import WorkerCard
from tests.integration.test_runtime import working
from tests.servers import until
from transports.memory import MemoryTransport

Make = Callable[[], Bus]
KINDS = ["memory", "one server", "rabbitmq"]
EVERYWHERE = pytest.mark.parametrize("make", [*KINDS, "two servers", "cluster", "kombu"], indirect=True)
IDLE_S = 0.05
PROMISED_S = 2.0
"""So soon a pause is heard of everywhere."""


@message("pause.job")
class Job:
    number: int


@message("pause.letter")
class Letter:
    number: int


class Gate:
    """Handlers that wait until they are let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.jobs: list[int] = []
        self.letters: list[int] = []


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lanes that wait for messages look up often, so that workers stop soon."""
    monkeypatch.setattr("sagabus.runtime.lane.IDLE_WAIT_S", IDLE_S)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, namespace: str, gate: Gate) -> Iterator[Make]:
    """Return what makes one more bus, as another process would, over the same store and queues."""
    memory, store = MemoryTransport(), MemoryStore()
    parts: dict[str, Any] = {"namespace": namespace, "claim_s": 1.0}
    if request.param == "memory":
        parts |= {"store": store, "transport": memory}
    else:
        url = request.getfixturevalue("cluster_url" if request.param == "cluster" else "valkey_url")
        transport: dict[str, Any] = {"two servers": memory, "kombu": "kombu+memory://", "rabbitmq": ""}
        broker = transport.get(request.param, url) or request.getfixturevalue("rabbitmq_url")
        parts |= {"store": url, "transport": broker}
    with ExitStack() as stack:

        def bus() -> Bus:
            made = stack.enter_context(Bus(**parts))
            jobs = made.endpoint("jobs", concurrency=2, retry=RetryPolicy(max_attempts=1))
            letters = made.endpoint("letters")

            @jobs.consumer
            def work(m: Job, context: Context) -> None:
                gate.jobs.append(m.number)
                gate.open.wait(30)

            @letters.consumer
            def read(m: Letter, context: Context) -> None:
                gate.letters.append(m.number)

            return made

        yield bus


def cards(bus: Bus) -> list[WorkerCard]:
    return list(bus.store.presence.cards().cards)


def depth(bus: Bus, endpoint: str) -> int:
    return next(queue.depth for queue in bus.transport.queues() if queue.endpoint == endpoint)


def wait_until_heard(bus: Bus, worker: Any) -> None:
    """Return when all lanes of a worker know what is paused, and have ended the receive that they were in."""
    paused = frozenset(bus.store.presence.paused())
    until(lambda: all(lane.paused == paused for lane in worker.lanes), "the pause", PROMISED_S)
    heard_at = time.monotonic()
    until(lambda: all(lane.pulse.beat_at > heard_at + 2 * IDLE_S for lane in worker.lanes), "the lanes' next turns")


@EVERYWHERE
def test_paused_endpoint_receives_nothing_until_it_is_resumed(make: Make, gate: Gate) -> None:
    """Its queue fills; the others go on; after it is resumed everything is handled, once."""
    bus = make()
    with working(bus, name="w") as worker:
        bus.send(Job(0), to="jobs")
        until(lambda: gate.jobs == [0], "the first job")
        bus.store.presence.pause("jobs", "ann@box", "the bureau is down")
        wait_until_heard(bus, worker)
        bus.send_many([Job(n) for n in range(1, 6)], to="jobs")
        for n in range(3):
            bus.send(Letter(n), to="letters")
            until(lambda n=n: n in gate.letters, "a letter for another endpoint")
        assert gate.jobs == [0]
        assert depth(bus, "jobs") == 5
        bus.store.presence.resume("jobs")
        until(lambda: sorted(gate.jobs) == [0, 1, 2, 3, 4, 5], "the jobs that waited")
    assert depth(bus, "jobs") == 0


def test_worker_that_starts_while_paused_receives_nothing(make: Make, gate: Gate) -> None:
    """Not even for a moment; and it is ready, and says that it is paused where all it has is."""
    bus = make()
    bus.store.presence.pause("jobs", "ann@box")
    bus.send(Job(1), to="jobs")
    with working(bus, name="w", endpoints=["jobs"]) as worker:
        until(lambda: [card.state for card in cards(bus)] == ["paused"], "its card")
        until(lambda: worker.health(60.0).ready, "it to be ready")
        assert gate.jobs == []
    assert cards(bus) == []
    # Nor where a test runs everything in its own thread.
    worker = make().worker(name="inline")
    worker.run_until_idle()
    assert gate.jobs == []
    bus.store.presence.resume("jobs")
    worker.run_until_idle()
    assert gate.jobs == [1]


def test_what_was_in_hand_is_finished_and_nobody_takes_it(make: Make, gate: Gate) -> None:
    """A handler at work when the pause comes goes on for as long as it takes, longer than a claim lasts, and once."""
    bus = make()
    gate.open.clear()
    with working(bus, name="w") as worker:
        bus.send(Job(1), to="jobs")
        until(lambda: gate.jobs == [1], "the job")
        bus.store.presence.pause("jobs", "ann@box")
        wait_until_heard(bus, worker)
        with working(make(), name="other"):
            began_at = time.monotonic()
            until(lambda: time.monotonic() - began_at > 1.5, "the claim time to be over")
            assert gate.jobs == [1]
            gate.open.set()
            until(lambda: depth(bus, "jobs") == 0, "the ack")
    assert gate.jobs == [1]


def test_messages_that_the_broker_sent_ahead_go_to_whoever_may(make: Make, gate: Gate) -> None:
    """A worker that ends while paused, or has prefetched, leaves all of it to the next; each job is done once.

    None of it counts as tried, or as delivered before: with one attempt for each, nothing is given up.
    """
    bus = make()
    gate.open.clear()
    with working(bus, name="w") as worker:
        bus.send_many([Job(n) for n in range(40)], to="jobs")
        until(lambda: len(gate.jobs) >= 2, "the first jobs")
        bus.store.presence.pause("jobs", "ann@box")
        wait_until_heard(bus, worker)
        gate.open.set()
        until(lambda: not any(lane._busy for lane in worker.lanes), "what is in hand to be through")
        done = len(gate.jobs)
        began_at = time.monotonic()
        until(lambda: time.monotonic() - began_at > 0.3, "a while")
        assert len(gate.jobs) == done
    bus.store.presence.resume("jobs")
    with working(make(), name="next"):
        until(lambda: len(set(gate.jobs)) == 40, "the rest")
        until(lambda: depth(bus, "jobs") == 0, "the acks")
    assert sorted(gate.jobs) == list(range(40))
    assert bus.store.dead() == []


def test_timer_that_is_due_goes_into_the_queue_of_a_paused_endpoint(make: Make, gate: Gate) -> None:
    """It waits there with the rest."""
    bus = make()
    with working(bus, name="w") as worker:
        bus.store.presence.pause("jobs", "ann@box")
        wait_until_heard(bus, worker)
        bus.send(Job(1), to="jobs", after=0.01)
        until(lambda: depth(bus, "jobs") == 1, "the job in its queue")
        assert gate.jobs == []
