"""What every store must do, as tests that a new one inherits.

class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with my_private_server() as url:
            yield MyStore(url)

States and message bodies are opaque to a store, so these laws need no saga classes: the commits are made by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve
from msgspec.structs import replace

from sagabus.commit import Commit, Half, Lifecycle, Outcome, Result, Snapshot, Want
from sagabus.definition import Limits
from sagabus.digest import EffectDigest, HalfDigest, hashed
from sagabus.envelope import Envelope, SagaKey
from sagabus.leases.grant import Grant, LeaseRequest
from sagabus.outgoing import Outgoing, OutgoingKind, from_lines, merge_id
from sagabus.store.protocol import Bookkeeping, DeadLetter, Scheduled, Store
from sagabus.testing.document_contract import DocumentStoreContract
from sagabus.testing.index_contract import IndexContract
from sagabus.testing.lease_contract import LeaseStoreContract
from sagabus.testing.letter_contract import LetterStoreContract
from sagabus.testing.presence_contract import PresenceStoreContract
from sagabus.testing.waiting_contract import WaitingStoreContract
from sagabus.versions import Dot, join

KEY = SagaKey("CreditCheck", "42")
SOON_S = 5.0
"""How long a time limit of a few milliseconds may take to pass on a busy machine."""


def read(store: Store, *ids: str, key: SagaKey = KEY) -> Snapshot:
    """Return the snapshot of one saga, and which of *ids* it has consumed."""
    (snapshot,) = store.load([Want(key, ids)])
    return snapshot


def leased(store: Store, holder: str, *ids: str, key: SagaKey = KEY, ttl_ms: int = 60_000) -> Snapshot:
    """Return the snapshot of one saga, read by *holder* under the saga's lease where it gets that."""
    (snapshot,) = store.load([Want(key, ids, LeaseRequest(holder, ttl_ms))])
    return snapshot


def under(snapshot: Snapshot, *, ended: bool = False) -> Grant:
    """Return the grant that *snapshot* was read under, or such a one that has *ended* by the store's clock."""
    assert snapshot.grant is not None
    return evolve(snapshot.grant, until_ms=snapshot.now_ms) if ended else snapshot.grant


def sent(*ids: str, kind: OutgoingKind = OutgoingKind.COMMAND) -> tuple[Outgoing, ...]:
    """Return outgoing messages of these ids."""
    return tuple(Outgoing(kind, "equifax", id_, "42", b'{"data":{}}') for id_ in ids)


def envelope(id_: str) -> Envelope:
    """Return an envelope with nothing in it."""
    return Envelope(specversion="1.0", id=id_, source="/client", type="credit.check")


def writing(snapshot: Snapshot, state: bytes | None, *ids: str, **changes: Any) -> Commit:
    """Return the commit of a run that read *snapshot*, handled *ids* and left *state*; *changes* are fields of it."""
    begins = snapshot.lifecycle is not Lifecycle.LIVE
    commit = Commit(
        key=snapshot.key,
        ids=ids,
        life=snapshot.life + begins,
        begins_life=begins,
        context=dict(snapshot.clock),
        parents=() if begins else tuple(version.dot for version in snapshot.versions),
        facts=Half(state),
        starter=b"started by " + ids[0].encode() if begins else b"",
        messages=tuple(envelope(id_) for id_ in ids),
        loaded_ms=snapshot.now_ms,
    )
    return replace(commit, **changes)


def late(snapshot: Snapshot, *ids: str, **changes: Any) -> Commit:
    """Return the commit that records messages which came after the end of the life that *snapshot* shows."""
    commit = Commit(
        key=snapshot.key,
        ids=ids,
        life=snapshot.life,
        context=dict(snapshot.clock),
        late=True,
        messages=tuple(envelope(id_) for id_ in ids),
        loaded_ms=snapshot.now_ms,
    )
    return replace(commit, **changes)


def put(store: Store, commit: Commit, *, by: str = "worker-1") -> Result:
    """Commit one thing."""
    (result,) = store.commit([commit], by=by)
    return result


def started(store: Store, *, key: SagaKey = KEY, state: bytes = b"s0", id_: str = "start", **changes: Any) -> Snapshot:
    """Start a saga and return what it then is."""
    assert put(store, writing(read(store, key=key), state, id_, **changes)).outcome is Outcome.STORED
    return read(store, key=key)


def forked(store: Store, *, key: SagaKey = KEY, **changes: Any) -> Snapshot:
    """Start a saga, fork it once, and return what it then is: siblings `left` and `right`."""
    base = started(store, key=key, **changes)
    assert put(store, writing(base, b"left", "l", **changes)).outcome is Outcome.STORED
    assert put(store, writing(base, b"right", "r", **changes)).outcome is Outcome.FORKED
    return read(store, key=key)


def completed(store: Store, *, key: SagaKey = KEY, **changes: Any) -> Snapshot:
    """Start a saga, end it, and return its tombstone."""
    base = started(store, key=key, **changes)
    assert put(store, writing(base, b"end", "last", completes=True, **changes)).outcome is Outcome.STORED
    return read(store, key=key)


def states(snapshot: Snapshot) -> list[bytes]:
    """Return the states of the live versions, in dot order."""
    return [version.state for version in snapshot.versions]


def left(snapshot: Snapshot, id_: str) -> list[str]:
    """Return the ids of the messages that *id_* left undispatched; `merge` stands for a MergeSagaState."""
    messages, merge = from_lines(snapshot.consumed[id_])
    return [message.id for message in messages] + (["merge"] if merge else [])


def letter(id_: str, at_ms: int, endpoint: str = "credit", **changes: Any) -> DeadLetter:
    """Return a dead letter."""
    given = DeadLetter(id_, endpoint, "failed", "ValueError: no", "Traceback ...", 5, at_ms, b"\x00\xff{}", "t", "C/1")
    return evolve(given, **changes)


class StoreContract(
    DocumentStoreContract,
    IndexContract,
    LeaseStoreContract,
    LetterStoreContract,
    PresenceStoreContract,
    WaitingStoreContract,
):
    """The laws of `sagabus.store.protocol.Store`, its parts and its commit rules. Inherit it and give it `store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Yield an open store in which nothing is stored yet."""
        raise NotImplementedError("override the store fixture")

    # -- reading -------------------------------------------------------------------------------------------------

    def test_load_of_an_unknown_saga_is_absent(self, store: Store) -> None:
        """What was never written has no life, no clock, no version, and has consumed nothing."""
        snapshot = read(store, "a", "b")
        assert snapshot.lifecycle is Lifecycle.ABSENT
        assert (snapshot.life, snapshot.clock, snapshot.versions, snapshot.consumed) == (0, {}, (), {})
        assert (snapshot.timers, snapshot.pending_merge, snapshot.starter) == ({}, "", b"")
        assert snapshot.now_ms > 1_600_000_000_000

    def test_load_of_many_sagas_keeps_their_order(self, store: Store) -> None:
        """Snapshots come in the order of the wants, absent ones between stored ones."""
        keys = [SagaKey("CreditCheck", str(i)) for i in range(20)]
        store.commit([writing(read(store, key=key), key.id.encode(), "m") for key in keys[::2]], by="w")
        loaded = store.load([Want(key, ("m",)) for key in keys])
        assert [snapshot.key for snapshot in loaded] == keys
        assert [states(s) for s in loaded] == [[k.id.encode()] if i % 2 == 0 else [] for i, k in enumerate(keys)]
        assert [set(s.consumed) for s in loaded] == [{"m"} if i % 2 == 0 else set() for i in range(20)]

    def test_load_and_commit_of_nothing_do_nothing(self, store: Store) -> None:
        """An empty batch is no error."""
        assert store.load([]) == []
        assert store.commit([], by="w") == []
        store.note(Bookkeeping())

    def test_commit_of_many_sagas_answers_each_in_order(self, store: Store) -> None:
        """One call commits many sagas; each has its own outcome."""
        keys = [SagaKey("CreditCheck", str(i)) for i in range(4)]
        first = store.load([Want(key) for key in keys])
        store.commit([writing(first[1], b"x", "a"), writing(first[2], b"x", "b")], by="w")
        commits = [writing(snapshot, b"y", id_) for snapshot, id_ in zip(first, "cacc", strict=True)]
        outcomes = [result.outcome for result in store.commit(commits, by="w")]
        assert outcomes == [Outcome.STORED, Outcome.DUPLICATE, Outcome.FORKED, Outcome.STORED]

    @pytest.mark.parametrize(
        "id_", ["", "4{2}", "}{", "a/b//c", "é ü", "☃", "🦊", "a b\n\t", "%7B", "*?[x]", "\x00", "x" * 500, "..", ":r"]
    )
    def test_saga_ids_of_any_characters_are_kept_apart(self, store: Store, id_: str) -> None:
        """Any text may identify a saga; it comes back as it went, and no two share a record."""
        key, other = SagaKey("CreditCheck", id_), SagaKey("CreditCheck", id_ + "'")
        started(store, key=key, state=b"mine")
        assert states(read(store, key=key)) == [b"mine"]
        assert read(store, key=other).lifecycle is Lifecycle.ABSENT
        assert [row.key for row in store.sagas("CreditCheck")] == [key]

    def test_message_ids_and_timer_names_of_any_characters_are_kept(self, store: Store) -> None:
        """Ids and names are text; none of it is read as anything else."""
        ids = ("{", "m", "v", "s", "é", "a:1", " ", "t{}")
        timers = {f"t {id_}": id_ for id_ in ids}
        commit = writing(read(store), b"s", *ids, facts=Half(b"s", {id_: sent(id_) for id_ in ids}, timers))
        put(store, commit)
        snapshot = read(store, *ids)
        assert {id_: left(snapshot, id_) for id_ in ids} == {id_: [id_] for id_ in ids}
        assert snapshot.timers == timers

    def test_states_of_any_bytes_come_back_exactly(self, store: Store) -> None:
        """A store never looks inside a value: not into numbers past 2**53, nor empty lists, nor text of any kind."""
        state = bytes(range(256)) + b'{"n":9007199254740993,"e":[]}'
        base = started(store, state=state, starter=state)
        assert states(base) == [state]
        assert base.starter == state

    # -- rule 1: ids first ---------------------------------------------------------------------------------------

    def test_commit_of_consumed_ids_is_a_duplicate(self, store: Store) -> None:
        """Rule 1: where all ids are consumed nothing changes, and what they left undispatched comes back."""
        commit = writing(read(store), b"s", "a", "b", facts=Half(b"s", {"a": sent("x", "y")}))
        put(store, commit)
        before = read(store)
        result = put(store, commit)
        assert (result.outcome, result.reason, result.dot) == (Outcome.DUPLICATE, "", None)
        assert set(result.consumed) == {"a", "b"}
        assert [m.id for m in from_lines(result.consumed["a"])[0]] == ["x", "y"]
        assert result.consumed["b"] == b""
        assert replace(read(store), now_ms=0) == replace(before, now_ms=0)
        assert len(store.history(KEY)) == 1

    def test_commit_of_partly_consumed_ids_is_made_again(self, store: Store) -> None:
        """Rule 1: where some ids are consumed nothing changes; the answer says which."""
        base = started(store)
        result = put(store, writing(base, b"t", "new", "start"))
        assert (result.outcome, result.reason) == (Outcome.AGAIN, "consumed")
        assert set(result.consumed) == {"start"}
        assert states(read(store)) == [b"s0"]
        assert "new" not in read(store, "new").consumed

    def test_consumed_ids_of_a_tombstone_are_duplicates(self, store: Store) -> None:
        """Rule 1 holds for completed sagas: a redelivered message is no late one."""
        tomb = completed(store)
        assert put(store, late(tomb, "last")).outcome is Outcome.DUPLICATE
        assert put(store, late(tomb, "last", "new")).reason == "consumed"

    def test_consumed_ids_are_seen_by_stale_and_foreign_runs(self, store: Store) -> None:
        """Rule 1 comes before all others: whatever else is wrong with a commit, consumed ids make it a duplicate."""
        started(store)
        odd = Commit(KEY, ("start",), life=9, context={"ghost": 7}, facts=Half(b"x"), must_settle=True)
        assert put(store, odd).outcome is Outcome.DUPLICATE

    # -- rule 2 and 7: completion --------------------------------------------------------------------------------

    def test_completion_leaves_a_tombstone(self, store: Store) -> None:
        """Rule 7: the tombstone keeps clock, life, ids, starter and the last state."""
        base = started(store)
        result = put(store, writing(base, b"end", "last", completes=True))
        assert result.outcome is Outcome.STORED
        tomb = read(store, "start", "last")
        assert tomb.lifecycle is Lifecycle.COMPLETED
        assert (tomb.life, tomb.starter) == (1, b"started by start")
        assert states(tomb) == [b"end"]
        assert set(tomb.consumed) == {"start", "last"}
        assert tomb.clock == join(base.clock, {result.dot.actor: result.dot.counter} if result.dot else {})
        assert [entry.completed for entry in store.history(KEY)] == [False, True]

    def test_completion_with_unchanged_bytes_keeps_the_version(self, store: Store) -> None:
        """Rules 7 and 8 together: the saga ends though no new version is made."""
        base = started(store)
        result = put(store, writing(base, b"s0", "last", completes=True))
        assert (result.outcome, result.dot) == (Outcome.STORED, None)
        tomb = read(store)
        assert (tomb.lifecycle, tomb.versions, tomb.clock) == (Lifecycle.COMPLETED, base.versions, base.clock)

    def test_completion_drops_timers_and_the_pending_merge(self, store: Store) -> None:
        """Rule 7: nothing is due for a saga that has ended, whoever set it."""
        snapshot = forked(store)
        put(store, writing(snapshot, b"m", "t", facts=Half(b"m", timers={"a": "1"})))
        ending = Half(b"end", timers={"b": "2"})
        put(store, writing(read(store), b"end", "z", facts=ending, decision=ending, completes=True))
        tomb = read(store)
        assert (tomb.timers, tomb.pending_merge, tomb.lifecycle) == ({}, "", Lifecycle.COMPLETED)

    def test_completion_that_forks_does_not_complete(self, store: Store) -> None:
        """Rule 7: a saga ends only where the commit is stored; a fork keeps its facts and goes on."""
        base = started(store)
        put(store, writing(base, b"left", "l"))
        verdict = Half(b"verdict", {"r": sent("verdict")})
        commit = writing(base, b"right", "r", decision=verdict, completes=True)
        assert put(store, commit).outcome is Outcome.FORKED
        snapshot = read(store, "r")
        assert snapshot.lifecycle is Lifecycle.LIVE
        assert states(snapshot) == [b"left", b"right"]
        assert left(snapshot, "r") == ["merge"]
        assert [entry.completed for entry in store.history(KEY)] == [False, False, False]

    def test_completion_without_a_version_needs_a_settled_saga(self, store: Store) -> None:
        """Rule 7: what writes no version settles nothing; from siblings, or from an old read, it is made again."""
        base = started(store)
        put(store, writing(base, b"left", "l"))
        old = put(store, writing(base, None, "o", completes=True))
        put(store, writing(base, b"right", "r"))
        siblings = read(store)
        unmerged = put(store, writing(siblings, None, "u", completes=True))
        assert [(r.outcome, r.reason) for r in (old, unmerged)] == [(Outcome.AGAIN, "settle")] * 2
        assert states(read(store, "o", "u")) == [b"left", b"right"]
        put(store, writing(siblings, b"both", "b"))
        assert put(store, writing(read(store), None, "e", completes=True)).outcome is Outcome.STORED
        assert read(store).lifecycle is Lifecycle.COMPLETED
        assert states(read(store)) == [b"both"]

    def test_late_messages_are_recorded_and_change_no_state(self, store: Store) -> None:
        """Rule 2: the id and what `on_late` sends are kept like any other; the tombstone stays as it is."""
        tomb = completed(store)
        facts = Half(outgoing={"after": sent("sorry")})
        result = put(store, late(tomb, "after", facts=facts), by="w9")
        assert (result.outcome, result.dot, result.live, result.posted_merge) == (Outcome.LATE, None, 1, False)
        snapshot = read(store, "after")
        assert left(snapshot, "after") == ["sorry"]
        assert replace(snapshot, now_ms=0, consumed={}) == replace(tomb, now_ms=0)
        entry = store.history(KEY)[-1]
        assert (entry.outcome, entry.dot, entry.by, entry.life) == (Outcome.LATE, None, "w9", 1)
        assert put(store, late(tomb, "after")).outcome is Outcome.DUPLICATE

    def test_commit_to_a_saga_that_completed_meanwhile_is_made_again(self, store: Store) -> None:
        """Rule 2: a run that read a live saga finds a tombstone, changes nothing, and is told why."""
        base = started(store)
        put(store, writing(base, b"end", "last", completes=True))
        result = put(store, writing(base, b"more", "m"))
        assert (result.outcome, result.reason) == (Outcome.AGAIN, "completed")
        assert states(read(store)) == [b"end"]
        assert put(store, late(base, "m")).outcome is Outcome.LATE

    def test_late_commit_for_a_saga_that_runs_is_made_again(self, store: Store) -> None:
        """Only what is over can be late."""
        base = started(store)
        result = put(store, late(base, "m"))
        assert (result.outcome, result.reason) == (Outcome.AGAIN, "life")

    def test_start_after_completion_begins_a_new_life(self, store: Store) -> None:
        """Rule 7: a restartable saga begins anew, with its clock and ids kept and nothing else."""
        tomb = completed(store)
        put(store, late(tomb, "between"))
        commit = writing(tomb, b"second", "start-2", facts=Half(b"second", timers={"a": "1"}))
        result = put(store, commit)
        assert result.outcome is Outcome.STORED
        snapshot = read(store, "start", "last", "between", "start-2")
        assert (snapshot.lifecycle, snapshot.life) == (Lifecycle.LIVE, 2)
        assert snapshot.starter == b"started by start-2"
        assert states(snapshot) == [b"second"]
        assert snapshot.timers == {"a": "1"}
        assert set(snapshot.consumed) == {"start", "last", "between", "start-2"}
        assert result.dot is not None
        assert result.dot.counter == sum(tomb.clock.values()) + 1
        assert [entry.life for entry in store.history(KEY)] == [1, 1, 1, 2]

    def test_two_starts_of_a_new_life_fork(self, store: Store) -> None:
        """Two concurrent starts are a fork like any other, in the second life too; the first one is the starter."""
        tomb = completed(store)
        assert put(store, writing(tomb, b"a", "s2")).outcome is Outcome.STORED
        assert put(store, writing(tomb, b"b", "s3")).outcome is Outcome.FORKED
        snapshot = read(store)
        assert states(snapshot) == [b"a", b"b"]
        assert (snapshot.life, snapshot.starter) == (2, b"started by s2")

    def test_commit_from_another_life_is_made_again_and_then_late(self, store: Store) -> None:
        """Rule 7: what belongs to an earlier life never touches the present one, but is recorded."""
        base = started(store)
        put(store, writing(base, b"end", "last", completes=True))
        put(store, writing(read(store), b"second", "start-2"))
        result = put(store, writing(base, b"more", "m"))
        assert (result.outcome, result.reason) == (Outcome.AGAIN, "life")
        assert put(store, late(base, "m", facts=Half(outgoing={"m": sent("x")}))).outcome is Outcome.LATE
        snapshot = read(store, "m")
        assert (snapshot.life, states(snapshot), left(snapshot, "m")) == (2, [b"second"], ["x"])

    def test_tombstone_is_gone_after_its_retention(self, store: Store) -> None:
        """After `retention` nothing is left: state, ids, history, listing; the key may then start as if new."""
        limits = Limits(dedupe_window_s=0.02, retention_s=0.02)
        commit = writing(started(store), b"end", "last", completes=True, limits=limits)
        put(store, replace(commit, facts=Half(b"end", {"last": sent("x")})))
        _poll(lambda: read(store).lifecycle is Lifecycle.ABSENT)
        assert read(store, "start", "last").consumed == {}
        assert store.history(KEY) == []
        assert list(store.sagas()) == []
        again = started(store)
        assert (again.life, states(again), again.clock) == (1, [b"s0"], {again.versions[0].dot.actor: 1})

    def test_late_message_does_not_outlive_the_tombstone(self, store: Store) -> None:
        """What a late message leaves goes with the tombstone; it does not make it stay longer."""
        limits = Limits(dedupe_window_s=0.05, retention_s=0.05)
        tomb = completed(store, limits=limits)
        if tomb.lifecycle is Lifecycle.COMPLETED:  # a slow machine may have lost it already
            put(store, late(tomb, "m", limits=limits, facts=Half(outgoing={"m": sent("x")})))
        _poll(lambda: read(store, "m").lifecycle is Lifecycle.ABSENT and store.history(KEY) == [])
        assert read(store, "m").consumed == {}

    def test_new_life_does_not_expire(self, store: Store) -> None:
        """A saga that runs again has no retention that could end it."""
        limits = Limits(dedupe_window_s=0.05, retention_s=0.05)
        tomb = completed(store, limits=limits)
        put(store, writing(tomb, b"second", "start-2", facts=Half(b"second", {"start-2": sent("x")})))
        until_ms = read(store).now_ms + 60
        _poll(lambda: read(store).now_ms > until_ms)
        snapshot = read(store, "start-2")
        assert states(snapshot) == [b"second"]
        assert left(snapshot, "start-2") == ["x"]
        assert len(store.history(KEY)) >= 1

    # -- rule 3: the clock ---------------------------------------------------------------------------------------

    def test_context_beyond_the_clock_is_made_again(self, store: Store) -> None:
        """Rule 3: a run that read what the store has lost since starts over, whatever it lost."""
        base = started(store)
        (actor,) = base.clock
        for context in ({actor: 2}, {"ghost": 1}, {**base.clock, "ghost": 1}):
            result = put(store, writing(base, b"x", "m", context=context))
            assert (result.outcome, result.reason) == (Outcome.AGAIN, "clock")
        assert states(read(store, "m")) == [b"s0"]

    def test_commit_to_a_lost_record_is_made_again(self, store: Store) -> None:
        """Rule 3: a run that read a record which is gone starts over; it never brings half of it back."""
        base = started(store, key=SagaKey("CreditCheck", "other"))
        for commit in (
            writing(replace(base, key=KEY), b"x", "m"),
            late(replace(base, key=KEY), "m"),
            writing(read(store), b"x", "m", life=2),
            writing(read(store), b"x", "m", begins_life=False),
            writing(read(store), b"x", "m", context={"ghost": 1}),
        ):
            result = put(store, commit)
            assert (result.outcome, result.reason) == (Outcome.AGAIN, "clock")
        assert read(store).lifecycle is Lifecycle.ABSENT
        assert store.history(KEY) == []

    # -- rule 4: stored or forked --------------------------------------------------------------------------------

    def test_commit_from_the_present_version_is_stored(self, store: Store) -> None:
        """Rule 4: who has seen everything supersedes it; the new dot is the next of its actor."""
        base = started(store)
        result = put(store, writing(base, b"s1", "m"))
        assert (result.outcome, result.live, result.posted_merge) == (Outcome.STORED, 1, False)
        snapshot = read(store)
        (version,) = snapshot.versions
        assert (version.state, version.dot, version.context) == (b"s1", result.dot, base.clock)
        assert version.dot == Dot(base.versions[0].dot.actor, 2)
        assert snapshot.clock == {version.dot.actor: 2}

    def test_commit_from_a_superseded_read_forks(self, store: Store) -> None:
        """Rule 4: a write computed from an old version becomes a sibling, never an overwrite."""
        base = started(store)
        put(store, writing(base, b"left", "l"))
        result = put(store, writing(base, b"right", "r"))
        assert (result.outcome, result.live) == (Outcome.FORKED, 2)
        assert states(read(store)) == [b"left", b"right"]

    def test_stored_commit_keeps_facts_and_decision(self, store: Store) -> None:
        """Where the commit settles the state is the decision's, and the effects of both halves leave, facts first."""
        commit = writing(
            read(store),
            b"facts",
            "a",
            "b",
            facts=Half(b"facts", {"a": sent("1"), "b": sent("2", "3")}, {"f": "10"}),
            decision=Half(b"decided", {"b": sent("4")}, {"d": "11"}),
        )
        put(store, commit)
        snapshot = read(store, "a", "b")
        assert states(snapshot) == [b"decided"]
        assert (left(snapshot, "a"), left(snapshot, "b")) == (["1"], ["2", "3", "4"])
        assert snapshot.timers == {"f": "10", "d": "11"}
        assert not store.history(KEY)[-1].dropped_decision

    def test_forked_commit_drops_the_decision_whole(self, store: Store) -> None:
        """Rule 4: facts become a sibling and their effects leave; nothing of the decision does."""
        base = started(store)
        put(store, writing(base, b"left", "l", facts=Half(b"left", timers={"keep": "1"})))
        commit = writing(
            base,
            b"facts",
            "r",
            facts=Half(b"facts", {"r": sent("fact")}, {"f": "10"}),
            decision=Half(b"decided", {"r": sent("verdict")}, {"d": "11"}, ("keep",)),
            completes=True,
        )
        assert put(store, commit).outcome is Outcome.FORKED
        snapshot = read(store, "r")
        assert states(snapshot) == [b"left", b"facts"]
        assert left(snapshot, "r") == ["fact", "merge"]
        assert snapshot.timers == {"keep": "1", "f": "10"}
        assert store.history(KEY)[-1].dropped_decision

    def test_run_that_must_settle_is_made_again_instead_of_forking(self, store: Store) -> None:
        """Rule 4: a serial saga never has siblings; the loser of a race runs again."""
        base = started(store)
        assert put(store, writing(base, b"left", "l", must_settle=True)).outcome is Outcome.STORED
        result = put(store, writing(base, b"right", "r", must_settle=True))
        assert (result.outcome, result.reason, result.live) == (Outcome.AGAIN, "settle", 1)
        assert put(store, writing(read(store), b"right", "r", must_settle=True)).outcome is Outcome.STORED

    def test_sibling_limit_refuses_forks_and_lets_merges_through(self, store: Store) -> None:
        """Rules 4 and 5: at the limit a fork is run again; a merge always goes through, for it adds none."""
        limits = Limits(siblings=3)
        base = started(store, limits=limits)
        read_earlier: list[Snapshot] = []
        for state in (b"a", b"b", b"c"):
            put(store, writing(base, state, state.decode(), limits=limits))
            read_earlier.append(read(store))
        result = put(store, writing(base, b"d", "d", limits=limits))
        assert (result.outcome, result.reason, result.live) == (Outcome.AGAIN, "siblings", 3)
        result = put(store, writing(read_earlier[1], b"a+b", "e", limits=limits))
        assert (result.outcome, result.live) == (Outcome.FORKED, 2)
        assert states(read(store)) == [b"c", b"a+b"]

    def test_two_first_writes_are_siblings(self, store: Store) -> None:
        """Two concurrent starts, neither of which had seen the other, are a fork like any other."""
        nothing = read(store)
        assert put(store, writing(nothing, b"a", "1")).outcome is Outcome.STORED
        result = put(store, writing(nothing, b"b", "2"))
        assert (result.outcome, result.live, result.posted_merge) == (Outcome.FORKED, 2, True)
        snapshot = read(store)
        assert states(snapshot) == [b"a", b"b"]
        assert snapshot.starter == b"started by 1"
        assert snapshot.life == 1

    # -- rule 5: merges ------------------------------------------------------------------------------------------

    def test_merge_of_all_siblings_settles(self, store: Store) -> None:
        """Rule 5: a version computed from all siblings supersedes them all; its parents are in history."""
        snapshot = forked(store)
        result = put(store, writing(snapshot, b"merged", "m", decision=Half(b"decided")))
        assert (result.outcome, result.live) == (Outcome.STORED, 1)
        assert states(read(store)) == [b"decided"]
        assert store.history(KEY)[-1].parents == tuple(version.dot for version in snapshot.versions)

    def test_merge_of_some_siblings_leaves_the_others(self, store: Store) -> None:
        """Rule 5: a sibling that came after the read stays; there are no more siblings than before."""
        snapshot = forked(store)
        base = replace(snapshot, clock=snapshot.versions[0].context, versions=())
        assert put(store, writing(base, b"third", "3")).outcome is Outcome.FORKED
        result = put(store, writing(snapshot, b"merged", "m", decision=Half(b"decided")))
        assert (result.outcome, result.live) == (Outcome.FORKED, 2)
        assert states(read(store)) == [b"third", b"merged"]

    def test_two_merges_at_once_never_fork(self, store: Store) -> None:
        """Rule 5: the second finds that what it merged is gone, and runs again."""
        snapshot = forked(store)
        assert put(store, writing(snapshot, b"m1", "a")).outcome is Outcome.STORED
        result = put(store, writing(snapshot, b"m2", "b"))
        assert (result.outcome, result.reason, result.live) == (Outcome.AGAIN, "merged", 1)
        assert states(read(store)) == [b"m1"]

    def test_parents_state_is_kept_while_the_sibling_lives(self, store: Store) -> None:
        """The state that a sibling was computed from stays with it, for mergers that want the ancestor."""
        base = started(store)
        put(store, writing(base, b"left", "l", parent=b"s0"))
        put(store, writing(base, b"right", "r", parent=b"s0"))
        snapshot = read(store)
        assert [version.parent for version in snapshot.versions] == [b"s0", b"s0"]
        put(store, writing(snapshot, b"merged", "m", parent=b"s0"))
        put(store, writing(read(store), b"next", "n"))
        assert [version.parent for version in read(store).versions] == [None]

    # -- rule 6: MergeSagaState ----------------------------------------------------------------------------------

    def test_fork_posts_one_merge_under_the_last_id(self, store: Store) -> None:
        """Rule 6: the fork that makes siblings posts a MergeSagaState whose id follows from its last message."""
        base = started(store)
        put(store, writing(base, b"left", "l"))
        result = put(store, writing(base, b"right", "q", "r", facts=Half(b"right", {"r": sent("x")})))
        assert result.posted_merge
        snapshot = read(store, "q", "r")
        assert snapshot.pending_merge == merge_id(KEY, 1, "r")
        assert (left(snapshot, "q"), left(snapshot, "r")) == ([], ["x", "merge"])

    def test_fork_while_a_merge_is_pending_posts_no_other(self, store: Store) -> None:
        """Rule 6: one MergeSagaState at a time."""
        base = started(store)
        put(store, writing(base, b"a", "a"))
        put(store, writing(base, b"b", "b"))
        result = put(store, writing(base, b"c", "c"))
        assert (result.live, result.posted_merge) == (3, False)
        snapshot = read(store, "c")
        assert (snapshot.pending_merge, left(snapshot, "c")) == (merge_id(KEY, 1, "b"), [])

    def test_merge_message_that_leaves_siblings_is_followed_by_another(self, store: Store) -> None:
        """Rule 6: consuming the pending one clears it; with siblings left the next is posted in the same write."""
        snapshot = forked(store)
        base = replace(snapshot, clock=snapshot.versions[0].context, versions=())
        put(store, writing(base, b"third", "3"))
        result = put(store, writing(snapshot, b"merged", snapshot.pending_merge))
        assert (result.outcome, result.live, result.posted_merge) == (Outcome.FORKED, 2, True)
        assert read(store).pending_merge == merge_id(KEY, 1, snapshot.pending_merge)

    def test_merge_message_with_nothing_to_merge_writes_no_version(self, store: Store) -> None:
        """Rule 6: it consumes its id, clears the pending one, and leaves the version as it is."""
        snapshot = forked(store)
        put(store, writing(snapshot, b"merged", "m"))
        settled = read(store)
        assert settled.pending_merge == snapshot.pending_merge
        result = put(store, writing(settled, None, settled.pending_merge))
        assert (result.outcome, result.dot, result.posted_merge) == (Outcome.STORED, None, False)
        after = read(store, settled.pending_merge)
        assert (after.pending_merge, after.versions, after.clock) == ("", settled.versions, settled.clock)
        assert settled.pending_merge in after.consumed

    def test_commit_without_a_version_posts_the_next_merge(self, store: Store) -> None:
        """Rule 6 holds for commits that write no version: a fork that came meanwhile gets its MergeSagaState."""
        snapshot = forked(store)
        put(store, writing(snapshot, b"merged", "m"))
        settled = read(store)
        put(store, writing(settled, b"x", "x"))
        put(store, writing(settled, b"y", "y"))
        result = put(store, writing(settled, None, settled.pending_merge))
        assert (result.outcome, result.live, result.posted_merge) == (Outcome.STORED, 2, True)
        after = read(store, settled.pending_merge)
        assert after.pending_merge == merge_id(KEY, 1, settled.pending_merge)
        assert left(after, settled.pending_merge) == ["merge"]

    def test_merge_posted_under_an_id_that_was_handled_before_is_handled_again(self, store: Store) -> None:
        """Rule 6: where a failover lost a fork but not its MergeSagaState, the fork that comes again gets one too."""
        base, again = started(store), merge_id(KEY, 1, "r")
        put(store, writing(base, None, again, facts=Half(None, {again: sent("x")})))
        assert again in read(store, again).consumed
        put(store, writing(base, b"left", "l"))
        assert put(store, writing(base, b"right", "r")).posted_merge
        snapshot = read(store, again)
        assert (snapshot.pending_merge, snapshot.consumed) == (again, {})
        result = put(store, writing(snapshot, b"merged", again, facts=Half(b"merged", {again: sent("y")})))
        assert (result.outcome, result.live) == (Outcome.STORED, 1)
        assert left(read(store, again), again) == ["x", "y"]

    # -- rule 8: equal bytes -------------------------------------------------------------------------------------

    def test_equal_bytes_from_the_version_itself_make_no_version(self, store: Store) -> None:
        """Rule 8: ids and effects are recorded, the version stays."""
        base = started(store)
        result = put(store, writing(base, b"s0", "m", facts=Half(b"s0", {"m": sent("x")})))
        assert (result.outcome, result.dot, result.live) == (Outcome.STORED, None, 1)
        snapshot = read(store, "m")
        assert (snapshot.versions, snapshot.clock, left(snapshot, "m")) == (base.versions, base.clock, ["x"])
        assert store.history(KEY)[-1].dot is None

    def test_equal_bytes_from_another_read_make_a_sibling(self, store: Store) -> None:
        """Rule 8 is for the version's own context: equal states of two branches stay two versions."""
        base = started(store)
        put(store, writing(base, b"same", "l"))
        assert put(store, writing(base, b"same", "r")).outcome is Outcome.FORKED
        assert states(read(store)) == [b"same", b"same"]

    def test_equal_bytes_from_a_merge_make_a_version(self, store: Store) -> None:
        """A merge settles even where its result equals one of the siblings."""
        snapshot = forked(store)
        assert put(store, writing(snapshot, b"left", "m")).dot is not None
        assert states(read(store)) == [b"left"]

    def test_decision_that_restores_the_bytes_makes_no_version(self, store: Store) -> None:
        """Rule 8 looks at what would be stored: the decision's state where the commit settles."""
        base = started(store)
        assert put(store, writing(base, b"changed", "m", decision=Half(b"s0"))).dot is None
        assert put(store, writing(base, b"s0", "n", decision=Half(b"decided"))).dot is not None
        assert states(read(store)) == [b"decided"]

    # -- timers --------------------------------------------------------------------------------------------------

    def test_timers_are_set_replaced_cancelled_and_fired(self, store: Store) -> None:
        """A name has one timer: the last one set. What is cancelled or has fired is gone; other names stay."""
        base = started(store, facts=Half(b"s0", timers={"a": "1", "b": "2", "c": "3", "d": "4"}))
        half = Half(b"s1", timers={"a": "5", "e": "6"}, cancelled=("b", "unknown"))
        put(store, writing(base, b"s1", "3", facts=half, fired={"c": "3"}))
        assert read(store).timers == {"a": "5", "d": "4", "e": "6"}

    def test_timer_that_fired_does_not_end_its_replacement(self, store: Store) -> None:
        """A timer's message clears its name only while the name still means that message."""
        base = started(store, facts=Half(b"s0", timers={"a": "1"}))
        put(store, writing(base, b"s1", "m", facts=Half(b"s1", timers={"a": "2"})))
        put(store, writing(base, b"s2", "1", fired={"a": "1"}))
        assert read(store).timers == {"a": "2"}

    def test_timer_set_again_while_it_fires_stays(self, store: Store) -> None:
        """A handler may set the timer anew that it is handling: the firing clears first."""
        base = started(store, facts=Half(b"s0", timers={"a": "1"}))
        put(store, writing(base, b"s1", "1", facts=Half(b"s1", timers={"a": "2"}), fired={"a": "1"}))
        assert read(store).timers == {"a": "2"}

    def test_decision_may_cancel_what_its_facts_set(self, store: Store) -> None:
        """The decision comes after the facts: it cancels theirs, and may set the name again."""
        facts = Half(b"f", timers={"a": "1", "b": "2"})
        put(store, writing(read(store), b"f", "m", facts=facts, decision=Half(b"d", {}, {"b": "3"}, ("a", "b"))))
        assert read(store).timers == {"b": "3"}

    # -- the outbox ----------------------------------------------------------------------------------------------

    def test_outbox_comes_back_until_it_is_marked_dispatched(self, store: Store) -> None:
        """What an id left comes back, in order and to the byte, with every load that asks, until it is marked."""
        outgoing = (
            Outgoing(OutgoingKind.COMMAND, "equifax", "c", "4{2}/é", b'{"n":1.50,"s":"\\u00e9"}'),
            Outgoing(OutgoingKind.EVENT, "credit.decided", "e", "", b"{}"),
            Outgoing(OutgoingKind.TIMER, "credit", "t", "42", b'{"a": [ ]}', 2**53 - 1),
        )
        started(store, facts=Half(b"s0", {"start": outgoing}))
        assert from_lines(read(store, "start").consumed["start"]) == (list(outgoing), False)
        store.note(Bookkeeping(dispatched={KEY: ("start",)}))
        assert read(store, "start").consumed == {"start": b""}
        store.note(Bookkeeping(dispatched={KEY: ("start", "unknown"), SagaKey("No", "ne"): ("x",)}))
        assert read(store, "start").consumed == {"start": b""}

    def test_load_notes_before_it_reads(self, store: Store) -> None:
        """What goes with a load is noted first: the snapshot shows it."""
        started(store, facts=Half(b"s0", {"start": sent("x")}))
        noting = Bookkeeping(dispatched={KEY: ("start",)}, scheduled=(Scheduled("i", "credit", b"{}", 1),))
        (snapshot,) = store.load([Want(KEY, ("start",))], noting)
        assert snapshot.consumed == {"start": b""}
        assert [item.id for item in store.scheduled()] == ["i"]
        assert store.load([], Bookkeeping(unscheduled=("i",))) == []
        assert store.scheduled() == []

    def test_marking_no_id_of_a_saga_is_no_error(self, store: Store) -> None:
        """A saga of which nothing was dispatched may be among the marked."""
        started(store, facts=Half(b"s0", {"start": sent("x")}))
        store.note(Bookkeeping(dispatched={KEY: ()}))
        assert left(read(store, "start"), "start") == ["x"]

    def test_ids_are_forgotten_after_the_window_unless_their_outbox_is_full(self, store: Store) -> None:
        """The window bounds what is kept; an id whose messages have not left is never pruned."""
        limits = Limits(dedupe_window_s=0.001)
        sends = {"start": sent("x")}
        base = started(store, limits=limits, facts=Half(b"s0", sends))
        put(store, writing(base, b"s1", "plain", limits=limits, facts=Half(b"s1", {"plain": ()})))
        then = read(store).now_ms
        _poll(lambda: read(store).now_ms > then + 1)
        put(store, writing(read(store), b"s2", "m2", limits=limits))
        assert set(read(store, "start", "plain", "m2").consumed) == {"start", "m2"}
        store.note(Bookkeeping(dispatched={KEY: ("start",)}))
        then = read(store).now_ms
        _poll(lambda: read(store).now_ms > then + 1)
        put(store, writing(read(store), b"s3", "m3", limits=limits))
        assert set(read(store, "start", "plain", "m2", "m3").consumed) == {"m3"}

    # -- history -------------------------------------------------------------------------------------------------

    def test_history_has_parents_messages_and_who(self, store: Store) -> None:
        """Each version keeps its parents, the messages that made it, when, and by whom."""
        base = started(store)
        before = base.now_ms
        put(store, writing(base, b"left", "l1", "l2"), by="worker-1")
        put(store, writing(base, b"right", "r"), by="worker-2")
        snapshot = read(store)
        put(store, writing(snapshot, b"m", "m"), by="worker-3")
        history = store.history(KEY)
        assert [e.by for e in history] == ["worker-1", "worker-1", "worker-2", "worker-3"]
        assert [[m.id for m in e.messages] for e in history] == [["start"], ["l1", "l2"], ["r"], ["m"]]
        assert [e.outcome.value for e in history] == ["stored", "stored", "forked", "stored"]
        first, left_, right, merged = (e.dot for e in history)
        assert [e.parents for e in history] == [(), (first,), (first,), (left_, right)]
        assert merged == read(store).versions[0].dot
        assert [e.at_ms for e in history] == sorted(e.at_ms for e in history)
        assert before - 1000 < history[0].at_ms <= read(store).now_ms

    def test_history_has_what_each_commit_came_out_as(self, store: Store) -> None:
        """Each entry keeps when its snapshot was loaded, and digests of facts and decision; a dropped one, too."""
        base = started(store)
        put(store, writing(base, b"left", "l"))
        fork = writing(
            base,
            b"right",
            "r",
            facts=Half(b"right", {"r": sent("o")}, cancelled=("reminder",)),
            decision=Half(b"decided", {"r": sent("d", kind=OutgoingKind.EVENT)}),
            completes=True,
        )
        assert put(store, fork).outcome is Outcome.FORKED
        put(store, late(read(store), "late", life=7, facts=Half(outgoing={"late": sent("sorry")})))
        start, _, forked, too_late = store.history(KEY)
        assert (start.facts, start.decision) == (HalfDigest(hashed(b"s0")), None)
        assert (forked.loaded_ms, forked.dropped_decision) == (base.now_ms, True)
        command = EffectDigest(OutgoingKind.COMMAND, "equifax", "", hashed(b"{}"))
        assert forked.facts == HalfDigest(hashed(b"right"), (command, EffectDigest(None, "reminder")))
        event = EffectDigest(OutgoingKind.EVENT, "equifax", "", hashed(b"{}"))
        assert forked.decision == HalfDigest(hashed(b"decided"), (event,), completes=True)
        assert (too_late.facts, too_late.decision) == (HalfDigest(b"", (command,)), None)

    def test_history_is_capped_at_its_limit(self, store: Store) -> None:
        """Only the last entries stay; those keep their parents."""
        limits = Limits(history=3)
        snapshot = started(store, limits=limits)
        for i in range(5):
            put(store, writing(snapshot, b"%d" % i, f"m{i}", limits=limits))
            snapshot = read(store)
        history = store.history(KEY)
        assert [[m.id for m in e.messages] for e in history] == [["m2"], ["m3"], ["m4"]]
        assert [e.parents for e in history[1:]] == [(e.dot,) for e in history[:-1]]

    def test_history_of_no_saga_is_empty(self, store: Store) -> None:
        """Asking is no error."""
        assert store.history(KEY) == []

    # -- the listing ---------------------------------------------------------------------------------------------

    def test_sagas_lists_all_or_those_of_one_name(self, store: Store) -> None:
        """A row says which saga, where it stands, its siblings, its life, and how many versions there ever were."""
        forked(store)
        completed(store, key=SagaKey("CreditCheck", "ended"))
        tomb = completed(store, key=SagaKey("Credit", "again"))
        put(store, writing(tomb, b"2", "s2"))
        started(store, key=SagaKey("Credit-Check.v_2", "x"))
        rows = {str(row.key): (row.lifecycle, row.siblings, row.life, row.versions) for row in store.sagas()}
        assert rows == {
            "CreditCheck/42": (Lifecycle.LIVE, 2, 1, 3),
            "CreditCheck/ended": (Lifecycle.COMPLETED, 1, 1, 2),
            "Credit/again": (Lifecycle.LIVE, 1, 2, 3),
            "Credit-Check.v_2/x": (Lifecycle.LIVE, 1, 1, 1),
        }
        assert [row.key.id for row in store.sagas("Credit")] == ["again"]
        assert sorted(row.key.id for row in store.sagas("CreditCheck")) == ["42", "ended"]
        assert list(store.sagas("Nobody")) == []

    def test_sagas_lists_more_than_one_page(self, store: Store) -> None:
        """Every saga is listed, however many there are."""
        keys = [SagaKey("CreditCheck", str(i)) for i in range(1500)]
        for i in range(0, len(keys), 500):
            store.commit([writing(Snapshot(key, 0), b"s", "m") for key in keys[i : i + 500]], by="w")
        assert {row.key for row in store.sagas()} == set(keys)

    # -- scheduled messages --------------------------------------------------------------------------------------

    def test_scheduled_messages_come_back_when_due(self, store: Store) -> None:
        """Only what is due is handed out, soonest first, as it was scheduled, up to the limit."""
        now, none = store.next_due_ms()
        assert none is None
        items = [Scheduled(f"i{n}", "crédit", b"\x00\xff%d" % n, now - 1000 + n, "4{2}") for n in (3, 1, 2)]
        future = Scheduled("later", "credit", b"{}", now + 3_600_000)
        store.note(Bookkeeping(scheduled=(*items, future)))
        assert [item.id for item in store.scheduled()] == ["i1", "i2", "i3", "later"]
        assert [item.id for item in store.scheduled(limit=2)] == ["i1", "i2"]
        assert store.next_due_ms()[1] == now - 999
        assert store.due(2, 60.0) == [items[1], items[2]]
        assert store.due(5, 60.0) == [items[0]]
        assert store.due(5, 60.0) == []

    def test_leased_messages_come_back_after_the_lease(self, store: Store) -> None:
        """Who was handed a message and died does not keep it: it is due again after the lease."""
        now, _ = store.next_due_ms()
        item = Scheduled("i", "credit", b"{}", now - 5)
        store.note(Bookkeeping(scheduled=(item,)))
        assert store.due(1, 0.01) == [item]
        leased = store.next_due_ms()[1]
        assert leased is not None
        assert leased >= now + 10
        assert store.scheduled() == [item]
        _poll(lambda: store.due(1, 60.0) == [item])

    def test_unscheduled_messages_are_gone(self, store: Store) -> None:
        """What was sent or cancelled is not handed out again; doing it twice does no harm."""
        now, _ = store.next_due_ms()
        items = tuple(Scheduled(id_, "credit", b"{}", now - 5) for id_ in "ab")
        store.note(Bookkeeping(scheduled=items))
        for _ in range(2):
            store.note(Bookkeeping(unscheduled=("a", "unknown")))
        assert store.due(5, 60.0) == [items[1]]

    def test_scheduling_an_id_again_replaces_it(self, store: Store) -> None:
        """The last time and body count, and end a lease."""
        now, _ = store.next_due_ms()
        store.note(Bookkeeping(scheduled=(Scheduled("i", "credit", b"1", now - 5),)))
        assert len(store.due(1, 60.0)) == 1
        again = Scheduled("i", "credit", b"2", now - 4)
        store.note(Bookkeeping(scheduled=(again,)))
        assert store.due(5, 60.0) == [again]
        assert store.scheduled() == [again]

    def test_timer_that_was_cancelled_from_outside_is_forgotten(self, store: Store) -> None:
        """Under its name and id alone; the version, its siblings-to-be and other timers are as they were."""
        before = started(store, facts=Half(b"s0", timers={"a": "1", "b": "2"}))
        assert not store.waiting.forget_timer(KEY, "a", "2")
        assert not store.waiting.forget_timer(KEY, "c", "1")
        assert not store.waiting.forget_timer(SagaKey("CreditCheck", "nobody"), "a", "1")
        assert store.waiting.forget_timer(KEY, "a", "1")
        assert not store.waiting.forget_timer(KEY, "a", "1")
        after = read(store)
        assert after.timers == {"b": "2"}
        assert (after.versions, after.clock) == (before.versions, before.clock)
        assert put(store, writing(before, b"s1", "m", facts=Half(b"s1", timers={"a": "3"}))).outcome is Outcome.STORED
        assert read(store).timers == {"a": "3", "b": "2"}

    # -- dead letters --------------------------------------------------------------------------------------------

    def test_dead_letters_come_newest_first(self, store: Store) -> None:
        """Every field comes back; of letters of the same moment the order is the same in every store."""
        letters = [letter("b", 2000), letter("a", 2000), letter("c", 1000, "equifax"), letter("d", 3000, body=b"")]
        store.note(Bookkeeping(buried=tuple(letters)))
        assert store.dead() == [letters[3], letters[0], letters[1], letters[2]]  # of one moment: the greatest id first
        assert store.dead(limit=2) == [letters[3], letters[0]]

    def test_dead_letter_of_the_same_endpoint_and_id_replaces_the_first(self, store: Store) -> None:
        """Burying twice leaves one letter; another endpoint's is another."""
        store.note(Bookkeeping(buried=(letter("a", 1000), letter("a", 1000, "equifax"))))
        store.note(Bookkeeping(buried=(letter("a", 2000, error="again"),)))
        assert store.dead() == [letter("a", 2000, error="again"), letter("a", 1000, "equifax")]

    # -- exclusive sagas -----------------------------------------------------------------------------------------

    def test_load_that_asks_for_no_lease_says_nothing_of_one(self, store: Store) -> None:
        """Only who means to run an exclusive saga asks, and asking costs the others nothing."""
        leased(store, "a")
        assert read(store).grant is None

    def test_load_grants_the_lease_of_a_saga_to_the_first_who_asks(self, store: Store) -> None:
        """The second is told who holds it and until when; the first, asking again, has what it had. Absent or not."""
        first, second, again = leased(store, "a"), leased(store, "b"), leased(store, "a")
        grants = [under(snapshot) for snapshot in (first, second, again)]
        assert [grant.holder for grant in grants] == ["a", "a", "a"]
        assert len({(grant.token, grant.until_ms) for grant in grants}) == 1
        assert all(grant.running for grant in grants)

    def test_load_of_several_sagas_grants_each_its_own_lease(self, store: Store) -> None:
        """One round trip serves sagas that are exclusive and others, in the order asked."""
        keys = [SagaKey("CreditCheck", str(n)) for n in range(4)]
        leased(store, "other", key=keys[1])
        asks = LeaseRequest("me", 60_000)
        found = store.load([Want(key, (), asks if n else None) for n, key in enumerate(keys)])
        assert [snapshot.key for snapshot in found] == keys
        assert [snapshot.grant and snapshot.grant.holder for snapshot in found] == [None, "other", "me", "me"]

    def test_commit_under_a_running_lease_is_stored(self, store: Store) -> None:
        """A lease changes none of the rules; it stays with its holder unless the commit gives it back."""
        snapshot = leased(store, "a")
        assert put(store, writing(snapshot, b"s", "1", grant=under(snapshot))).outcome is Outcome.STORED
        assert states(read(store, "1")) == [b"s"]
        assert under(leased(store, "b")).holder == "a"

    def test_commit_after_the_end_of_its_lease_is_run_again(self, store: Store) -> None:
        """By the store's clock: somebody else may be at work by then. Nothing of it is stored."""
        snapshot = leased(store, "a")
        result = put(store, writing(snapshot, b"s", "1", grant=under(snapshot, ended=True)))
        assert (result.outcome, result.reason) == (Outcome.AGAIN, "fence")
        assert read(store, "1").lifecycle is Lifecycle.ABSENT

    def test_commit_that_is_sent_again_after_the_end_of_its_lease_is_a_duplicate(self, store: Store) -> None:
        """Rule 1 comes first: what was stored in time stays so, whenever its answer is asked for again."""
        snapshot = leased(store, "a")
        put(store, writing(snapshot, b"s", "1", grant=under(snapshot)))
        resent = put(store, writing(snapshot, b"s", "1", grant=under(snapshot, ended=True)))
        assert (resent.outcome, set(resent.consumed)) == (Outcome.DUPLICATE, {"1"})

    def test_late_messages_are_recorded_under_a_running_lease_only(self, store: Store) -> None:
        """What `on_late` sends is an effect like any other."""
        completed(store)
        snapshot = leased(store, "a")
        assert put(store, late(snapshot, "x", grant=under(snapshot, ended=True))).reason == "fence"
        assert put(store, late(snapshot, "x", grant=under(snapshot))).outcome is Outcome.LATE

    @pytest.mark.parametrize("ended", [False, True])
    def test_commit_gives_its_lease_back_whatever_becomes_of_it(self, store: Store, ended: bool) -> None:
        """The next who asks has it at once, under a higher token; other sagas' leases stay where they are."""
        other = SagaKey("CreditCheck", "7")
        leased(store, "a", key=other)
        snapshot = leased(store, "a")
        put(store, writing(snapshot, b"s", "1", grant=under(snapshot, ended=ended), gives_back=True))
        mine = under(leased(store, "b"))
        assert mine.holder == "b"
        assert mine.token > under(snapshot).token
        assert under(leased(store, "b", key=other)).holder == "a"

    def test_commit_gives_no_lease_back_that_somebody_else_holds_by_now(self, store: Store) -> None:
        """A holder that was paused beyond its lease ends nobody's but its own."""
        snapshot = leased(store, "a", ttl_ms=1)
        _poll(lambda: under(leased(store, "b")).holder == "b")
        result = put(store, writing(snapshot, b"s", "1", grant=under(snapshot), gives_back=True))
        assert (result.outcome, result.reason) == (Outcome.AGAIN, "fence")
        assert under(leased(store, "c")).holder == "b"

    def test_several_commits_give_back_the_leases_they_say(self, store: Store) -> None:
        """Commits of one batch are each answered for, whatever comes with them."""
        keys = [SagaKey("CreditCheck", str(n)) for n in range(4)]
        snapshots = [leased(store, "a", key=key) for key in keys]
        commits = [
            writing(snapshot, b"s", "1", grant=under(snapshot), gives_back=number % 2 == 0)
            for number, snapshot in enumerate(snapshots)
        ]
        assert [result.outcome for result in store.commit(commits, by="a")] == [Outcome.STORED] * 4
        assert [under(leased(store, "b", key=key)).holder for key in keys] == ["b", "a", "b", "a"]

    # -- many at once --------------------------------------------------------------------------------------------

    def test_fifty_writers_of_one_read_lose_nothing(self, store: Store) -> None:
        """However many write from one read, every write is a version and one merge settles them all."""
        limits = Limits(siblings=100)
        base = started(store, limits=limits)
        for n in range(50):
            put(store, writing(base, b"%d" % n, f"m{n}", limits=limits))
        snapshot = read(store, *(f"m{n}" for n in range(50)))
        assert sorted(states(snapshot), key=int) == [b"%d" % n for n in range(50)]
        assert len(snapshot.consumed) == 50
        assert put(store, writing(snapshot, b"all", "merge", limits=limits)).outcome is Outcome.STORED
        assert states(read(store)) == [b"all"]

    def test_versions_come_in_dot_order(self, store: Store) -> None:
        """Siblings are listed by counter, past ten too."""
        base = started(store)
        for n in range(12):
            put(store, writing(base, b"%d" % n, f"m{n}"))
        assert states(read(store)) == [b"%d" % n for n in range(12)]


def _poll(condition: Callable[[], bool]) -> None:
    """Return as soon as *condition* holds: for times of a few milliseconds that the store's own clock must pass."""
    give_up_at = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < give_up_at, f"did not happen within {SOON_S:g} s"
        time.sleep(0.001)
