"""What a worker counts: once for each message, under names of which there is a bounded number."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest
from attrs import define

from sagabus import Bus, Context, MergeSagaState, RetryPolicy, Saga, handles, message, starts
from sagabus.envelope import encode, rfc3339, wrap
from sagabus.telemetry.card import WorkerCard, decode_card, encode_card
from sagabus.telemetry.counters import EndpointCounts, TypeCounts, ms_of, total
from sagabus.testing.presence_contract import worker_card
from tests.integration.apps import Clock, memory_parts, put


@message("count.begin")
class Begin:
    key: str


@message("count.add")
class Add:
    key: str
    what: str = ""


@message("count.unknown-here")
class UnknownHere:
    pass


@define
class Notes:
    notes: str = ""


def longest(siblings: Any) -> Notes:
    if REFUSES:
        raise ValueError(REFUSES[0])
    return Notes(max(siblings, key=lambda s: (len(s.notes), s.notes)).notes)


class Noting(Saga[Notes], key="key", merger=longest):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def added(self, m: Add) -> None:
        if m.what == "fail":
            raise ValueError(m.what)
        if m.what == "race":
            # Another worker is faster: what it stores is not seen by this run.
            OTHERS.pop()()
        self.state.notes += m.what

    @handles
    def merged(self, m: MergeSagaState) -> None: ...

    def decide(self) -> None:
        if self.state.notes == "end":
            self.complete()
        elif self.state.notes:
            self.send(UnknownHere(), to="mail")


OTHERS: list[Any] = []
REFUSES: list[str] = []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(clock: Clock) -> Bus:
    store, transport = memory_parts(clock)
    bus = Bus(store=store, transport=transport)
    bus.endpoint(
        "notes", Noting, retry=RetryPolicy(max_attempts=2, first_delay_s=1.0), early=RetryPolicy(max_attempts=1)
    )
    mail = bus.endpoint("mail")

    @mail.consumer
    def mailed(m: UnknownHere, context: Context) -> None: ...

    return bus


def work(bus: Bus, *messages: Any) -> dict[str, EndpointCounts]:
    """Have a worker do all that is there."""
    bus.send_many(messages, to="notes")
    worker = bus.worker(name="w")
    worker.run_until_idle()
    return worker.counts()


def test_messages_handled_are_counted_by_endpoint_and_type(bus: Bus) -> None:
    """Each once, with how long it took from its sender to its ack, and how long handlers ran."""
    counts = work(bus, Begin("1"), Begin("2"), Add("1", "x"))
    assert counts["notes"].types == {"count.begin": TypeCounts(2), "count.add": TypeCounts(1)}
    assert counts["mail"].types == {"count.unknown-here": TypeCounts(1)}
    assert (counts["notes"].stored, counts["notes"].handled) == (2, 3)
    assert counts["notes"].latency.count == 3
    # The two runs of sagas, and the call of a consumer.
    assert (counts["notes"].handlers.count, counts["mail"].handlers.count) == (2, 1)


def test_latency_is_from_the_sender_to_the_ack(bus: Bus, clock: Clock) -> None:
    """By the store's clock. A sender whose clock is ahead took no time; one that says no time is left out."""
    for made_ms, name in ((clock.ms() - 3000, "a"), (clock.ms() + 9000, "b")):
        put(bus, "notes", encode(wrap(Begin(name), id=name, source="/t", now_ms=made_ms)))
    body = encode(wrap(Begin("c"), id="c", source="/t", now_ms=0)).replace(rfc3339(0).encode(), b"yesterday")
    put(bus, "notes", body)
    latency = work(bus)["notes"].latency
    assert (latency.count, latency.total) == (2, pytest.approx(3.0, abs=0.5))


def test_tries_failures_and_dead_letters_are_counted(bus: Bus, clock: Clock) -> None:
    """A message that fails each time fails twice, is tried again once, and is dead; who is early has not failed."""
    worker = bus.worker(name="w")
    bus.send_many([Begin("1"), Add("1", "fail"), Add("nobody")], to="notes")
    worker.run_until_idle()
    clock.advance(5.0)
    worker.run_until_idle()
    counts = worker.counts()["notes"]
    assert counts.types["count.add"] == TypeCounts(handled=0, failed=2, retried=1, dead=2)
    assert (counts.early, counts.dead, counts.failed) == (1, 2, 2)


def test_names_that_anybody_may_make_up_are_counted_as_other(bus: Bus) -> None:
    """Types that the app has no handler for, bodies that nobody can read: a bounded number of names."""
    for n in range(20):
        put(bus, "notes", encode(wrap(UnknownHere(), id=f"u{n}", source="/t", now_ms=0)).replace(b"-here", b"-%d" % n))
    put(bus, "notes", encode(wrap(UnknownHere(), id="known", source="/t", now_ms=0)))
    put(bus, "notes", b"nothing of the kind")
    assert work(bus)["notes"].types == {"other": TypeCounts(dead=22)}


def test_forks_merges_and_dropped_decisions_are_counted(bus: Bus) -> None:
    """And how many versions a saga was found with."""
    work(bus, Begin("1"))
    OTHERS.append(lambda: work(bus, Add("1", "xx")))
    counts = work(bus, Add("1", "race"))["notes"]
    assert (counts.forked, counts.dropped_decisions, counts.posted_merges) == (1, 1, 1)
    assert (counts.merges, counts.folded) == (1, 2)
    assert counts.siblings.counts[:2] == [1, 1]
    assert counts.outcomes() == {("stored", ""): 1, ("forked", ""): 1, ("late", ""): 0, ("duplicate", ""): 0}
    assert work(bus, Add("1", "y"), Add("1", "z"))["notes"].stored == 1


def test_runs_whose_siblings_cannot_be_folded_are_counted(bus: Bus, clock: Clock) -> None:
    """Each time they are tried; what they would have handled is put off, and has not failed."""
    work(bus, Begin("1"))
    OTHERS.append(lambda: work(bus, Add("1", "xx")))
    REFUSES.append("no value can stand for both")
    worker = bus.worker(name="w")
    bus.send(Add("1", "race"), to="notes")
    worker.run_until_idle()
    counts = worker.counts()["notes"]
    assert (counts.forked, counts.merges, counts.unmergeable, counts.failed) == (1, 0, 1, 0)
    REFUSES.clear()
    clock.advance(5.0)
    worker.run_until_idle()
    counts = worker.counts()["notes"]
    assert (counts.merges, counts.unmergeable) == (1, 1)


def test_late_and_repeated_messages_are_counted(bus: Bus) -> None:
    """Both are handled: nothing is left to do for them."""
    work(bus, Begin("1"), Add("1", "end"))
    bus.send(Add("1", "later"), to="notes", id="same")
    assert work(bus)["notes"].late == 1
    bus.send(Add("1", "later"), to="notes", id="same")
    counts = work(bus)["notes"]
    assert (counts.repeated, counts.handled, counts.stored) == (1, 1, 0)


def test_counts_of_several_are_added_up_and_nobodys_own(bus: Bus) -> None:
    """A sum goes on being what it was when others count on."""
    one, other = (
        {"a": EndpointCounts(stored=1)},
        {"a": EndpointCounts(stored=2), "b": EndpointCounts(again={"fence": 1})},
    )
    one["a"].type("t").handled = 5
    summed = total([one, other])
    one["a"].stored += 1
    one["a"].type("t").handled += 1
    assert (summed["a"].stored, summed["a"].handled, summed["b"].again) == (3, 5, {"fence": 1})
    assert total([summed, summed])["a"].stored == 6


def test_counts_can_be_read_while_a_thread_counts() -> None:
    """Without a lock: no number falls, none is torn, and new names disturb no reader."""
    counts = {"e": EndpointCounts()}
    stop = threading.Event()

    def count() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            counts["e"].type(f"t{n % 500}").handled += 1
            counts["e"].again[f"r{n % 300}"] = n
            counts["e"].latency.note(0.001 * (n % 50))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        seen = [total([counts])["e"] for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    for before, after in pairwise(seen):
        assert before.handled <= after.handled
        assert all(b <= a for b, a in zip(before.latency.counts, after.latency.counts, strict=True))


def test_card_that_cannot_be_read_still_says_whose_it_is() -> None:
    """Whatever another version has written there: the worker is there."""
    assert decode_card("w", b"\xc1", 7) == WorkerCard("w", seen_ms=7, state="unreadable")
    card = worker_card()
    assert decode_card(card.worker, encode_card(card), 0) == card


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1000.0),
        ("1970-01-01T01:00:01.5+01:00", 1500.0),
        ("1970-01-01T00:00:01", None),
        ("", None),
        ("soon", None),
    ],
)
def test_time_of_an_envelope_is_read_where_it_says_one(text: str, ms: float | None) -> None:
    """RFC 3339, with any offset; a time without one is anybody's guess."""
    assert ms_of(text) == ms
