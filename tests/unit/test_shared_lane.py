"""Which endpoints share a lane, and how its crews share it. What it does on a server is in the integration tests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from attrs import define

from sagabus import Bus, Saga, message, starts
from sagabus.runtime.crew import ThreadedCrew, collect
from sagabus.runtime.handler_threads import Through
from sagabus.runtime.surroundings import Finished
from sagabus.transport import is_joint
from tests.unit.test_crew import PATIENCE_S, SURROUNDINGS, Job, reply, reply_later, work
from transports.memory import MemoryTransport
from transports.redis_streams import RedisStreamsTransport

TIMEOUT_S = 0.2


@message("shared.begin")
class Begin:
    key: str


@message("shared.ping")
class Ping:
    pass


@define
class State:
    number: int = 0


class Merging(Saga[State], key="key", merger=lambda siblings: siblings[0]):
    @starts
    def begun(self, m: Begin) -> None: ...


class AlsoMerging(Saga[State], key="key", merger=lambda siblings: siblings[0]):
    @starts
    def begun(self, m: Begin) -> None: ...


class Serial(Saga[State], key="key"):
    @starts
    def begun(self, m: Begin) -> None: ...


class Exclusive(Saga[State], key="key", exclusive=True):
    @starts
    def begun(self, m: Begin) -> None: ...


# -- who shares --------------------------------------------------------------------------------------------------


class JointTransport(MemoryTransport):
    """Says of itself that one receiver takes from several queues at no cost."""

    joint = True


@pytest.fixture
def bus() -> Iterator[Bus]:
    """Yield a bus on which three endpoints share a lane, and others may."""
    made = Bus(store="memory:", transport=JointTransport())
    made.endpoint("sagas", Merging)
    made.endpoint("first").consumer(Ping)(lambda m: None)
    made.endpoint("second", concurrency=8).consumer(Ping)(lambda m: None)
    yield made
    made.close()


def shares(bus: Bus, endpoints: list[str] | None = None) -> list[list[str]]:
    """Return the names of those that share, in the order of their lanes; they may have more than one."""
    worker = bus.worker(endpoints)
    worker._open(inline=False)
    return [list(names) for names in dict.fromkeys(tuple(e.name for e in lane.endpoints) for lane in worker.lanes)]


def test_endpoints_that_keep_nobody_waiting_share_a_lane(bus: Bus) -> None:
    """Sagas that merge, and consumers with places for more than a few."""
    assert shares(bus) == [["sagas", "first", "second"]]
    assert shares(bus, ["second", "sagas"]) == [["second", "sagas"]]
    assert shares(bus, ["first"]) == [["first"]]


@pytest.mark.parametrize("saga", [Serial, Exclusive])
def test_endpoint_of_a_saga_that_waits_for_others_has_its_own(bus: Bus, saga: type[Saga[Any]]) -> None:
    """Its runs are made again, or wait for a lease, and whoever shared the lane would wait with it."""
    bus.endpoint("waits", saga)
    bus.endpoint("waits-too", AlsoMerging)
    assert shares(bus) == [["sagas", "first", "second", "waits-too"], ["waits"]]


def test_endpoint_with_one_waiting_saga_among_others_has_its_own(bus: Bus) -> None:
    """One is enough."""
    bus.endpoint("mixed", AlsoMerging, Serial)
    assert shares(bus) == [["sagas", "first", "second"], ["mixed"]]


def test_endpoint_with_few_places_for_its_consumers_has_its_own(bus: Bus) -> None:
    """A lane asks for it in parts that are too small for the others; where nothing takes a place they do not count."""
    bus.endpoint("few", concurrency=7).consumer(Ping)(lambda m: None)
    bus.endpoint("one", concurrency=1).consumer(Ping)(lambda m: None)
    bus.endpoint("sagas-alone", AlsoMerging, concurrency=1)
    assert shares(bus) == [["sagas", "first", "second", "sagas-alone"], ["few"], ["one"]]


def test_endpoints_with_another_time_limit_share_among_themselves(bus: Bus) -> None:
    """A lane watches all its sagas with one watch."""
    for name, timeout_s in (("a", 5.0), ("b", 6.0), ("c", 5.0), ("d", None)):
        bus.endpoint(name, handler_timeout_s=timeout_s).consumer(Ping)(lambda m: None)
    assert shares(bus) == [["sagas", "first", "second", "d"], ["a", "c"], ["b"]]


def test_each_endpoint_has_its_own_where_the_transport_is_not_joint() -> None:
    """A broker that is not asked for several queues at once would be asked for one after the other."""
    bus = Bus(store="memory:", transport="memory:")
    for name in ("a", "b"):
        bus.endpoint(name).consumer(Ping)(lambda m: None)
    assert not is_joint(bus.transport)
    assert shares(bus) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("url", "joint"), [("redis://127.0.0.1:1", True), ("unix:///nowhere", True), ("redis+cluster://127.0.0.1:1", False)]
)
def test_streams_are_joint_but_on_a_cluster(url: str, joint: bool) -> None:
    """One command reads the streams of one server; those of a cluster have slots of their own."""
    transport = RedisStreamsTransport(url, namespace="n")
    assert is_joint(transport) is joint
    transport.close()


def test_worker_without_threads_takes_endpoint_by_endpoint(bus: Bus) -> None:
    """Tests see the same order whatever the transport."""
    worker = bus.worker()
    worker.run_until_idle()
    assert [lane.name for lane in worker.lanes] == ["sagas", "first", "second"]


# -- crews of one lane -------------------------------------------------------------------------------------------


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def all_of(crews: list[ThreadedCrew], through: Through, count: int) -> list[Finished]:
    finished: list[Finished] = []
    while len(finished) < count:
        came = collect(crews, through, PATIENCE_S)
        assert came, "nothing more came"
        finished += came
    return finished


def test_quick_handlers_of_a_large_batch_run_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wakes another thread as long as the one that is awake brings something; however many places there are."""
    monkeypatch.setattr("sagabus.runtime.crew._ROUSE_S", PATIENCE_S / 2)
    monkeypatch.setattr("sagabus.runtime.crew.LINGER_S", PATIENCE_S / 2)
    threads: Counter[int] = Counter()
    crew = ThreadedCrew(SURROUNDINGS, 16, "quick")
    for _ in range(3):
        for number in range(200):
            crew.start(work(lambda m: threads.update([threading.get_ident()]), number))
        assert len(all_of([crew], crew._through, 200)) == 200
    assert list(threads.values()) == [600]
    crew.close()


def test_slow_handlers_get_as_many_threads_as_there_are_places() -> None:
    """Each batch waits until all places are taken, and would wait for ever if one were not; no more run than may."""
    places = 16
    together = threading.Barrier(places)
    running, most = 0, 0
    lock = threading.Lock()

    def meets(m: Job) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE_S)
        with lock:
            running -= 1

    crew = ThreadedCrew(SURROUNDINGS, places, "slow")
    for number in range(4 * places):
        crew.start(work(meets, number))
    finished = all_of([crew], crew._through, 4 * places)
    assert [each.trouble for each in finished] == [None] * (4 * places)
    assert most == places
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("slow-")]) == places
    crew.close()


def test_slow_handler_among_quick_ones_holds_up_none_of_them(go_on: threading.Event) -> None:
    """The thread that is awake is stuck with the first; another one is roused for what it has left over."""
    crew = ThreadedCrew(SURROUNDINGS, 2, "crew")
    crew.start(work(lambda m: go_on.wait(PATIENCE_S), 0))
    for number in range(1, 50):
        crew.start(work(reply, number))
    quick = all_of([crew], crew._through, 49)
    assert {each.ticket.delivery.tag for each in quick} == set(range(1, 50))
    assert crew.busy == 1
    go_on.set()
    assert [each.ticket.delivery.tag for each in all_of([crew], crew._through, 1)] == [0]
    crew.close()


def test_job_that_comes_when_its_thread_goes_to_rest_is_begun_all_the_same() -> None:
    """One at a time, over and over: between looking for more and going to rest nothing is lost."""
    crew = ThreadedCrew(SURROUNDINGS, 4, "crew")
    for number in range(2000):
        crew.start(work(reply, number))
        assert len(all_of([crew], crew._through, 1)) == 1
    crew.close()


def test_crews_with_one_way_back_are_collected_together(go_on: threading.Event) -> None:
    """What hangs in one of them takes nothing from the other, nor counts as its work."""
    through: Through = SimpleQueue()
    stuck = ThreadedCrew(SURROUNDINGS, 2, "stuck", through=through)
    quick = ThreadedCrew(SURROUNDINGS, 2, "quick", through=through)
    for number in range(4):
        stuck.start(work(lambda m: go_on.wait(PATIENCE_S), number))
    for number in range(10, 60):
        quick.start(work(reply if number % 2 else reply_later, number))
    assert (stuck.busy, quick.busy) == (4, 50)
    came = all_of([stuck, quick], through, 50)
    assert {each.ticket.delivery.tag for each in came} == set(range(10, 60))
    assert (stuck.busy, quick.busy) == (4, 0)
    go_on.set()
    assert {each.ticket.delivery.tag for each in all_of([stuck, quick], through, 4)} == set(range(4))
    assert (stuck.busy, quick.busy) == (0, 0)
    stuck.close()
    quick.close()


def test_handler_that_hangs_gives_its_place_to_another_of_its_crew(go_on: threading.Event) -> None:
    """Beyond its time it is given up, with all places taken by such; crews beside it have a time of their own."""
    through: Through = SimpleQueue()
    limited = ThreadedCrew(SURROUNDINGS, 2, "limited", TIMEOUT_S, through)
    patient = ThreadedCrew(SURROUNDINGS, 2, "patient", None, through)
    for number in range(2):
        limited.start(work(lambda m: go_on.wait(PATIENCE_S), number))
        patient.start(work(lambda m: go_on.wait(PATIENCE_S), 100 + number))
    for number in range(2, 12):
        limited.start(work(reply, number))
    came = {each.ticket.delivery.tag: each.trouble for each in all_of([limited, patient], through, 12)}
    assert set(came) == set(range(12))
    assert {tag for tag, trouble in came.items() if trouble is not None} == {0, 1}
    assert {trouble.reason for trouble in came.values() if trouble is not None} == {"timed-out"}
    assert (limited.busy, patient.busy) == (0, 2)
    go_on.set()
    assert [each.trouble for each in all_of([limited, patient], through, 2)] == [None, None]
    limited.close()
    patient.close()


def test_crew_takes_more_in_advance_the_quicker_its_handlers_are() -> None:
    """As long as nobody knows, twice its places; what is at work counts."""
    crew = ThreadedCrew(SURROUNDINGS, 3, "crew")
    assert crew.room == 6
    job = work(reply)
    crew.start(job)
    assert crew.room == 5
    all_of([crew], crew._through, 1)
    for takes_s, room in ((10.0, 6), (0.01, 6), (0.001, 20), (0.0001, 200)):
        crew._takes_s = takes_s
        assert crew.room == room
    crew.close()
