"""The same operations, at random, on the memory store and on a server: results, snapshots and histories never differ.

Commits are made by hand, of every kind that the rules know, and by the functional core from two sagas; several workers
keep what they read for as long as they like; and the server may fail over to an older copy of itself.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sagabus.advance import advance
from sagabus.commit import Commit, Half, Lifecycle, Outcome, Result, Snapshot, Want
from sagabus.definition import Limits
from sagabus.envelope import Incoming, SagaKey, decode
from sagabus.index.query import SagaQuery, SagaSummary
from sagabus.link import Command
from sagabus.outgoing import posted_merge
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping, SagaRow, Scheduled, Store
from sagabus.store.redis import RedisStore
from sagabus.testing.store_contract import late, letter, sent, writing
from sagabus.versions import Dot, join
from tests.changes import evolve
from tests.contract.acted_link import ActedLink
from tests.sagas_for_tests import (
    NOW_MS,
    CheckCredit,
    CreditCheck,
    CreditState,
    End,
    Fail,
    Note,
    Nudge,
    Remind,
    Tally,
    TallyState,
    bound,
    incoming,
    score,
)

T = TypeVar("T")

CREDIT, TALLY = bound(CreditCheck), bound(Tally, endpoint="tally")
KEYS = {SagaKey("CreditCheck", "4{2}"): CREDIT, SagaKey("Tally", "é/1"): TALLY}
IDS = tuple(f"m{n}" for n in range(12))
STARTER = b'{"id":"s","source":"/client","replyto":"client"}'
namespaces = itertools.count()
seen: Counter[str] = Counter()


def state(key: SagaKey, n: int) -> bytes:
    """Return one of the states that commits made by hand write."""
    value = CreditState({"a": n}) if key.name == "CreditCheck" else TallyState(n)
    return KEYS[key].codec.encode(value)


ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True)
names = st.sampled_from(["t", "u", "v"])
limits = st.builds(
    Limits,
    siblings=st.sampled_from([2, 3, 25]),
    history=st.sampled_from([1, 3, 64]),
    dedupe_window_s=st.sampled_from([0.0, 600.0, 600.0]),
    retention_s=st.sampled_from([0.0, 600.0, 600.0, 600.0]),
)
usual = st.just(Limits(dedupe_window_s=600.0, retention_s=600.0))


@st.composite
def halves(draw: st.DrawFn, key: SagaKey, handled: Sequence[str], last_only: bool) -> Half:
    """Return facts (effects of any message) or a decision (effects of the last)."""
    senders = handled[-1:] if last_only else handled
    outgoing = {id_: sent(*(f"{id_}>{n}" for n in range(draw(st.integers(0, 2))))) for id_ in senders}
    timers = draw(st.dictionaries(names, st.sampled_from(["1", "2"]), max_size=2))
    return Half(state(key, draw(st.integers(0, 3))), outgoing, timers, tuple(draw(st.lists(names, max_size=2))))


@st.composite
def hand_made(draw: st.DrawFn, snapshot: Snapshot) -> Commit:
    """Return a commit of any kind from what a worker once read."""
    key = snapshot.key
    handled = draw(ids)
    if snapshot.pending_merge and draw(st.booleans()):
        handled = [snapshot.pending_merge, *handled[1:]]
    facts = draw(halves(key, handled, False))
    commit = writing(
        snapshot,
        None,
        *handled,
        facts=facts,
        decision=draw(st.none() | halves(key, handled, True)),
        completes=draw(st.sampled_from([False, False, False, True])),
        must_settle=draw(st.sampled_from([False, False, False, True])),
        parent=draw(st.sampled_from([None, state(key, 0), b""])),
        fired=draw(st.dictionaries(names, st.sampled_from(["1", "2"]), max_size=1)),
        limits=draw(usual | limits),
    )
    if commit.begins_life:
        commit = evolve(commit, starter=STARTER)
    match draw(st.sampled_from(["plain"] * 6 + ["nothing", "beyond", "some", "life", "same", "no start"])):
        case "nothing" if not commit.begins_life:
            commit = evolve(commit, facts=evolve(facts, state=None), decision=None)
        case "beyond":
            commit = evolve(commit, context=join(commit.context, {draw(st.sampled_from(["e1", "ghost"])): 9}))
        case "some" if len(snapshot.versions) > 1:
            count = draw(st.integers(1, len(snapshot.versions)))
            parents = commit.parents[:count]
            context: dict[str, int] = {}
            for version in snapshot.versions[:count]:
                context = join(join(context, version.context), {version.dot.actor: version.dot.counter})
            commit = evolve(commit, parents=parents, context=context)
        case "life":
            commit = evolve(commit, life=draw(st.integers(1, 4)))
        case "same" if snapshot.versions:
            commit = evolve(commit, facts=evolve(facts, state=snapshot.versions[0].state), decision=None)
        case "no start":
            commit = evolve(commit, begins_life=False)
    return commit


@st.composite
def messages(draw: st.DrawFn, snapshot: Snapshot) -> list[Incoming]:
    """Return a batch for a saga, as its queue might hold."""
    batch = []
    for id_ in draw(ids):
        header: dict[str, Any] = {"replyto": "client"}
        if draw(st.integers(0, 4)) == 0:
            header |= {"saga": str(snapshot.key), "sagalife": draw(st.integers(1, 3))}
        if snapshot.pending_merge and draw(st.booleans()):
            posted = posted_merge(snapshot.key, snapshot.life, "x", "credit", NOW_MS)
            body = posted.body.replace(posted.id.encode(), snapshot.pending_merge.encode())
            batch.append(Incoming(decode(body)))
        elif snapshot.timers and snapshot.key.name == "CreditCheck" and draw(st.booleans()):
            name, timer_id = draw(st.sampled_from(sorted(snapshot.timers.items())))
            header |= {"saga": str(snapshot.key), "sagalife": snapshot.life, "timer": name}
            batch.append(incoming(Remind(), timer_id, **header))
        elif snapshot.key.name == "CreditCheck":
            bodies: list[Any] = [
                CheckCredit("42"),
                CheckCredit("42"),
                Nudge(),
                Fail(),
                End(),
                Remind(60.0, draw(st.sampled_from(["", "t"]))),
                Remind(0.0, "t"),
                *(score(bureau, draw(st.integers(1, 2))).message for bureau in "abcabc"),
            ]
            batch.append(incoming(draw(st.sampled_from(bodies)), id_, **header))
        else:
            body_ = draw(st.sampled_from([Note("x"), Note("y"), Note("z"), End()]))
            batch.append(incoming(body_, id_, **header))
    return batch


class TwoStores(RuleBasedStateMachine):
    """Runs every operation on both stores and compares what they say."""

    snapshots = Bundle("snapshots")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.link = ActedLink(url)
        self.redis = RedisStore(url, namespace=f"machine{next(namespaces)}", link=self.link)
        self.memory = MemoryStore(actor="e1")
        self.asked = set(IDS)
        self.saved: tuple[Any, Any] | None = None
        self.epochs = 1
        self.fresh = itertools.count()

    def both(self, operation: Callable[[Store], T]) -> T:
        """Do one thing on both stores; return what they agree on."""
        mine, theirs = operation(self.memory), operation(self.redis)
        assert mine == theirs, f"memory says {mine}\nserver says {theirs}"
        return mine

    def look(self, key: SagaKey, *wanted: str) -> Snapshot:
        """Return what both stores know; their clocks are set aside."""
        return self.both(lambda store: evolve(store.load([Want(key, wanted)])[0], now_ms=NOW_MS))

    def commit(self, commit: Commit, by: str) -> Result:
        before = self.look(commit.key, *commit.ids)
        result = self.both(lambda store: store.commit([commit], by=by)[0])
        seen[result.reason or result.outcome.value] += 1
        event(result.reason or result.outcome.value)
        self.asked.update(commit.ids)
        after = self.look(commit.key, *commit.ids)
        if result.outcome in (Outcome.AGAIN, Outcome.DUPLICATE):
            assert after == before
        elif commit.limits.retention_s:
            assert set(after.consumed) == set(commit.ids)
            if commit.merged:
                assert len(after.versions) <= len(before.versions)
        return result

    @initialize(target=snapshots)
    def begin(self) -> Any:
        return multiple(*(self.look(key) for key in KEYS))

    @rule(target=snapshots, key=st.sampled_from(sorted(KEYS)), wanted=st.booleans())
    def load(self, key: SagaKey, wanted: bool) -> Snapshot:
        return self.look(key, *(IDS if wanted else ()))

    @rule(snapshot=snapshots, data=st.data(), by=st.sampled_from(["worker-1", "wörker-2"]))
    def commit_by_hand(self, snapshot: Snapshot, data: st.DataObject, by: str) -> None:
        self.commit(data.draw(hand_made(snapshot)), by)

    @rule(snapshot=snapshots, handled=ids, limits=usual | limits, life=st.sampled_from([0, 0, 0, 1]))
    def commit_late(self, snapshot: Snapshot, handled: list[str], limits: Limits, life: int) -> None:
        facts = Half(outgoing={handled[0]: sent("sorry")})
        self.commit(late(snapshot, *handled, facts=facts, limits=limits, life=snapshot.life + life), "worker-1")

    @rule(snapshot=snapshots, data=st.data())
    def commit_by_the_core(self, snapshot: Snapshot, data: st.DataObject) -> None:
        batch = data.draw(messages(snapshot))
        commit = advance(KEYS[snapshot.key], snapshot, batch)
        if commit.ids:
            self.commit(commit, "core")

    @rule(key=st.sampled_from(sorted(KEYS)), data=st.data())
    def handle_at_once(self, key: SagaKey, data: st.DataObject) -> None:
        snapshot = self.look(key, *sorted(self.asked))
        batch = data.draw(messages(snapshot))
        commit = advance(KEYS[key], snapshot, batch)
        if commit.ids:
            result = self.commit(commit, "core")
            assert result.outcome in (Outcome.STORED, Outcome.LATE)

    @rule(target=snapshots, key=st.sampled_from(sorted(KEYS)), workers=st.integers(2, 4), limits=usual | limits)
    def race(self, key: SagaKey, workers: int, limits: Limits) -> Snapshot:
        """Let several workers read one thing and write: a fork each, or, from siblings, one merge and no other."""
        snapshot = self.look(key)
        for worker in range(workers):
            handled = f"r{next(self.fresh)}"
            commit = writing(snapshot, state(key, worker), handled, limits=limits)
            if commit.begins_life:
                commit = evolve(commit, starter=STARTER)
            result = self.commit(commit, f"worker-{worker}")
            if commit.merged and worker and limits.retention_s:
                assert (result.outcome, result.reason) == (Outcome.AGAIN, "merged")
        return snapshot

    @rule(key=st.sampled_from(sorted(KEYS)), data=st.data())
    def mark_dispatched(self, key: SagaKey, data: st.DataObject) -> None:
        marked = data.draw(st.lists(st.sampled_from(sorted(self.asked)), max_size=4))
        self.both(lambda store: store.note(Bookkeeping(dispatched={key: tuple(marked)})))

    @rule(
        put=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, 4_000_000_000_000])), max_size=2),
        gone=st.lists(st.sampled_from("abc"), max_size=1),
        dead=st.lists(st.tuples(st.sampled_from(["x", "é"]), st.integers(1, 2)), max_size=2),
    )
    def note(self, put: list[tuple[str, int]], gone: list[str], dead: list[tuple[str, int]]) -> None:
        noted = Bookkeeping(
            scheduled=tuple(Scheduled(id_, "credit", id_.encode(), due) for id_, due in put),
            unscheduled=tuple(gone),
            buried=tuple(letter(id_, at) for id_, at in dead),
        )
        self.both(lambda store: store.load([], noted))

    @rule(limit=st.integers(1, 2))
    def hand_out_what_is_due(self, limit: int) -> None:
        self.both(lambda store: store.due(limit, 3600.0))

    @precondition(lambda self: self.saved is None)
    @rule()
    def copy_to_a_replica(self) -> None:
        shelf = self.memory.index._shelf
        held = self.memory._records, shelf._scores, shelf._standings
        self.saved = copy.deepcopy(held), {name: self.raw(name, "DUMP") for name in self.names()}

    @precondition(lambda self: self.saved is not None)
    @rule()
    def fail_over(self) -> None:
        """Go on with an older copy and a new actor: what was written since is lost."""
        assert self.saved is not None
        (self.memory._records, scores, standings), dumps = self.saved
        self.memory.index._shelf._scores, self.memory.index._shelf._standings = scores, standings
        for name, dump in dumps.items():
            self.raw(name, "DEL")
            if dump is not None:
                self.raw(name, "RESTORE", 0, dump)
        # A copy by DUMP has no expiry; a tombstone of the copy has one on both sides or on none.
        for record in self.memory._records.values():
            record.expires_ms = None
        self.saved = None
        self.epochs += 1
        self.link.actor = self.memory.actor = f"e{self.epochs}"

    @invariant()
    def stores_agree(self) -> None:
        for key in KEYS:
            snapshot = self.look(key, *sorted(self.asked))
            self.both(lambda store, key=key: [evolve(entry, at_ms=0) for entry in store.history(key)])  # type: ignore[misc]
            assert bool(snapshot.pending_merge) or len(snapshot.versions) < 2
            if snapshot.lifecycle is Lifecycle.COMPLETED:
                assert (len(snapshot.versions), snapshot.timers, snapshot.pending_merge) == (1, {}, "")
            assert all(snapshot.clock.get(dot.actor, 0) >= dot.counter for dot in dots(snapshot))
        self.both(lambda store: sorted(store.scheduled(), key=lambda item: item.id))
        self.both(lambda store: store.dead())

    @invariant()
    def index_says_what_the_records_say(self) -> None:
        self.both(lambda store: (store.index.counts(), store.index.forked().count))
        rows = {row[:5] for row in self.both(indexed)}
        stored = set(self.both(lambda store: sorted(map(plain, store.sagas()), key=repr)))
        # One that expires at once is not told; after a failover such a one stays here, for a copy has no expiry.
        assert {row for row in stored if row[1] is Lifecycle.LIVE} <= rows <= stored
        assert {row.key for row in self.memory.index.find(SagaQuery(forked=True)).rows} == {
            row[0] for row in stored if row[2] > 1
        }

    def names(self) -> list[str]:
        keys = self.redis._keys
        index = [name for key in KEYS for name in keys.index(key.name)]
        return [*(f"{keys.saga(key)}{suffix}" for key in KEYS for suffix in "rioh"), *index, keys.index_names]

    def raw(self, name: str, command: str, *args: Any) -> Any:
        return self.link.round([Command((command, name, *args), name)])[0]

    def teardown(self) -> None:
        self.both(lambda store: sorted(store.sagas(), key=lambda row: row.key))
        keys = self.redis._keys
        for name in (*self.names(), keys.timers, keys.timer_bodies, keys.dead, keys.dead_bodies):
            self.raw(name, "UNLINK")
        self.link.close()


def plain(row: SagaRow | SagaSummary) -> tuple[Any, ...]:
    """Return a row of a listing as a tuple."""
    return row.key, row.lifecycle, row.siblings, row.life, row.versions


def indexed(store: Store) -> list[tuple[Any, ...]]:
    """Return what the index finds, without the times, which two clocks have told."""
    rows = [*store.index.find(SagaQuery()).rows, *store.index.find(SagaQuery(forked=True)).rows]
    told = {(*plain(row), bool(row.forked_since_ms), bool(row.completed_ms)) for row in rows}
    return sorted(told, key=repr)


def dots(snapshot: Snapshot) -> list[Dot]:
    """Return the dots of the live versions."""
    return [version.dot for version in snapshot.versions]


OFTEN = {"stored", "forked", "clock", "merged"}
ALL = OFTEN | {"late", "duplicate", "consumed", "completed", "life", "settle", "siblings"}
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("server", ["valkey_url", "redis7_url"])
def test_memory_and_server_never_differ(server: str, request: pytest.FixtureRequest) -> None:
    """Whatever is done, in whatever order: both stores give the same results, snapshots, histories and listings.

    Some sequences in the suite, ten thousand of them in `make machine`.
    """
    url = request.getfixturevalue(server)
    seen.clear()
    chosen = settings(settings.default, max_examples=10_000 if LONG else 60, stateful_step_count=30)
    run_state_machine_as_test(lambda: TwoStores(url), settings=chosen)
    print(dict(seen.most_common()))
    # Outcomes that are rare in a short run, each by a test of its own on every store: the store contract has those.
    assert (ALL if LONG else OFTEN) <= set(seen) <= ALL, "some outcome was never reached, so nothing was compared of it"
