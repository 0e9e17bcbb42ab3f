"""Behaviour that users of the ancestors rely on, and the formats that stay readable for ever."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sagabus.commit import HistoryEntry, Lifecycle, Outcome
from sagabus.envelope import Envelope, Incoming, SagaKey, decode
from sagabus.link import Command
from sagabus.outgoing import OutgoingKind, from_lines, merge_id, posted_merge
from sagabus.store.protocol import DeadLetter, Scheduled, Store
from sagabus.store.redis import RedisStore
from sagabus.testing.store_contract import put, read, states, writing
from sagabus.versions import Dot
from tests.changes import evolve
from tests.sagas_for_tests import (
    CheckCredit,
    CreditDecided,
    CreditState,
    Fail,
    Hand,
    Note,
    Tally,
    TallyState,
    bound,
    incoming,
    score,
)

GOLDEN = Path(__file__).parent.parent / "fixtures" / "wire_format_1.json"


@pytest.fixture
def hand(either_store: Store) -> Hand:
    """Return a hand on a credit check that has started."""
    hand = Hand(either_store)
    hand.start()
    return hand


# -- what the ancestors promised ---------------------------------------------------------------------------------


def test_message_that_continues_a_saga_with_none_started_does_not_run_its_handler(either_store: Store) -> None:
    """It is early: nothing is handled and nothing is stored."""
    hand = Hand(either_store)
    commit = hand.run(hand.load(), score("a"))
    assert ([m.id for m in commit.early], commit.ids) == (["a"], ())


def test_starting_twice_with_one_key_reuses_the_saga(hand: Hand) -> None:
    """A second start on a live saga is handled like any message, by the same saga with the state that it has."""
    hand.handle(score("a"))
    again = incoming(CheckCredit("42"), "start-2", replyto="somebody-else")
    assert hand.definition.locate(again) == "42"
    commit, result = hand.handle(again)
    assert (commit.begins_life, result.outcome, result.live) == (False, Outcome.STORED, 1)
    assert hand.states()[0].scores == {"a": 700}
    assert [row.key for row in hand.store.sagas()] == [hand.key]
    assert b'"replyto":"client"' in hand.load().starter


def test_saga_without_key_gets_an_id(either_store: Store) -> None:
    """It is named after the message that started it; what belongs to no started saga finds none."""
    definition = bound(Tally, endpoint="tally")
    start = incoming(Note("first"), "message-1")
    saga_id = definition.locate(start)
    assert saga_id == "message-1"
    hand = Hand(either_store, definition, saga_id)
    hand.handle(start)
    assert hand.states() == [TallyState(1, ["first"])]


def test_second_message_sees_the_first_ones_state(hand: Hand) -> None:
    """What one message left is there for the next."""
    hand.handle(score("a", 1))
    hand.handle(score("b", 2))
    assert hand.states()[0].scores == {"a": 1, "b": 2}


def test_after_completion_the_saga_is_gone_to_its_handlers_and_readable_as_history(hand: Hand) -> None:
    """A completed saga handles nothing more; its last state and how it got there can still be read."""
    hand.handle(score("a"), score("b"), score("c"))
    commit, _ = hand.handle(score("d"))
    assert commit.late
    assert hand.states()[0].scores == {"a": 700, "b": 700, "c": 700}
    assert [e.completed for e in hand.store.history(hand.key)] == [False, True, False]


def test_two_parentless_first_writes_are_two_siblings(either_store: Store) -> None:
    """Nobody had seen anything, so neither supersedes the other."""
    nothing = read(either_store)
    put(either_store, writing(nothing, b"a", "1"))
    put(either_store, writing(nothing, b"b", "2"))
    assert states(read(either_store)) == [b"a", b"b"]


def test_writing_with_both_parents_resolves_to_one(hand: Hand) -> None:
    """A version computed from both siblings takes their place."""
    siblings = hand.fork(score("a"), score("b"))
    commit, result = hand.handle(incoming(CheckCredit("42"), "n"))
    assert commit.parents == tuple(version.dot for version in siblings.versions)
    assert (result.outcome, result.live) == (Outcome.STORED, 1)
    assert hand.states()[0].scores == {"a": 700, "b": 700}


def test_a_subset_of_parents_leaves_the_other_sibling(hand: Hand) -> None:
    """A merge of what was read leaves alone what came after."""
    base = hand.load()
    third = hand.run(base, score("c"))
    siblings = hand.fork(score("a"), score("b"))
    merging = hand.run(siblings, incoming(CheckCredit("42"), "n"))
    hand.put(third)
    assert hand.put(merging).live == 2
    assert [state.scores for state in hand.states()] == [{"c": 700}, {"a": 700, "b": 700}]


def test_writing_the_same_bytes_with_the_right_parent_makes_no_new_version(either_store: Store) -> None:
    """Nothing changed, so nothing is superseded."""
    put(either_store, writing(read(either_store), b"same", "1"))
    before = read(either_store)
    assert put(either_store, writing(before, b"same", "2")).dot is None
    assert read(either_store).versions == before.versions


def test_a_conflict_at_completion_keeps_the_messages_change_and_completes_with_the_merged_state(hand: Hand) -> None:
    """The facts become a sibling; the saga is called again with the merged state, and completes then, once."""
    hand.handle(score("a", 1))
    base = hand.load()
    hand.handle(score("b", 2))
    completing = hand.run(evolve(base, consumed={}), score("c", 3), score("d", 4))
    assert completing.completes
    assert hand.put(completing).outcome is Outcome.FORKED
    assert [state.scores for state in hand.states()] == [{"a": 1, "b": 2}, {"a": 1, "c": 3, "d": 4}]
    snapshot = hand.load()
    assert snapshot.lifecycle is Lifecycle.LIVE
    commit, result = hand.handle(_merge_under_way(hand))
    assert (commit.merged, commit.completes, result.outcome) == (True, True, Outcome.STORED)
    assert hand.load().lifecycle is Lifecycle.COMPLETED
    assert hand.states()[0].scores == {"a": 1, "b": 2, "c": 3, "d": 4}
    sent = [body for id_ in ("c", "d", snapshot.pending_merge) for body in hand.bodies(id_)]
    assert [body for body in sent if isinstance(body, CreditDecided)] == [CreditDecided("42", 10)]


def _merge_under_way(hand: Hand) -> Incoming:
    """Return the MergeSagaState that is pending, as it would come off the wire."""
    snapshot = hand.load()
    last = next(
        id_
        for entry in hand.store.history(hand.key)
        for id_ in (m.id for m in entry.messages)
        if merge_id(hand.key, snapshot.life, id_) == snapshot.pending_merge
    )
    return Incoming(decode(posted_merge(hand.key, snapshot.life, last, "credit", 1).body))


def test_one_reply_is_found_by_header_though_it_carries_no_key(hand: Hand) -> None:
    """A reply's body says nothing of the saga; its header names the saga and the life that asked."""
    (request, *_) = hand.sent("start")
    asked = decode(request.body)
    assert (asked.replyto, asked.replysaga, asked.replylife) == ("credit", "CreditCheck/42", 1)
    reply = score("a", saga=asked.replysaga, sagalife=asked.replylife)
    assert hand.definition.locate(reply) == "42"
    assert hand.definition.locate(score("a")) is None
    hand.handle(reply)
    assert hand.states()[0].scores == {"a": 700}


def test_no_sends_escape_from_a_handler_that_raised(hand: Hand) -> None:
    """What it had asked for before it raised does not leave, nor does what it changed."""
    commit, _ = hand.handle(score("a"), incoming(Fail(), "f"))
    assert [failure.incoming.id for failure in commit.failures] == ["f"]
    assert "f" not in commit.facts.outgoing
    assert hand.bodies("a") == []
    assert "f" not in hand.load("f").consumed
    assert hand.states()[0] == CreditState({"a": 700}, decisions=2)


def test_parents_of_each_version_are_in_its_history(hand: Hand) -> None:
    """History is the version graph: what each version was computed from, by which message, and who wrote it."""
    siblings = hand.fork(score("a"), score("b"))
    hand.handle(incoming(CheckCredit("42"), "n"))
    start, left, right, merged = hand.store.history(hand.key)
    assert start.parents == ()
    assert left.parents == right.parents == (start.dot,)
    assert merged.parents == (left.dot, right.dot) == tuple(version.dot for version in siblings.versions)
    assert [[m.id for m in e.messages] for e in (start, left, right, merged)] == [["start"], ["a"], ["b"], ["n"]]


def test_concurrent_messages_on_fifty_threads_lose_nothing(either_store: Store) -> None:
    """First, middle and last messages at once: each is handled exactly once, and the merged state has them all."""
    hand = Hand(either_store, bound(Tally, endpoint="tally"), "1")
    ready = threading.Barrier(50)

    def handle(n: int) -> set[Outcome]:
        note = incoming(Note(f"{n:02}"), f"n{n}")
        ready.wait()
        outcomes = set()
        for _ in range(1000):
            commit = hand.run(hand.load(note.id), note)
            if not commit.ids:
                return outcomes
            result = hand.put(commit, by=f"thread-{n}")
            outcomes.add(result.outcome)
        raise AssertionError("each `again` follows somebody else's success, so a thousand in a row cannot be")

    with ThreadPoolExecutor(50) as threads:
        seen = set().union(*threads.map(handle, range(50)))
    assert Outcome.STORED in seen
    ids = [f"n{n}" for n in range(50)]
    assert set(hand.load(*ids).consumed) == set(ids)
    if hand.load().pending_merge:
        hand.handle(_merge_under_way(hand))
    assert hand.states() == [TallyState(50, [f"{n:02}" for n in range(50)])]
    handled = [m.id for entry in hand.store.history(hand.key) for m in entry.messages]
    assert sorted(id_ for id_ in handled if id_ in ids) == sorted(ids)


# -- golden fixtures: written once by version 1 of the format ----------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> Any:
    """Return what version 1 wrote."""
    return json.loads(GOLDEN.read_text("utf-8"))


@pytest.fixture
def golden_store(golden: Any, valkey_url: str) -> Iterator[RedisStore]:
    """Yield a store on the very keys and bytes that version 1 wrote."""
    store = RedisStore(valkey_url, namespace="golden")
    for name, stored in golden["keys"].items():
        value = [[base64.b64decode(a), b if isinstance(b, int) else base64.b64decode(b)] for a, b in pairs(stored)]
        command = {"hash": "HSET", "zset": "ZADD", "list": "RPUSH"}[stored["type"]]
        order = -1 if command == "ZADD" else 1
        flat = [base64.b64decode(item) for item in stored["value"]] if command == "RPUSH" else []
        flat += [item for pair in value for item in pair[::order]]
        store.link.round([Command(("DEL", name), name), Command((command, name, *flat), name)])
        if stored["expires"]:
            store.link.round([Command(("PEXPIRE", name, 600_000), name)])
    yield store
    store.link.round([Command(("UNLINK", name), name) for name in golden["keys"]])
    store.close()


def pairs(stored: Any) -> Any:
    """Return the pairs of a stored hash or sorted set; a list has none."""
    return [] if stored["type"] == "list" else stored["value"]


FULL = Envelope(
    specversion="1.0",
    id="o1",
    source="/équifax",
    type="credit.score-reported",
    time="2026-01-02T03:04:05.678Z",
    dataversion=2,
    correlationid="order-7",
    causationid="c-1",
    replyto="credit",
    replysaga="Order/9",
    replylife=3,
    saga="CreditCheck/4{2}/é",
    sagalife=1,
    timer="remind",
    attempt=4,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def fields(envelope: Envelope) -> dict[str, Any]:
    """Return the fields of an envelope but its body."""
    return {name: getattr(envelope, name) for name in envelope.__struct_fields__ if name != "data"}


def test_golden_envelope_stays_readable(golden: Any) -> None:
    """Every attribute of version 1's envelopes comes back; what is left out has its default."""
    full = decode(golden["envelopes"]["full"].encode())
    assert fields(full) == fields(FULL)
    assert bytes(full.data) == b'{"bureau":"a","score":700}'
    least = decode(golden["envelopes"]["least"].encode())
    assert (least.dataversion, least.attempt, least.saga, bytes(least.data)) == (1, 1, "", b"{}")


def test_golden_envelope_of_somebody_else_stays_readable(golden: Any) -> None:
    """CloudEvents of other senders may have attributes that we do not know."""
    foreign = decode(golden["envelopes"]["foreign"].encode())
    assert (foreign.source, bytes(foreign.data)) == ("https://example.com/s", b'{"customer":"42"}')


def test_golden_live_record_stays_readable(golden: Any, golden_store: RedisStore) -> None:
    """State, clock, starter, timers, consumed ids and outbox lines of a live saga come back."""
    actor = golden["actor"]
    snapshot = read(golden_store, "start", "other", key=SagaKey("CreditCheck", "4{2}/é"))
    assert (snapshot.lifecycle, snapshot.life, snapshot.clock) == (Lifecycle.LIVE, 1, {actor: 1})
    (version,) = snapshot.versions
    assert (version.dot, version.context, version.parent) == (Dot(actor, 1), {}, None)
    assert version.state == b"\x92\x01\x81\xa6scores\x81\xa1a\xcd\x02\xbc"
    assert (snapshot.timers, snapshot.pending_merge) == ({"remind": "o3"}, "")
    assert snapshot.starter == b'{"id":"start","source":"/client","replyto":"client","correlationid":"order-7"}'
    assert set(snapshot.consumed) == {"start"}
    messages, merge = from_lines(snapshot.consumed["start"])
    assert not merge
    assert [(m.kind, m.to, m.id, m.partition_key, m.due_ms) for m in messages] == [
        (OutgoingKind.COMMAND, "equifax", "o1", "4{2}/é", 0),
        (OutgoingKind.EVENT, "credit.decided", "o2", "k", 0),
        (OutgoingKind.TIMER, "credit", "o3", "k", 1767322999999),
    ]
    assert messages[0].body.decode() == golden["envelopes"]["full"]


def test_golden_forked_record_stays_readable(golden: Any, golden_store: RedisStore) -> None:
    """Siblings with their contexts and parents' states, and the MergeSagaState under way, come back."""
    actor = golden["actor"]
    snapshot = read(golden_store, "r", key=SagaKey("CreditCheck", "forked"))
    assert [(v.dot, v.context, v.state, v.parent) for v in snapshot.versions] == [
        (Dot(actor, 2), {actor: 1}, b"\x92\x01\x81\xa1a\x01", b"\x92\x01\x80"),
        (Dot(actor, 3), {actor: 1}, b"\x92\x01\x81\xa1b\x02", b"\x92\x01\x80"),
    ]
    assert snapshot.pending_merge == merge_id(snapshot.key, 1, "r") == "fcb5e121838ec3011941774be56047a6"
    assert from_lines(snapshot.consumed["r"]) == ([], True)


def test_golden_completed_record_stays_readable(golden: Any, golden_store: RedisStore) -> None:
    """A tombstone keeps its last state, its ids, and what a late message left."""
    snapshot = read(golden_store, "start", "end", "late", key=SagaKey("CreditCheck", ""))
    assert (snapshot.lifecycle, snapshot.clock) == (Lifecycle.COMPLETED, {golden["actor"]: 2})
    assert states(snapshot) == [b"\x92\x02\x80"]
    assert set(snapshot.consumed) == {"start", "end", "late"}
    assert [m.id for m in from_lines(snapshot.consumed["late"])[0]] == ["sorry"]


def test_golden_history_stays_readable(golden: Any, golden_store: RedisStore) -> None:
    """Dots, parents, times, writers, messages and outcomes of every entry come back."""
    actor = golden["actor"]
    history = golden_store.history(SagaKey("CreditCheck", "forked"))
    assert [summary(entry) for entry in history] == [
        (Dot(actor, 1), Outcome.STORED, (), "w1", ["start"], False, False, 1),
        (Dot(actor, 2), Outcome.STORED, (Dot(actor, 1),), "w1", ["l"], False, False, 1),
        (Dot(actor, 3), Outcome.FORKED, (Dot(actor, 1),), "w2", ["q", "r"], False, True, 1),
    ]
    assert all(entry.at_ms > 1_600_000_000_000 for entry in history)
    assert {(entry.loaded_ms, entry.facts, entry.decision) for entry in history} == {(0, None, None)}
    ended = golden_store.history(SagaKey("CreditCheck", ""))
    assert [(*summary(entry)[:2], entry.completed) for entry in ended] == [
        (Dot(actor, 1), Outcome.STORED, False),
        (Dot(actor, 2), Outcome.STORED, True),
        (None, Outcome.LATE, False),
    ]
    (first,) = golden_store.history(SagaKey("CreditCheck", "4{2}/é"))
    assert fields(first.messages[0]) == {**fields(FULL), "id": "start"}


def summary(entry: HistoryEntry) -> tuple[Any, ...]:
    """Return a history entry but its time."""
    ids = [m.id for m in entry.messages]
    return entry.dot, entry.outcome, entry.parents, entry.by, ids, entry.completed, entry.dropped_decision, entry.life


def test_golden_scheduled_and_dead_rows_stay_readable(golden_store: RedisStore) -> None:
    """What waits for its time and what was given up come back with every field."""
    (item,) = golden_store.scheduled()
    assert item == Scheduled("o3", "credit", item.body, 1767322999999, "4{2}/é")
    assert decode(item.body).id == "o3"
    trace = "Traceback\n  ..."
    body, saga = b"\x00\xff no json", "CreditCheck/42"
    assert golden_store.dead() == [
        DeadLetter(
            "d1", "credit", "failed", "ValueError: né", trace, 5, 1767322000000, body, "credit.score-reported", saga
        )
    ]


def test_golden_records_can_be_written_on(golden_store: RedisStore) -> None:
    """This version's script goes on where version 1's stopped: the siblings of then are merged now."""
    key = SagaKey("CreditCheck", "forked")
    result = put(golden_store, writing(read(golden_store, key=key), b"merged", "m"))
    assert (result.outcome, result.live) == (Outcome.STORED, 1)
    assert len(golden_store.history(key)) == 4
    assert {str(row.key) for row in golden_store.sagas()} == {
        "CreditCheck/4{2}/é",
        "CreditCheck/forked",
        "CreditCheck/",
    }
