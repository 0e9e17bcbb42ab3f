"""Load, run, commit: what the runner does where others were faster, and where a record cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define

from sagabus import Bus, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Lifecycle, Outcome, Result, Want
from sagabus.envelope import SagaKey
from sagabus.errors import CorruptRecordError
from sagabus.store.memory import MemoryStore
from tests.changes import evolve
from tests.integration.apps import Clock, memory_parts


@message("runner.begin")
class Begin:
    key: str


@message("runner.add")
class Add:
    key: str
    number: int = 1


@message("runner.stop")
class Stop:
    key: str


@define
class Sum:
    total: int = 0


class Summing(Saga[Sum], key="key"):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def added(self, m: Add) -> None:
        self.state.total += m.number

    @handles
    def stopped(self, m: Stop) -> None:
        self.complete()

    def decide(self) -> None:
        if self.state.total > 1000:
            raise OverflowError("too much")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(clock: Clock) -> Bus:
    store, transport = memory_parts(clock)
    made = Bus(store=store, transport=transport)
    made.endpoint("e", Summing, retry=RetryPolicy(2, first_delay_s=1.0))
    return made


def total(bus: Bus, key: str) -> int:
    definition = bus.saga("Summing")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(SagaKey("Summing", key))])
    found: int = definition.codec.decode(snapshot.versions[0].state).total
    return found


def overtake(bus: Bus, monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Have the first *times* commits find that somebody else was faster; return how many were made, as they are."""
    made: list[int] = []
    real = bus.store.commit

    def commit(commits: Any, *, by: str) -> list[Result]:
        made.append(len(commits))
        if len(made) <= times:
            return [Result(Outcome.AGAIN, "settle") for _ in commits]
        return real(commits, by=by)

    monkeypatch.setattr(bus.store, "commit", commit)
    return made


def test_run_that_was_overtaken_is_made_again_with_jitter(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once at first, then with a growing random pause, so that writers that keep colliding drift apart."""
    pauses: list[float] = []
    monkeypatch.setattr("sagabus.runtime.saga_runner.time.sleep", pauses.append)
    made = overtake(bus, monkeypatch, 9)
    bus.send(Begin("1"), to="e")
    worker = bus.worker()
    worker._open(inline=True, jitter=lambda: 0.5)
    worker.run_until_idle()
    assert len(made) == 10
    assert len(pauses) == 8
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.0005)
    assert max(pauses) <= 0.032


def test_run_that_is_overtaken_beyond_its_bound_is_parked_and_loses_nothing(
    bus: Bus, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages come again in a second, their attempts unchanged; nobody waits for them meanwhile."""
    monkeypatch.setattr("sagabus.runtime.saga_runner.time.sleep", lambda s: None)
    overtake(bus, monkeypatch, 24)
    bus.send_many([Begin("1"), Add("1", 5)], to="e")
    bus.worker().run_until_idle()
    assert len(bus.store.scheduled()) == 2
    assert list(bus.store.sagas()) == []
    clock.advance(2.0)
    bus.worker().run_until_idle()
    assert total(bus, "1") == 5
    assert (bus.store.scheduled(), bus.store.dead()) == ([], [])


def test_message_that_makes_the_decision_raise_is_found_among_its_neighbours(bus: Bus, clock: Clock) -> None:
    """`decide` runs once for all of them; alone, each shows whose fault it is. The others are kept."""
    bus.send_many([Begin("1"), *(Add("1", n) for n in (1, 2, 5000, 3, 4))], to="e")
    for _ in range(5):
        bus.worker().run_until_idle()
        clock.advance(10.0)
    assert total(bus, "1") == 10
    (letter,) = bus.store.dead()
    assert (letter.reason, letter.attempts) == ("failed", 2)
    assert "OverflowError: too much" in letter.error


def test_messages_behind_a_completion_in_one_batch_are_late(bus: Bus) -> None:
    """They are run again after the commit, and find the saga completed."""
    bus.send_many([Begin("1"), Add("1", 1), Stop("1"), Add("1", 2)], to="e")
    worker = bus.worker()
    worker.run_until_idle()
    (row,) = bus.store.sagas()
    assert row.lifecycle is Lifecycle.COMPLETED
    assert total(bus, "1") == 1
    assert worker.lanes[0].tally.late == 1


def corrupt(store: MemoryStore, monkeypatch: pytest.MonkeyPatch, method: str, key: str) -> Callable[[], None]:
    """Have *method* refuse every batch with the saga *key* in it, as a store with a broken record does."""
    real = getattr(store, method)

    def refuse(items: Any, *args: Any, **options: Any) -> Any:
        if any(item.key.id == key for item in items):
            raise CorruptRecordError(f"Summing/{key}", "gibberish")
        return real(items, *args, **options)

    monkeypatch.setattr(store, method, refuse)
    return lambda: setattr(store, method, real)


@pytest.mark.parametrize("method", ["load", "commit"])
def test_record_that_cannot_be_read_holds_up_no_other_saga(
    bus: Bus, clock: Clock, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Its own messages are tried again, then dead-lettered with the cause; all others in the batch are handled."""
    store: Any = bus.store
    corrupt(store, monkeypatch, method, "bad")
    bus.send_many([Begin("1"), Begin("bad"), Begin("2"), Add("1", 3)], to="e")
    for _ in range(4):
        bus.worker().run_until_idle()
        clock.advance(10.0)
    assert (total(bus, "1"), total(bus, "2")) == (3, 0)
    (letter,) = bus.store.dead()
    assert (letter.reason, letter.saga, letter.attempts) == ("failed", "Summing/bad", 2)
    assert "gibberish" in letter.error


def test_record_that_is_mended_in_time_loses_nothing(bus: Bus, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try finds it readable."""
    store: Any = bus.store
    mend = corrupt(store, monkeypatch, "load", "bad")
    bus.send(Begin("bad"), to="e")
    bus.worker().run_until_idle()
    mend()
    clock.advance(10.0)
    bus.worker().run_until_idle()
    assert [row.key.id for row in bus.store.sagas()] == ["bad"]
    assert bus.store.dead() == []


def test_batch_of_which_somebody_consumed_a_part_meanwhile_is_run_again_without_it(bus: Bus) -> None:
    """Between load and commit another worker handled one of its messages: that one is done, the other is not lost."""
    bus.send(Begin("1"), to="e")
    bus.worker().run_until_idle()
    other = bus.worker(name="other")
    other.run_until_idle()
    ids = bus.send_many([Add("1", 1), Add("1", 10)], to="e")
    store: Any = bus.store
    real = store.commit

    def commit(commits: Any, *, by: str) -> Any:
        store.commit = real
        (whole,) = commits
        real([evolve(whole, ids=(ids[0],), messages=whole.messages[:1])], by="other")
        return real(commits, by=by)

    store.commit = commit
    worker = bus.worker()
    worker.run_until_idle()
    (row,) = bus.store.sagas()
    consumed = bus.store.load([Want(row.key, tuple(ids))])[0].consumed
    assert set(consumed) == set(ids)
    assert worker.lanes[0].tally.repeated == 1
    assert bus.store.dead() == []


def test_outbox_that_cannot_be_read_is_dead_lettered_and_holds_up_nobody(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumed message whose outbox is damaged is on record; it takes no worker down, and its neighbours go on."""
    bus.send(Begin("1"), to="e")
    bus.worker().run_until_idle()
    real = bus.store.load

    def damaged(wants: Any, noting: Any = None) -> list[Any]:
        hit = [evolve(s, consumed={"broken": b"{no line"}) for s in real(wants, noting) if s.key.id == "1"]
        return hit + [s for s in real(wants) if s.key.id != "1"]

    monkeypatch.setattr(bus.store, "load", damaged)
    bus.send(Add("1"), to="e", id="broken")
    bus.worker().run_until_idle()
    monkeypatch.undo()
    (letter,) = bus.store.dead()
    assert (letter.id, letter.reason, letter.saga) == ("broken", "undecodable", "Summing/1")
    assert "a line of an outbox cannot be read" in letter.error
    bus.send(Add("1", 5), to="e")
    bus.worker().run_until_idle()
    assert total(bus, "1") == 5
