"""Handlers that take longer than they may, under a worker with threads: what becomes of their messages, and of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from attrs import define

from sagabus import Bus, Saga, handles, message, starts
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError, HandlerHungError
from sagabus.worker import Worker
from tests.servers import until

TIMEOUT_S = 0.1
PATIENCE_S = 60.0

GO_ON = threading.Event()


@message("hangs.begin")
class Begin:
    key: str


@message("hangs.poke")
class Poke:
    key: str
    how: str = ""


@message("hangs.job")
class Job:
    how: str = ""


@define
class State:
    pokes: int = 0
    decides_slowly: bool = False


def spin() -> None:
    while not GO_ON.is_set():
        pass


class Poked(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def poked(self, m: Poke) -> None:
        if m.how == "spins":
            spin()
        elif m.how == "blocks":
            GO_ON.wait(PATIENCE_S)
        elif m.how == "decides slowly":
            self.state.decides_slowly = True
        self.state.pokes += 1

    def decide(self) -> None:
        if self.state.decides_slowly:
            spin()


@pytest.fixture(autouse=True)
def go_on() -> Iterator[None]:
    GO_ON.clear()
    yield
    GO_ON.set()


@pytest.fixture
def bus() -> Bus:
    made = Bus(store="memory:", transport="memory:", claim_s=0.3)
    made.endpoint("e", Poked, handler_timeout_s=TIMEOUT_S)
    made.send(Begin("1"), to="e")
    made.worker().run_until_idle()
    return made


class Running:
    """A worker in a thread of its own, and what it ended with."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def end(self) -> BaseException | None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.error


@contextmanager
def running(bus: Bus) -> Iterator[Running]:
    worker = Running(bus.worker())
    yield worker
    worker.worker.stop()
    assert worker.end() is None


def pokes(bus: Bus) -> int:
    definition = bus.saga("Poked")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(SagaKey("Poked", "1"))])
    found: int = definition.codec.decode(snapshot.versions[0].state).pokes
    return found


def letters(bus: Bus) -> dict[str, str]:
    return {letter.id: letter.reason for letter in bus.store.dead()}


def depth(bus: Bus, endpoint: str = "e") -> int:
    return {queue.endpoint: queue.depth for queue in bus.transport.queues()}[endpoint]


@pytest.mark.parametrize("how", ["spins", "decides slowly"])
def test_saga_handler_that_hangs_is_dead_lettered_alone(bus: Bus, how: str) -> None:
    """Its neighbours of the same batch, and all that come later, are handled; where it hung is in the dead letter."""
    for number in range(3):
        bus.send(Poke("1"), to="e", id=f"before-{number}")
    bus.send(Poke("1", how), to="e", id="hangs")
    bus.send(Poke("1"), to="e", id="behind")
    with running(bus):
        until(lambda: pokes(bus) == 4 and depth(bus) == 0, "the others")
        assert letters(bus) == {"hangs": "timed-out"}
        bus.send(Poke("1"), to="e")
        until(lambda: pokes(bus) == 5, "one that comes later")
    (letter,) = bus.store.dead()
    assert (letter.attempts, letter.saga) == (1, "Poked/1")
    assert "while not GO_ON" in letter.traceback
    assert "handler_timeout_s" in letter.error


def test_saga_handler_that_cannot_be_interrupted_is_dead_lettered_and_its_worker_ends(bus: Bus) -> None:
    """The next worker finds it on record, and acks it unhandled."""
    bus.send(Poke("1", "blocks"), to="e", id="hangs")
    first = Running(bus.worker(name="w"))
    error = first.end()
    assert isinstance(error, HandlerHungError)
    assert error.handler == "Poked.poked"
    assert letters(bus) == {"hangs": "timed-out"}
    assert "GO_ON.wait" in bus.store.dead()[0].traceback
    assert depth(bus) == 1
    bus.send(Poke("1"), to="e")
    with running(bus):
        until(lambda: pokes(bus) == 1 and depth(bus) == 0, "the next message, and the ack")
    assert letters(bus) == {"hangs": "timed-out"}


def slow_merge(siblings: Sequence[State]) -> State:
    spin()
    return State(sum(sibling.pokes for sibling in siblings))


class Merged(Saga[State], key="key", merger=slow_merge):
    @starts
    def begun(self, m: Begin) -> None:
        self.state.pokes += 1


def test_merger_that_hangs_is_as_one_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The siblings stay, their messages are parked with their attempts as they were, and none is a dead letter."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("e", Merged, handler_timeout_s=TIMEOUT_S)
    fork(bus)
    with running(bus):
        until(lambda: bus.store.scheduled(), "the parked MergeSagaState")
        assert letters(bus) == {}
        GO_ON.set()
        until(lambda: siblings(bus) == 1, "the merge, once the merger answers")


def fork(bus: Bus) -> None:
    """Have two first writes race."""
    from sagabus.advance import advance
    from sagabus.envelope import Incoming, wrap
    from sagabus.outgoing import posted_merge

    definition = bus.saga("Merged")
    assert definition is not None
    key = SagaKey("Merged", "1")
    (snapshot,) = bus.store.load([Want(key)])
    for number in range(2):
        incoming = Incoming(wrap(Begin("1"), id=f"begin-{number}", source="/t", now_ms=0))
        (result,) = bus.store.commit([advance(definition, snapshot, [incoming])], by="t")
        if result.posted_merge:
            bus.transport.send([posted_merge(key, 1, incoming.id, "e", 0).parcel()])
    assert siblings(bus) == 2


def siblings(bus: Bus) -> int:
    (snapshot,) = bus.store.load([Want(SagaKey("Merged", "1"))])
    return len(snapshot.versions)


def with_consumer(concurrency: int, handler: Callable[[Job], None]) -> Bus:
    bus = Bus(store="memory:", transport="memory:")
    endpoint = bus.endpoint("jobs", concurrency=concurrency, handler_timeout_s=TIMEOUT_S)
    endpoint.consumer(Job)(handler)
    return bus


def test_consumer_that_hangs_is_dead_lettered_at_once_and_the_others_go_on() -> None:
    """It is not tried again: whatever hangs once is likely to hang again, and an operator decides."""
    done: list[str] = []

    def handler(m: Job) -> None:
        if m.how == "blocks":
            GO_ON.wait(PATIENCE_S)
        done.append(m.how)

    bus = with_consumer(1, handler)
    bus.send(Job("blocks"), to="jobs", id="hangs")
    bus.send(Job("well"), to="jobs")
    with running(bus):
        until(lambda: done == ["well"] and depth(bus, "jobs") == 0, "the other one")
        assert letters(bus) == {"hangs": "timed-out"}
        assert "GO_ON.wait" in bus.store.dead()[0].traceback


def test_worker_that_left_too_many_handlers_behind_drains_and_ends() -> None:
    """Threads that hang are not gathered for ever: a new process is better."""

    def handler(m: Job) -> None:
        GO_ON.wait(PATIENCE_S)

    bus = with_consumer(1, handler)
    worker = Running(bus.worker())
    for number in range(2):
        bus.send(Job(), to="jobs", id=f"hangs-{number}")
    until(lambda: len(letters(bus)) == 2, "both dead letters")
    until(lambda: keep_busy(bus) or worker.error is not None, "the end of the worker")
    assert isinstance(worker.end(), HandlerHungError)


def keep_busy(bus: Bus) -> bool:
    """Send what hangs; a lane looks behind itself when it collects handlers."""
    if depth(bus, "jobs") == 0:
        bus.send(Job(), to="jobs")
    time.sleep(0.01)
    return False


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_time_out_that_is_none_is_refused(timeout_s: float) -> None:
    """No limit is written by leaving it out."""
    with pytest.raises(ConfigurationError, match="leave it out"):
        Bus(store="memory:", transport="memory:").endpoint("e", handler_timeout_s=timeout_s)
