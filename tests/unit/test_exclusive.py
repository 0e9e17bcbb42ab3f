"""Exclusive sagas in a worker: none is run without its lease, one message at a time, and that is always given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.errors import StoreUnavailableError
from sagabus.leases.grant import Grant
from sagabus.observe.log import get_logger
from sagabus.observe.record import record
from sagabus.observe.rerun import rerun
from sagabus.runtime.leases import LeasesInHand
from sagabus.store.memory import MemoryStore
from sagabus.telemetry.counters import EndpointCounts
from sagabus.worker import Worker
from tests.changes import evolve
from tests.integration.apps import Clock, memory_parts

KEY = SagaKey("Ledger", "1")
RUNS: list[str] = []
"""What each run of a handler has noted, in vain or not."""
MEANWHILE: list[Callable[[], None]] = []
"""What happens while the next handlers run."""


@message("exclusive.opened")
class Opened:
    key: str


@message("exclusive.entered")
class Entered:
    key: str
    what: str


@define
class Entries:
    entries: list[str] = field(factory=list)


class Ledger(Saga[Entries], key="key", exclusive=True):
    @starts
    def opened(self, m: Opened) -> None:
        RUNS.append("opened")

    @handles
    def entered(self, m: Entered) -> None:
        RUNS.append(m.what)
        if MEANWHILE:
            MEANWHILE.pop(0)()
        if m.what == "fail":
            raise ValueError
        self.state.entries.append(m.what)
        if m.what == "end":
            self.complete()


class PlainLedger(Saga[Entries], key="key", name="Ledger"):
    """The same without the lease, as it was before somebody made it exclusive."""

    @starts
    def opened(self, m: Opened) -> None:
        """Nothing is in it yet."""

    @handles
    def entered(self, m: Entered) -> None:
        self.state.entries.append(m.what)


@pytest.fixture(autouse=True)
def at_rest(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Forget what was run, and pause without pausing; return the pauses."""
    RUNS.clear()
    MEANWHILE.clear()
    pauses: list[float] = []
    monkeypatch.setattr("sagabus.runtime.saga_runner.time.sleep", pauses.append)
    return pauses


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(clock: Clock) -> Bus:
    store, transport = memory_parts(clock)
    made = Bus(store=store, transport=transport, claim_s=30.0)
    made.endpoint("e", Ledger, retry=RetryPolicy(2, first_delay_s=1.0))
    return made


def entries(bus: Bus, key: SagaKey = KEY) -> list[str]:
    definition = bus.saga("Ledger")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(key)])
    return list(definition.codec.decode(snapshot.versions[0].state).entries)


def holder(bus: Bus, key: SagaKey = KEY) -> str:
    """Return who holds the lease of a saga; empty for nobody."""
    (grant,) = bus.store.leases.read([key])
    return grant.holder if grant is not None and grant.running else ""


def work(bus: Bus, *messages: Any, name: str = "w") -> tuple[Worker, EndpointCounts]:
    """Have a worker handle *messages*, which it receives as one batch."""
    bus.send_many(messages, to="e")
    worker = bus.worker(name=name)
    worker.run_until_idle()
    return worker, worker.lanes[0].tally


def test_failing_message_has_no_others_run_again(bus: Bus, clock: Clock) -> None:
    """Each message is a run of its own, so one that raises is run again alone; of the others none is."""
    work(bus, Opened("1"), Entered("1", "a"), Entered("1", "fail"), Entered("1", "b"))
    clock.advance(5.0)
    work(bus)
    assert sorted(RUNS) == ["a", "b", "fail", "fail", "opened"]
    assert entries(bus) == ["a", "b"]
    (letter,) = bus.store.dead()
    assert (letter.reason, letter.attempts) == ("failed", 2)


def test_messages_of_one_batch_are_all_handled_in_order(bus: Bus) -> None:
    """However many there are: one that is left over for the next round is none that got stuck."""
    _, tally = work(bus, Opened("1"), *(Entered("1", str(n)) for n in range(60)))
    assert entries(bus) == [str(n) for n in range(60)]
    assert (tally.stored, tally.handled, tally.again, tally.waited, tally.parked) == (61, 61, {}, 0, 0)


def test_message_that_comes_with_the_start_is_handled_behind_it(bus: Bus) -> None:
    """Nothing orders messages, so the start is looked for among those that came with it."""
    work(bus, Entered("1", "a"), Opened("1"))
    assert RUNS == ["opened", "a"]


def test_saga_that_another_holds_is_not_run_and_its_messages_come_again(
    bus: Bus, clock: Clock, at_rest: list[float]
) -> None:
    """It is looked at with growing pauses, then parked, its attempts unchanged; sagas beside it are handled at once."""
    work(bus, Opened("1"), Opened("2"))
    bus.store.leases.grant(KEY, "somebody", 10_000)
    _, tally = work(bus, Entered("1", "a"), Entered("1", "b"), *(Entered("2", str(n)) for n in range(30)))
    assert ["opened", "opened", *map(str, range(30))] == RUNS
    assert len(at_rest) == 12
    assert (tally.waited, tally.parked, tally.again) == (14, 2, {})
    assert len(bus.store.scheduled()) == 2
    clock.advance(2.0)
    work(bus)
    assert holder(bus) == "somebody"
    clock.advance(10.0)
    work(bus)
    assert sorted(RUNS[32:]) == ["a", "b"]
    assert {m.attempt for entry in bus.store.history(KEY) for m in entry.messages} == {1}


def test_saga_that_is_given_back_in_time_is_run_in_the_same_turn(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits gets it as soon as its holder is through; nothing is put off."""
    work(bus, Opened("1"))
    held = bus.store.leases.grant(KEY, "somebody", 10_000)
    monkeypatch.setattr("sagabus.runtime.saga_runner.time.sleep", lambda s: bus.store.leases.release({KEY: held}))
    _, tally = work(bus, Entered("1", "a"))
    assert entries(bus) == ["a"]
    assert (tally.waited, tally.parked) == (2, 0)
    assert bus.store.scheduled() == []


@pytest.mark.parametrize(
    "messages",
    [
        [Entered("1", "a")],
        [Entered("1", "a"), Entered("1", "b")],
        [Entered("1", "fail")],
        [Entered("1", "a"), Entered("1", "fail")],
        [Entered("nobody", "early")],
        [Entered("1", "end")],
        [Entered("1", "end"), Entered("1", "late"), Entered("1", "late")],
    ],
    ids=lambda messages: "+".join(m.what for m in messages),
)
def test_lease_is_given_back_whatever_becomes_of_the_messages(bus: Bus, messages: list[Any]) -> None:
    """Nobody has to wait for a worker that has nothing to do there any more."""
    work(bus, Opened("1"))
    work(bus, *messages)
    assert [holder(bus, SagaKey("Ledger", key)) for key in ("1", "nobody")] == ["", ""]


def test_lease_is_given_back_where_every_message_was_handled_before(bus: Bus) -> None:
    """A second copy is recognised by the load, which has granted the lease by then."""
    bus.send(Opened("1"), to="e", id="same")
    work(bus)
    bus.send(Opened("1"), to="e", id="same")
    _, tally = work(bus)
    assert (tally.repeated, tally.handlers.count) == (1, 0)
    assert holder(bus) == ""


def test_last_commit_gives_the_lease_back_by_itself(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run costs a load and a commit, as any other; only where nothing is committed a release is extra."""
    releases: list[Any] = []
    monkeypatch.setattr(LeasesInHand, "give_back", spied(LeasesInHand.give_back, releases))
    work(bus, Opened("1"), Entered("1", "a"))
    work(bus, Entered("1", "fail"))
    assert [set(grants) for grants in releases] == [set(), {KEY}]


def spied(real: Callable[[LeasesInHand], None], releases: list[Any]) -> Callable[[LeasesInHand], None]:
    """Return *real*, which notes in *releases* what it has to give back."""

    def give_back(self: LeasesInHand) -> None:
        releases.append(dict(self._grants))
        real(self)

    return give_back


def test_lease_that_cannot_be_given_back_ends_by_itself(
    bus: Bus, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer then takes the worker nothing: all its messages are through."""
    work(bus, Opened("1"))

    def release(grants: Mapping[Any, Grant]) -> None:
        raise StoreUnavailableError("memory:", "gone")

    monkeypatch.setattr(bus.store.leases, "release", release)
    work(bus, Entered("1", "fail"))
    monkeypatch.undo()
    assert len(bus.store.scheduled()) == 1
    assert holder(bus).startswith("w/e/")
    clock.advance(30.0)
    assert holder(bus) == ""


# -- long handlers -----------------------------------------------------------------------------------------------


def test_handler_that_outlasts_its_lease_is_run_again(bus: Bus, clock: Clock) -> None:
    """Without a sign of life the lease ends, and nothing that was made under it is stored."""
    work(bus, Opened("1"))
    MEANWHILE.append(lambda: clock.advance(31.0))
    _, tally = work(bus, Entered("1", "a"))
    assert RUNS == ["opened", "a", "a"]
    assert entries(bus) == ["a"]
    assert sum(tally.again.values()) == 1


def test_signs_of_life_keep_the_lease_of_a_long_handler(bus: Bus, clock: Clock) -> None:
    """What keeps its messages from others keeps the saga from them too, and nothing is run twice."""
    work(bus, Opened("1"))
    worker = bus.worker(name="w")
    worker.run_until_idle()
    seen: list[str] = []

    def meanwhile() -> None:
        for _ in range(5):
            clock.advance(20.0)
            worker.lanes[0].hold()
        seen.append(holder(bus))

    MEANWHILE.append(meanwhile)
    bus.send_many([Entered("1", "a"), Entered("1", "b")], to="e")
    worker.run_until_idle()
    assert RUNS == ["opened", "a", "b"]
    assert entries(bus) == ["a", "b"]
    assert seen[0].startswith("w/e/")
    assert worker.lanes[0].tally.again == {}


def test_sign_of_life_that_comes_too_late_brings_no_lease_back(bus: Bus, clock: Clock) -> None:
    """Somebody else has taken over meanwhile: the run is dropped, and made again when they are through."""
    work(bus, Opened("1"))
    worker = bus.worker(name="w")
    worker.run_until_idle()

    def meanwhile() -> None:
        clock.advance(31.0)
        assert bus.store.leases.grant(KEY, "other", 1_000).holder == "other"
        worker.lanes[0].hold()

    MEANWHILE.append(meanwhile)
    bus.send(Entered("1", "a"), to="e")
    worker.run_until_idle()
    tally = worker.lanes[0].tally
    assert tally.again == {"fence": 1}
    assert min(tally.waited, tally.parked) > 0
    assert bus.store.load([Want(KEY)])[0].versions[0].dot.counter == 1
    clock.advance(2.0)
    worker.run_until_idle()
    assert (RUNS, entries(bus)) == (["opened", "a", "a"], ["a"])


def test_worker_that_restarts_under_its_name_does_not_hold_what_it_held(bus: Bus, clock: Clock) -> None:
    """The life before may still be at work somewhere; its leases end with their time, like those of any other."""
    work(bus, Opened("1"))

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    MEANWHILE.append(die)
    with pytest.raises(Killed):
        work(bus, Entered("1", "a"))
    before = holder(bus)
    assert before.startswith("w/e/")
    RUNS.clear()
    clock.advance(29.0)
    _, tally = work(bus, Entered("1", "b"))
    assert (RUNS, holder(bus)) == ([], before)
    assert min(tally.waited, tally.parked) > 0
    clock.advance(3.0)
    work(bus)
    assert sorted(RUNS) == ["a", "b"]


# -- the leases in hand ------------------------------------------------------------------------------------------


def grant(holder: str, until_ms: int, token: int = 1) -> Grant:
    return Grant(holder, token, until_ms, 0)


class SlowStore(MemoryStore):
    """A store whose answers to renewals are overtaken by what *meanwhile* does."""

    def __init__(self) -> None:
        super().__init__(now_ms=lambda: 0)
        self.meanwhile: Callable[[], object] = lambda: None
        self.leases = self  # type: ignore[assignment]

    def renew(self, grants: Mapping[Any, Grant], ttl_ms: int) -> dict[Any, Grant | None]:
        renewed: dict[Any, Grant | None] = {key: evolve(mine, until_ms=ttl_ms) for key, mine in grants.items()}
        self.meanwhile()
        return renewed


@pytest.fixture
def slow() -> SlowStore:
    return SlowStore()


@pytest.fixture
def in_hand(slow: SlowStore) -> LeasesInHand:
    made = LeasesInHand(slow, holder="me", ttl_ms=500, log=get_logger())
    assert made.take(KEY, grant("me", 100))
    return made


def test_renewal_counts_from_then_on(slow: SlowStore, in_hand: LeasesInHand) -> None:
    """What is committed next shows the later end; an older answer of the store does not bring the earlier one back."""
    in_hand.renew()
    assert in_hand.latest(KEY).until_ms == 500
    assert in_hand.take(KEY, grant("me", 100))
    assert in_hand.latest(KEY).until_ms == 500


@pytest.mark.parametrize("token", [1, 2])
def test_renewal_that_was_overtaken_changes_only_what_it_renewed(
    slow: SlowStore, in_hand: LeasesInHand, token: int
) -> None:
    """The lane may give a lease back, and take it anew, while a renewal is on its way."""
    slow.meanwhile = lambda: in_hand.given_back(KEY)
    in_hand.renew()
    with pytest.raises(KeyError):
        in_hand.latest(KEY)
    in_hand.take(KEY, grant("me", 100))
    slow.meanwhile = lambda: in_hand.take(KEY, grant("me", 200, token))
    in_hand.renew()
    assert in_hand.latest(KEY).until_ms == (500 if token == 1 else 200)


def test_lease_that_the_store_has_lost_lets_nothing_pass(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover another may have been granted it: a renewal that fails is believed before the time is up."""
    work(bus, Opened("1"))
    worker = bus.worker(name="w")
    worker.run_until_idle()

    def meanwhile() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(bus.store.leases, "renew", lambda grants, ttl_ms: dict.fromkeys(grants))
            worker.lanes[0].hold()

    MEANWHILE.append(meanwhile)
    bus.send(Entered("1", "a"), to="e")
    worker.run_until_idle()
    assert worker.lanes[0].tally.again == {"fence": 1}
    assert (RUNS, entries(bus), holder(bus)) == (["opened", "a", "a"], ["a"], "")


def test_lease_that_somebody_else_has_is_not_in_hand(in_hand: LeasesInHand) -> None:
    """What was held before is not any more."""
    assert not in_hand.take(KEY, grant("other", 100, 2))
    with pytest.raises(KeyError):
        in_hand.latest(KEY)


def test_nothing_in_hand_costs_nothing(slow: SlowStore, in_hand: LeasesInHand) -> None:
    """A lane without exclusive sagas asks the store for nothing, however often it shows signs of life."""
    in_hand.given_back(KEY)
    slow.meanwhile = lambda: pytest.fail("it asked")
    in_hand.renew()
    in_hand.give_back()


def test_recording_of_a_serial_saga_is_the_same_once_it_is_exclusive(bus: Bus) -> None:
    """Batches are replayed as they were recorded: what changed is how the saga is run, and not what comes out."""
    serial = Bus(store="memory:", transport="memory:")
    serial.endpoint("e", PlainLedger)
    serial.send_many([Opened("1"), Entered("1", "a"), Entered("1", "b")], to="e")
    serial.worker().run_until_idle()
    recorded = record(serial.store, KEY, "app:bus")
    assert max(len(entry.messages) for entry in recorded.history) > 1
    definition = bus.saga("Ledger")
    assert definition is not None
    assert rerun(definition, recorded).verdict == "same"
