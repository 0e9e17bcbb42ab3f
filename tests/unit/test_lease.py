"""What users of `bus.lease` see: one holder at a time, renewed while it works, and told when it was not alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from attrs import define

from sagabus import Bus, Lease
from sagabus.errors import (
    ConfigurationError,
    FenceError,
    LeaseError,
    LeaseHeldError,
    LeaseLostError,
    StoreFullError,
    StoreUnavailableError,
)
from sagabus.leases import lease as module
from sagabus.leases.grant import Grant, LeaseKey
from sagabus.store.memory import MemoryStore
from tests.documents import run
from tests.servers import until

START_MS = 1_700_000_000_000
NEVER_S = 3600.0
"""A time to live so long that no renewal comes while a test runs, but those that it asks for."""


class Clock:
    """The store's clock, which the test moves."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


class Watched:
    """The leases of a store in memory. Each renewal is told, and may be held up or made to fail."""

    def __init__(self, clock: Clock) -> None:
        self.inner = MemoryStore(now_ms=clock).leases
        self.renewals = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.before_answer: Callable[[], None] = lambda: None
        self.failure: Exception | None = None

    def grant(self, key: LeaseKey, holder: str, ttl_ms: int) -> Grant:
        return self.inner.grant(key, holder, ttl_ms)

    def renew(self, grants: Mapping[LeaseKey, Grant], ttl_ms: int) -> dict[LeaseKey, Grant | None]:
        try:
            if self.failure is not None:
                raise self.failure
            answer = self.inner.renew(grants, ttl_ms)
            self.renewals.release()
            assert self.go_on.wait(60)
            return answer
        except Exception:
            self.renewals.release()
            raise

    def release(self, grants: Mapping[LeaseKey, Grant]) -> set[LeaseKey]:
        if self.failure is not None:
            raise self.failure
        return self.inner.release(grants)

    def read(self, keys: Sequence[LeaseKey]) -> list[Grant | None]:
        return self.inner.read(keys)

    def renewed(self) -> None:
        """Wait until one more renewal was asked for."""
        assert self.renewals.acquire(timeout=60)

    def running(self, name: str = "lock") -> bool:
        """Return whether anybody holds the lease."""
        (last,) = self.inner.read([name])
        return last is not None and last.running


@pytest.fixture
def clock() -> Clock:
    """Return the store's clock."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[Watched]:
    """Yield leases that can be watched; whatever is held up goes on in the end."""
    watched = Watched(clock)
    yield watched
    watched.go_on.set()


def lease(store: Watched, *, ttl_s: float = NEVER_S, wait_s: float = 0.0) -> Lease:
    """Return another lease of the same name."""
    return Lease(lambda: store, "lock", ttl_s=ttl_s, wait_s=wait_s)


def renewers() -> list[threading.Thread]:
    """Return the threads that renew a lease of the tests."""
    return [thread for thread in threading.enumerate() if thread.name == "lease-lock"]


# -- taking and giving back ----------------------------------------------------------------------------------------


def test_lease_is_held_in_its_block_and_free_after_it(store: Watched) -> None:
    """Others hear who holds it, for how long, and how to wait."""
    with lease(store) as held:
        with pytest.raises(LeaseHeldError, match=r"'lock' is held by .* for another 3600.0 s.*wait_s=") as caught:
            lease(store).acquire()
        error = caught.value
        assert (error.lease, error.remaining_s) == ("lock", NEVER_S)
        assert f":{os.getpid()}:" in error.holder
        first = held.token
    with lease(store) as held:
        assert held.token > first


def test_bus_gives_leases_of_its_store() -> None:
    """By name; documents written with one show its token."""
    with Bus(store="memory:", transport="memory:") as bus, bus.lease("lock") as held:
        with pytest.raises(LeaseHeldError):
            bus.lease("lock").acquire()
        with bus.lease("other"):
            assert bus.documents.create("x", Value(), fence=held).value == Value()


@define
class Value:
    """What is protected."""

    n: int = 0


def test_lease_is_given_back_where_the_block_fails(store: Watched) -> None:
    """The block's own error goes on its way."""

    def work() -> None:
        with lease(store):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        work()
    assert not store.running()
    assert getattr(caught.value, "__notes__", []) == []


def test_lease_released_twice_is_no_error(store: Watched) -> None:
    """Nor is one that was never taken; the second release takes it from nobody."""
    mine, other = lease(store), lease(store)
    mine.release()
    mine.acquire()
    mine.release()
    other.acquire()
    mine.release()
    assert store.running()
    other.release()


def test_lease_may_be_taken_again_after_its_release(store: Watched) -> None:
    """With a higher token each time, and one thread that renews it."""
    mine, tokens = lease(store), []
    for _ in range(3):
        with mine:
            tokens.append(mine.token)
            until(lambda: len(renewers()) == 1, "the end of the last renewer")
    assert tokens == sorted(set(tokens))
    until(lambda: not renewers(), "the end of the renewer")


def test_lease_taken_twice_through_one_object_is_refused(store: Watched) -> None:
    """A lease is held once; two holders are two objects."""
    with lease(store) as held:
        with pytest.raises(ConfigurationError, match="held through this object already; make another one"):
            held.acquire()
        assert held.fence().token == held.token


def test_lease_that_is_not_held_has_no_fence(store: Watched) -> None:
    """Before it is taken, which is a mistake in the program, and after it was given back."""
    asks: list[Callable[[Lease], object]] = [Lease.fence, Lease.check, lambda one: one.token]
    for ask in asks:
        mine = lease(store)
        with pytest.raises(ConfigurationError, match=r"'lock' was not taken yet; use it in a with block"):
            ask(mine)
        with mine:
            ask(mine)
            token = mine.token
        with pytest.raises(LeaseLostError, match=rf"'lock' \(token {token}\) has ended"):
            ask(mine)


@pytest.mark.parametrize(
    ("ttl_s", "wait_s"), [(0, 0), (-1, 0), (float("nan"), 0), (1e9, 0), (1, -1), (1, float("nan"))]
)
def test_times_that_no_lease_can_have_are_refused(ttl_s: float, wait_s: float) -> None:
    """Before anything is asked of the store."""
    with pytest.raises(ConfigurationError, match=r"'lock' with ttl_s=.*above 0 and of at most 604800"):
        Bus(store="memory:", transport="memory:").lease("lock", ttl_s=ttl_s, wait_s=wait_s)


@pytest.mark.parametrize("name", ["", "x" * 501, None, "\ud800"])
def test_name_that_no_lease_can_have_is_refused(name: Any) -> None:
    """As for documents."""
    with pytest.raises(ConfigurationError, match="is no name of a lease"):
        Bus(store="memory:", transport="memory:").lease(name)


# -- waiting -------------------------------------------------------------------------------------------------------


class Patience:
    """A clock and a sleep of its own for whoever waits; between two looks something may happen."""

    def __init__(self, happens: Callable[[float], None] = lambda now_s: None) -> None:
        self.now_s, self.happens, self.pauses = 0.0, happens, list[float]()

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.now_s += pause_s
        self.happens(self.now_s)


def test_waiter_takes_the_lease_when_it_is_given_back(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody releases it meanwhile: the next look finds it free."""
    holder = lease(store)
    holder.acquire()
    patience = Patience(lambda now_s: holder.release() if now_s > 2 else None)
    monkeypatch.setattr(module, "time", patience)
    with lease(store, wait_s=60) as held:
        assert held.token
        assert 2 < patience.now_s < 3
    assert max(patience.pauses) <= 0.5


def test_waiter_gives_up_when_his_time_is_over(store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says for how long he waited."""
    patience = Patience()
    with lease(store):
        monkeypatch.setattr(module, "time", patience)
        with pytest.raises(LeaseHeldError, match=r"waited 7\.0 s"):
            lease(store, wait_s=7).acquire()
    assert patience.now_s == pytest.approx(7)


def test_waiter_does_not_sleep_beyond_the_end_of_the_grant(
    store: Watched, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that died is followed as soon as its lease is over."""
    store.grant("lock", "a process that died", 300)

    def pass_time(now_s: float) -> None:
        clock.ms = START_MS + round(now_s * 1000 + 0.5)

    patience = Patience(pass_time)
    monkeypatch.setattr(module, "time", patience)
    with lease(store, wait_s=60):
        assert 0.299 <= patience.now_s <= 0.31


# -- renewal -------------------------------------------------------------------------------------------------------


def test_lease_is_renewed_in_the_background(store: Watched, clock: Clock) -> None:
    """Several times a lease, from the moment it was asked for; its token stays."""
    with lease(store, ttl_s=0.03) as held:
        token, end_ms = held.token, held.fence().until_ms
        for _ in range(3):
            clock.ms += 20
            store.renewed()
        until(lambda: held.fence().until_ms >= end_ms + 60, "the renewal")
        assert held.token == token
        assert store.running()


def test_lease_that_ended_unnoticed_is_told_at_the_end(store: Watched, clock: Clock) -> None:
    """Its holder was paused beyond it: whoever leaves the block without an error hears that he was not alone."""
    tokens = []

    def work() -> None:
        with lease(store) as held:
            tokens.append(held.token)
            clock.ms += round(NEVER_S * 1000)
            with lease(store) as other:
                assert other.token > held.token

    with pytest.raises(LeaseLostError, match=r"'lock' \(token \d+\) has ended.*fence=lease") as caught:
        work()
    assert (caught.value.lease, caught.value.token) == ("lock", *tokens)


def test_loss_does_not_hide_the_error_of_the_block(store: Watched, clock: Clock) -> None:
    """Which goes on its way, with a note."""

    def work() -> None:
        with lease(store):
            clock.ms += round(NEVER_S * 1000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        work()
    (note,) = caught.value.__notes__
    assert "has ended" in note


def test_unreachable_store_does_not_hide_the_error_of_the_block(store: Watched) -> None:
    """What could not be given back ends by itself, and the error's note says so; alone, it is raised."""
    problem = StoreUnavailableError("redis://nowhere", "timeout")

    def work() -> None:
        with lease(store):
            store.failure = problem
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        work()
    assert caught.value.__notes__ == [str(problem)]
    store.failure = None

    def work() -> None:
        with Lease(lambda: store, "other", ttl_s=1):
            store.failure = problem

    with pytest.raises(StoreUnavailableError):
        work()


def test_renewer_notices_the_loss_and_the_holder_hears_it(store: Watched, clock: Clock) -> None:
    """From then on there is no fence, the block ends with an error, and giving back takes it from nobody."""
    held = lease(store, ttl_s=0.03)

    def work() -> None:
        with held:
            clock.ms += 1000
            other = store.grant("lock", "other", 60_000)
            assert other.holder == "other"
            until(lambda: held._lost, "the notice of the loss")
            for ask in (held.fence, held.check, lambda: held.token):
                with pytest.raises(LeaseLostError, match="stop the work it protects"):
                    ask()

    with pytest.raises(LeaseLostError):
        work()
    assert store.running()
    until(lambda: not renewers(), "the end of the renewer")


def test_check_asks_the_store_and_renews(store: Watched, clock: Clock) -> None:
    """Between two steps of long work: held on, or lost."""

    def work() -> None:
        with lease(store) as held:
            clock.ms += 1000
            held.check()
            assert held.fence().until_ms == clock.ms + round(NEVER_S * 1000)
            clock.ms += round(NEVER_S * 1000)
            with pytest.raises(LeaseLostError):
                held.check()

    with pytest.raises(LeaseLostError):
        work()


def test_renewal_under_way_brings_no_released_lease_back(store: Watched) -> None:
    """It was asked for before the release and answered after: the object holds nothing and may take the lease again."""
    held = lease(store, ttl_s=0.03)
    store.go_on.clear()
    held.acquire()
    store.renewed()  # its answer is held up
    held.release()
    (thread,) = renewers()
    store.go_on.set()
    thread.join(60)
    with pytest.raises(LeaseLostError):
        held.fence()
    with held:
        assert held.fence()


def test_renewal_of_an_earlier_grant_says_nothing_about_the_next(store: Watched, clock: Clock) -> None:
    """The same, and the lease was taken again before the old answer came."""
    held = lease(store, ttl_s=0.3)
    store.go_on.clear()
    held.acquire()
    clock.ms += 1000
    store.renewed()  # it came too late, and nobody has heard so yet
    (old,) = renewers()
    held.release()
    held.ttl_s = NEVER_S
    held.acquire()
    fence = held.fence()
    store.go_on.set()
    old.join(60)
    assert held.fence() == fence
    held.release()


@pytest.mark.parametrize("failure", [StoreUnavailableError("redis://nowhere", "timeout"), StoreFullError("full")])
def test_renewal_that_fails_is_tried_again(store: Watched, clock: Clock, failure: Exception) -> None:
    """A store that does not answer for a moment costs nobody his lease."""
    held = lease(store, ttl_s=0.9)
    with held:
        store.failure = failure
        store.renewed()
        clock.ms += 100
        store.failure = None
        before = held.fence().until_ms
        until(lambda: held.fence().until_ms > before, "the next renewal")


def test_renewer_gives_up_where_nothing_is_heard_for_a_whole_lease(store: Watched) -> None:
    """Nobody may rely on such a lease: its holder is told, and the thread ends, also if nobody gives it back."""
    held = lease(store, ttl_s=0.03)
    held.acquire()
    store.failure = StoreUnavailableError("redis://nowhere", "timeout")
    until(lambda: held._lost, "giving up")
    until(lambda: not renewers(), "the end of the renewer")
    with pytest.raises(LeaseLostError):
        held.fence()
    held.release()


# -- fences --------------------------------------------------------------------------------------------------------


def test_holder_who_was_paused_writes_nothing(clock: Clock) -> None:
    """He still believes in his lease; the store does not, whether or not others have written meanwhile."""
    bus = Bus(store=MemoryStore(now_ms=clock), transport="memory:")

    def work() -> None:
        with bus.lease("lock", ttl_s=NEVER_S) as mine:
            found = bus.documents.create("x", Value(1), fence=mine)
            clock.ms += round(NEVER_S * 1000)
            with pytest.raises(FenceError, match=r"is expired.*take the lease again") as caught:
                bus.documents.put("x", Value(2), etag=found.etag, fence=mine)
            assert isinstance(caught.value, LeaseError)
            with bus.lease("lock", ttl_s=NEVER_S) as other:
                assert bus.documents.put("x", Value(3), etag=found.etag, fence=other).value == Value(3)

    with pytest.raises(LeaseLostError):
        work()


def test_lost_lease_does_not_even_try_to_write(store: Watched, clock: Clock) -> None:
    """Where the loss is known, the error says so at once."""
    bus = Bus(store="memory:", transport="memory:")
    held = lease(store)
    held.acquire()
    held.release()
    with pytest.raises(LeaseLostError):
        bus.documents.create("x", Value(), fence=held)
    assert not bus.documents.load("x", Value).exists


# -- processes -----------------------------------------------------------------------------------------------------


def test_forked_process_does_not_hold_the_lease(store: Watched) -> None:
    """A child copies the object, not the lease: it shows no fence, and takes nothing from its parent."""
    held = lease(store)
    with held:
        process = held._process
        held._process = process + 1  # what a fork changes: who one is
        with pytest.raises(ConfigurationError, match=rf"held by process {process + 1}, and this is {process}.*take"):
            held.fence()
        with pytest.raises(ConfigurationError):
            held.check()
        held.release()
        held.__exit__(None, None, None)
        assert store.running()
        held._process = process
        assert held.fence()
    assert not store.running()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_child_that_leaves_the_block_leaves_the_lease_alone(store: Watched) -> None:
    """Forked in the middle of a block, and out of it by its end."""
    held = lease(store)
    reading, writing = os.pipe()
    with held:
        child = os.fork()
        if child == 0:
            said = b"held"
            try:
                held.__exit__(None, None, None)
                held.fence()
            except ConfigurationError:
                said = b"not held"
            finally:
                os.write(writing, said)
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 100) == b"not held"
        assert held.fence()
    os.close(reading)
    os.close(writing)


def test_program_may_end_with_a_lease_in_its_hands(tmp_path: Any) -> None:
    """It ends at once and without complaint; the lease ends by itself."""
    program = (
        "from sagabus import Bus\n"
        "bus = Bus(store='memory:', transport='memory:')\n"
        "lease = bus.lease('lock', ttl_s=0.03)\n"
        "lease.acquire()\n"
        "print(lease.token > 0)\n"
    )
    began_s = time.monotonic()
    done = run(tmp_path, "-c", program)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
    assert time.monotonic() - began_s < 60
