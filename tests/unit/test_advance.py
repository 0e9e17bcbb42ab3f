"""The functional core: what a batch of messages asks of the store, without any store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from attrs import define, field

from sagabus.advance import advance
from sagabus.commit import Commit, Lifecycle, Snapshot, StoredVersion
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, Incoming, SagaKey, decode, derive_id
from sagabus.errors import CodecError, HandlerMisuseError, NoRouteError
from sagabus.messages import MergeSagaState, message
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.saga import Saga, handles, starts
from sagabus.store.memory import MemoryStore
from sagabus.versions import Dot
from tests.changes import evolve
from tests.sagas_for_tests import (
    NOW_MS,
    CheckCredit,
    CreditCheck,
    CreditState,
    End,
    Fail,
    Hand,
    Note,
    Nudge,
    Remind,
    RequestScore,
    ScoreReported,
    SerialCheck,
    Tally,
    TallyState,
    bound,
    incoming,
    merge_message,
    score,
)

KEY = SagaKey("CreditCheck", "42")
START = incoming(CheckCredit("42"), "start", replyto="client", correlationid="order-7")


def live(definition: SagaDefinition, *states: Any, key: SagaKey = KEY, **changes: Any) -> Snapshot:
    """Return a live saga with one version a state."""
    versions = tuple(
        StoredVersion(Dot("a", n + 2), {"a": 1}, definition.codec.encode(state)) for n, state in enumerate(states)
    )
    snapshot = Snapshot(
        key=key,
        now_ms=NOW_MS,
        lifecycle=Lifecycle.LIVE,
        life=1,
        clock={"a": len(states) + 1},
        versions=versions,
        starter=b'{"id":"start","source":"/client","replyto":"client","replysaga":"Order/9","replylife":3}',
    )
    return evolve(snapshot, **changes)


def absent(key: SagaKey = KEY) -> Snapshot:
    """Return a saga that never was."""
    return Snapshot(key, NOW_MS)


def facts(definition: SagaDefinition, commit: Commit) -> Any:
    """Return the state of the facts."""
    assert commit.facts.state is not None
    return definition.codec.decode(commit.facts.state)


def sent(commit: Commit, id_: str) -> list[Any]:
    """Return the messages that the facts send for *id_*."""
    return [Incoming(decode(outgoing.body)).message for outgoing in commit.facts.outgoing.get(id_, ())]


def envelopes(commit: Commit, id_: str) -> list[Envelope]:
    """Return the envelopes that the facts send for *id_*."""
    return [decode(outgoing.body) for outgoing in commit.facts.outgoing.get(id_, ())]


CREDIT = bound(CreditCheck)


# -- which messages take part ------------------------------------------------------------------------------------


def test_advance_with_nothing_new_asks_for_nothing() -> None:
    """Messages consumed before are passed over; with none left there is nothing to commit."""
    snapshot = live(CREDIT, CreditState(), consumed={"a": b""})
    commit = advance(CREDIT, snapshot, [score("a")])
    assert (commit.ids, commit.facts.state, commit.failures) == ((), None, ())


def test_advance_handles_what_starts_before_what_came_with_it() -> None:
    """Nothing orders messages, so in one batch the start is handled first."""
    commit = advance(CREDIT, absent(), [score("a"), START, score("b")])
    assert commit.ids == ("start", "a", "b")
    assert (commit.begins_life, commit.life, commit.context, commit.parents) == (True, 1, {}, ())
    assert facts(CREDIT, commit).scores == {"a": 700, "b": 700}
    assert b'"replyto":"client"' in commit.starter


def test_advance_leaves_early_messages_unconsumed() -> None:
    """A message that only continues a saga, with none started, does not run its handler."""
    commit = advance(CREDIT, absent(), [score("a"), score("b")])
    assert ([m.id for m in commit.early], commit.ids, commit.facts.outgoing) == (["a", "b"], (), {})


def test_advance_with_a_failing_start_leaves_its_batch_early() -> None:
    """Without the start that raised, the others have no saga to continue: they are early, not lost."""

    @define
    class State:
        seen: list[str] = field(factory=list)

    class Failing(Saga[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None:
            raise ValueError("no")

        @handles
        def noted(self, m: Note) -> None:
            self.state.seen.append(m.text)

    commit = advance(bound(Failing), absent(), [incoming(Note("x"), "n"), START])
    assert [(f.incoming.id, str(f.error)) for f in commit.failures] == [("start", "no")]
    assert ([m.id for m in commit.early], commit.ids) == (["n"], ())


def test_advance_with_a_failing_start_is_started_by_the_next() -> None:
    """Another start in the batch starts the saga where the first raised, and is who is replied to."""

    @define
    class State:
        seen: list[str] = field(factory=list)

    class Picky(Saga[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None:
            if self.message.customer == "bad":
                raise ValueError("no")

        @handles
        def noted(self, m: Note) -> None:
            self.state.seen.append(m.text)

    batch = [
        incoming(CheckCredit("bad"), "s1", replyto="one"),
        incoming(Note("x"), "n"),
        incoming(CheckCredit("good"), "s2", replyto="two"),
    ]
    commit = advance(bound(Picky), absent(), batch)
    assert commit.ids == ("s2", "n")
    assert b'"replyto":"two"' in commit.starter


def test_advance_drops_stale_timers_and_merges() -> None:
    """A timer that was cancelled or replaced, or a MergeSagaState of an earlier life, concerns nobody."""
    snapshot = live(CREDIT, CreditState(), timers={"t": "now"}, life=2)
    timer = {"saga": str(KEY), "timer": "t"}
    batch = [
        incoming(Remind(), "replaced", sagalife=2, **timer),
        incoming(Remind(), "earlier", sagalife=1, **timer),
        incoming(Remind(), "now", sagalife=2, **timer),
        merge_message(evolve(snapshot, life=1), "x"),
    ]
    commit = advance(CREDIT, snapshot, batch)
    assert [m.id for m in commit.stale] == ["replaced", "earlier", batch[3].id]
    assert (commit.ids, commit.fired) == (("now",), {"t": "now"})


def test_advance_drops_timers_and_merges_of_a_saga_that_is_over() -> None:
    """on_late is never called for timers or MergeSagaState."""
    snapshot = live(CREDIT, CreditState(), lifecycle=Lifecycle.COMPLETED)
    batch = [incoming(Remind(), "t", sagalife=1, timer="t"), merge_message(snapshot, "x")]
    commit = advance(CREDIT, snapshot, batch)
    assert (commit.stale, commit.ids, commit.late) == (tuple(batch), (), False)


# -- lives -------------------------------------------------------------------------------------------------------


TALLY = bound(Tally, endpoint="tally")
TALLY_KEY = SagaKey("Tally", "1")


def test_advance_on_a_tombstone_begins_a_new_life_where_that_is_allowed() -> None:
    """What came before the start is late for the old life; the start and the rest are a run of their own."""
    tomb = live(TALLY, TallyState(5), key=TALLY_KEY, lifecycle=Lifecycle.COMPLETED)
    first, second = incoming(End(), "e", replyto="client"), incoming(Note("new"), "n")
    commit = advance(TALLY, tomb, [first, second])
    assert (commit.late, commit.ids, commit.life, [m.id for m in commit.leftover]) == (True, ("e",), 1, ["n"])
    commit = advance(TALLY, tomb, [second, first])
    assert (commit.late, commit.ids, commit.life, commit.begins_life) == (False, ("n", "e"), 2, True)
    assert facts(TALLY, commit) == TallyState(1, ["new"])
    assert commit.context == tomb.clock


def test_advance_keeps_messages_of_an_old_life_out_of_the_new_one() -> None:
    """A message for life 1 in the batch that begins life 2 is not handled by it: it is late, in a run of its own."""
    tomb = live(TALLY, TallyState(5), key=TALLY_KEY, lifecycle=Lifecycle.COMPLETED)
    old = incoming(End(), "old", saga=str(TALLY_KEY), sagalife=1, replyto="client")
    commit = advance(TALLY, tomb, [incoming(Note("new"), "n"), old])
    assert (commit.ids, commit.life, [m.id for m in commit.leftover]) == (("n",), 2, ["old"])
    commit = advance(TALLY, evolve(tomb, lifecycle=Lifecycle.LIVE, life=2), [old])
    assert (commit.late, commit.ids, commit.life) == (True, ("old",), 1)


def test_advance_keeps_a_start_of_an_old_life_late() -> None:
    """A start message that is addressed to a life which is over begins no other."""
    tomb = live(TALLY, TallyState(5), key=TALLY_KEY, lifecycle=Lifecycle.COMPLETED)
    old = incoming(Note("old"), "old", saga=str(TALLY_KEY), sagalife=1, replyto="client")
    commit = advance(TALLY, tomb, [old])
    assert (commit.late, commit.ids, commit.life) == (True, ("old",), 1)


def test_advance_takes_messages_of_an_old_life_first() -> None:
    """Late messages are one commit of their own; those of the present life are left for the next run."""
    snapshot = live(TALLY, TallyState(), key=TALLY_KEY, life=2)
    old, new = (incoming(Note(str(n)), f"l{n}", sagalife=n, replyto="client") for n in (1, 2))
    commit = advance(TALLY, snapshot, [new, old])
    assert (commit.late, commit.ids, commit.life, [m.id for m in commit.leftover]) == (True, ("l1",), 1, ["l2"])
    assert advance(TALLY, snapshot, [new]).ids == ("l2",)


# -- late messages -----------------------------------------------------------------------------------------------


def test_late_message_may_reply_and_changes_nothing() -> None:
    """on_late sees the last state; what it sends is recorded under the message's id."""
    tomb = live(CREDIT, CreditState({"a": 1}), lifecycle=Lifecycle.COMPLETED)
    commit = advance(CREDIT, tomb, [score("c"), START])
    assert (commit.late, commit.ids, commit.facts.state, commit.decision) == (True, ("c", "start"), None, None)
    assert sent(commit, "c") == [Note("late c")]
    assert sent(commit, "start") == []


def test_late_message_whose_handler_raises_leaves_nothing() -> None:
    """No sends escape from an on_late that raised; its neighbours are not punished for what it did."""

    @define
    class State:
        pass

    class Odd(Saga[State], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None:
            pass

        def on_late(self, message: Any) -> None:
            self.send(Note("first"), to="notes")
            if isinstance(message, Nudge):
                self.send(Note("no route"))
            if isinstance(message, End):
                self.complete()
            if isinstance(message, Remind):
                self.defer(CheckCredit("1"), after=1)

    odd = bound(Odd)
    tomb = live(odd, State(), lifecycle=Lifecycle.COMPLETED)
    batch = [incoming(Nudge(), "1"), incoming(End(), "2"), incoming(Remind(), "3"), incoming(Note("x"), "4")]
    commit = advance(odd, tomb, batch)
    assert [(f.incoming.id, type(f.error)) for f in commit.failures] == [
        ("1", NoRouteError),
        ("2", HandlerMisuseError),
        ("3", HandlerMisuseError),
    ]
    assert commit.ids == ("4",)
    assert set(commit.facts.outgoing) == {"4"}
    assert len(commit.facts.outgoing["4"]) == 1


def test_late_message_of_a_saga_without_versions_has_a_fresh_state() -> None:
    """Where a store keeps no last state, on_late sees a new one."""
    tomb = live(CREDIT, lifecycle=Lifecycle.COMPLETED)
    assert sent(advance(CREDIT, tomb, [score("c")]), "c") == [Note("late c")]


def test_late_message_of_an_earlier_life_sees_nothing_of_the_present_one() -> None:
    """Neither the state nor the starter of the life that runs now are its business."""
    seen: list[Any] = []

    class Curious(Saga[TallyState], restartable=True):
        @starts
        def noted(self, m: Note) -> None:
            self.state.count += 1

        def on_late(self, message: Any) -> None:
            seen.append(self.state.count)
            self.reply_to_starter(Note("late"))

    curious = bound(Curious)
    snapshot = live(curious, TallyState(7), key=SagaKey("Curious", "1"), life=2)
    commit = advance(curious, snapshot, [incoming(Note("x"), "old", sagalife=1)])
    assert (seen, commit.ids) == ([0], ())
    assert "nobody to reply to" in str(commit.failures[0].error)
    tomb = evolve(snapshot, lifecycle=Lifecycle.COMPLETED)
    commit = advance(curious, tomb, [incoming(Note("x"), "old", sagalife=2)])
    assert (seen[1:], [o.to for o in commit.facts.outgoing["old"]]) == ([7], ["client"])


# -- one run -----------------------------------------------------------------------------------------------------


def test_run_computes_facts_and_decision_apart() -> None:
    """The facts are the state before decide(), the decision the state after; each has its own effects."""
    commit = advance(CREDIT, live(CREDIT, CreditState({"a": 1, "b": 2})), [score("c", 3)])
    assert facts(CREDIT, commit) == CreditState({"a": 1, "b": 2, "c": 3})
    assert commit.facts.outgoing == {}
    assert commit.decision is not None
    assert commit.decision.state is not None
    assert CREDIT.codec.decode(commit.decision.state).decisions == 1
    (verdict,) = commit.decision.outgoing["c"]
    assert (verdict.kind, verdict.to) == (OutgoingKind.EVENT, "test.credit-decided")
    assert (commit.completes, commit.must_settle) == (True, False)


def test_run_that_decides_nothing_has_no_decision() -> None:
    """A `decide()` that changes nothing and asks for nothing is no decision, so none is dropped where the run forks."""

    class Undecided(Saga[CreditState], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None: ...

        def decide(self) -> None:
            if len(self.state.scores) > 1:
                self.complete()

    commit = advance(bound(Undecided), Snapshot(SagaKey("Undecided", "42"), 1), [incoming(CheckCredit("42"), "start")])
    assert commit.facts.state is not None
    assert commit.decision is None


def test_run_is_repeatable_to_the_byte() -> None:
    """The same snapshot and messages give the same commit: ids, states, lines."""
    snapshot = live(CREDIT, CreditState({"a": 1}), CreditState({"b": 2}))
    assert advance(CREDIT, snapshot, [score("c"), incoming(Nudge(), "n")]) == advance(
        CREDIT, snapshot, [score("c"), incoming(Nudge(), "n")]
    )


def test_run_mutates_no_snapshot() -> None:
    """Handlers work on a copy: what the store returned stays as it was."""
    snapshot = live(CREDIT, CreditState({"a": 1}))
    before = evolve(snapshot)
    advance(CREDIT, snapshot, [score("b")])
    assert snapshot == before


def test_run_that_begins_a_life_ignores_the_old_state() -> None:
    """A new life begins with a new state, no parents and its own starter."""
    tomb = live(TALLY, TallyState(9, ["old"]), key=TALLY_KEY, lifecycle=Lifecycle.COMPLETED)
    commit = advance(TALLY, tomb, [incoming(Note("n"), "n", replyto="me")])
    assert (commit.parents, commit.parent) == ((), None)
    assert b'"replyto":"me"' in commit.starter


def test_run_of_a_serial_saga_must_settle() -> None:
    """Without a merger nothing may fork."""
    serial = bound(SerialCheck)
    commit = advance(serial, live(serial, CreditState(), key=SagaKey("SerialCheck", "42")), [score("a")])
    assert commit.must_settle


def test_run_after_complete_leaves_the_rest() -> None:
    """complete() in a handler ends the run: decide() does not run, and what follows is late in the next one."""
    commit = advance(CREDIT, live(CREDIT, CreditState()), [score("a"), incoming(End(), "e"), score("b")])
    assert (commit.ids, commit.completes, commit.must_settle, commit.decision) == (("a", "e"), True, True, None)
    assert [m.id for m in commit.leftover] == ["b"]


def test_run_of_a_merge_with_nothing_to_merge_only_consumes_it() -> None:
    """Neither handler nor decide() runs, and no version is written."""
    snapshot = live(CREDIT, CreditState({"a": 1}))
    commit = advance(CREDIT, snapshot, [merge_message(snapshot, "x")])
    assert (commit.facts.state, commit.decision, commit.completes) == (None, None, False)
    assert commit.ids == (merge_message(snapshot, "x").id,)


def test_run_of_siblings_merges_before_anything_else() -> None:
    """Merger, then the handler of MergeSagaState, then the messages; also where another message found the siblings."""
    snapshot = live(CREDIT, CreditState({"a": 1}), CreditState({"b": 2}))
    commit = advance(CREDIT, snapshot, [incoming(Nudge(), "n")])
    assert commit.parents == (Dot("a", 2), Dot("a", 3))
    assert facts(CREDIT, commit) == CreditState({"a": 1, "b": 2}, merges=1)
    assert sent(commit, "n") == [Note("merged"), Note("nudged 2")]


def test_run_whose_merger_raises_handles_nothing() -> None:
    """An unmergeable saga is left as it is: nothing consumed, nothing failed, all to be tried again."""

    def refusing(siblings: Any) -> Any:
        raise ValueError("no value stands for both")

    definition = evolve(CREDIT, merger=refusing)
    snapshot = live(CREDIT, CreditState(), CreditState({"a": 1}))
    batch = [score("b"), merge_message(snapshot, "x")]
    commit = advance(definition, snapshot, batch)
    assert str(commit.unmergeable) == "no value stands for both"
    assert (commit.ids, commit.failures, commit.leftover) == ((), (), tuple(batch))


@pytest.mark.parametrize("broken", ["starter", "state"])
def test_run_that_cannot_read_what_is_stored_handles_nothing(broken: str) -> None:
    """A state or starter that this code cannot read parks its saga as a broken merger does; nothing escapes."""
    snapshot = live(CREDIT, CreditState())
    if broken == "starter":
        snapshot = evolve(snapshot, starter=b"{")
    else:
        snapshot = evolve(snapshot, versions=(evolve(snapshot.versions[0], state=b"\xc1"),))
    commit = advance(CREDIT, snapshot, [score("a")])
    assert commit.unmergeable is not None
    assert (commit.ids, [m.id for m in commit.leftover]) == ((), ["a"])
    late = advance(CREDIT, evolve(snapshot, lifecycle=Lifecycle.COMPLETED), [score("a")])
    assert ([f.incoming.id for f in late.failures], late.ids) == (["a"], ())


def test_run_whose_merge_handler_raises_handles_nothing() -> None:
    """A MergeSagaState handler that raises parks the saga like a merger that does."""

    @define
    class State:
        n: int = 0

    class Raising(Saga[State], key="customer", merger=max_of):
        @starts
        def started(self, m: CheckCredit) -> None:
            pass

        @handles
        def merged(self, m: MergeSagaState) -> None:
            raise ValueError("no")

    definition = bound(Raising)
    commit = advance(definition, live(definition, State(1), State(2)), [START])
    assert (str(commit.unmergeable), commit.ids, [m.id for m in commit.leftover]) == ("no", (), ["start"])


def test_reply_to_a_merge_is_refused() -> None:
    """Nobody sent MergeSagaState: a reply would go to whoever's message found the siblings."""

    @define
    class State:
        n: int = 0

    class Replying(Saga[State], key="customer", merger=max_of):
        @starts
        def started(self, m: CheckCredit) -> None:
            pass

        @handles
        def merged(self, m: MergeSagaState) -> None:
            self.reply(Note("merged"))

    definition = bound(Replying)
    commit = advance(definition, live(definition, State(1), State(2)), [START])
    assert "nobody sent MergeSagaState; use self.reply_to_starter" in str(commit.unmergeable)


def max_of(siblings: Any) -> Any:
    return max(siblings, key=lambda sibling: sibling.n)


def test_run_with_an_ancestral_merger_folds_changes() -> None:
    """Each sibling is folded with its own parent's state; two first writes have the initial state."""
    parent = TALLY.codec.encode(TallyState(10))
    states = (TallyState(11, ["x"]), TallyState(12, ["y"]), TallyState(13, ["z"]))
    snapshot = live(TALLY, *states, key=TALLY_KEY)
    snapshot = evolve(snapshot, versions=tuple(evolve(v, parent=parent) for v in snapshot.versions))
    commit = advance(TALLY, snapshot, [merge_message(snapshot, "x")])
    assert facts(TALLY, commit) == TallyState(16, ["x", "y", "z"])
    assert commit.parent == parent
    first_writes = evolve(snapshot, versions=tuple(evolve(v, parent=None) for v in snapshot.versions))
    commit = advance(TALLY, first_writes, [incoming(Note("w"), "w")])
    assert facts(TALLY, commit) == TallyState(37, ["w", "x", "y", "z"])


def test_run_with_an_ancestral_merger_folds_the_largest_context_first() -> None:
    """A merged version that forked again is not counted twice with the sibling it had not merged."""
    encode = TALLY.codec.encode
    merged = StoredVersion(Dot("a", 4), {"a": 3}, encode(TallyState(13)), encode(TallyState(10)))
    stale = StoredVersion(Dot("a", 5), {"a": 2}, encode(TallyState(12)), encode(TallyState(11)))
    for versions in ((merged, stale), (evolve(merged, dot=Dot("a", 6)), stale)):
        snapshot = live(TALLY, key=TALLY_KEY, versions=versions, clock={"a": 6})
        commit = advance(TALLY, snapshot, [merge_message(snapshot, "x")])
        assert facts(TALLY, commit).count == 14


# -- failures ----------------------------------------------------------------------------------------------------


def test_handler_that_raises_leaves_no_trace() -> None:
    """Neither its sends nor its changes leave; the others are handled as if it had never been there."""
    snapshot = live(CREDIT, CreditState())
    commit = advance(CREDIT, snapshot, [score("a"), incoming(Fail(), "f"), score("b")])
    assert [(f.incoming.id, str(f.error)) for f in commit.failures] == [("f", "as asked")]
    without = advance(CREDIT, snapshot, [score("a"), score("b")])
    assert evolve(commit, failures=()) == without


def test_batch_of_failures_only_asks_for_nothing() -> None:
    """Where every message fails there is nothing to store."""
    commit = advance(CREDIT, live(CREDIT, CreditState()), [incoming(Fail(), "f"), incoming(Fail(), "g")])
    assert (commit.ids, [f.incoming.id for f in commit.failures]) == ((), ["f", "g"])


def test_message_that_does_not_fit_its_class_fails_alone() -> None:
    """A body that cannot be decoded is that message's failure, with the path in the text."""
    envelope = evolve_envelope(score("a").envelope, type="test.score-reported", data=b'{"bureau":"a","score":"x"}')
    commit = advance(CREDIT, live(CREDIT, CreditState()), [Incoming(envelope), score("b")])
    (failure,) = commit.failures
    assert isinstance(failure.error, CodecError)
    assert "$.score" in str(failure.error)
    assert commit.ids == ("b",)


def evolve_envelope(envelope: Envelope, **changes: Any) -> Envelope:
    """Return *envelope* with other fields."""
    if "data" in changes:
        changes["data"] = msgspec.Raw(changes["data"])
    return msgspec.structs.replace(envelope, **changes)


@define
class Fragile:
    n: int = 0


class FragileSaga(Saga[Fragile], key="customer"):
    """decide() raises at 2; a handler can make the state unfit to be stored."""

    @starts
    def started(self, m: CheckCredit) -> None:
        pass

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.n = m.score

    @handles
    def noted(self, m: Note) -> None:
        self.state.n = m.text  # type: ignore[assignment]

    def decide(self) -> None:
        if self.state.n == 2:
            raise ValueError("two")


FRAGILE = bound(FragileSaga)


def test_decide_that_raises_is_blamed_on_the_message_that_causes_it() -> None:
    """Whose fault it is shows when each message is run alone: the first is committed, the others are left for later."""
    snapshot = live(FRAGILE, Fragile())
    commit = advance(FRAGILE, snapshot, [score("a", 1), score("b", 2), score("c", 3), score("d", 2)])
    assert (commit.ids, [m.id for m in commit.leftover], commit.failures) == (("a",), ["b", "c", "d"], ())
    commit = advance(FRAGILE, snapshot, [score("b", 2), score("c", 2)])
    assert ([f.incoming.id for f in commit.failures], [m.id for m in commit.leftover]) == (["b"], ["c"])
    assert commit.ids == ()


def test_state_that_cannot_be_stored_fails_its_message() -> None:
    """What the codec could not read again is never written."""
    commit = advance(FRAGILE, live(FRAGILE, Fragile()), [incoming(Note("text"), "n")])
    (failure,) = commit.failures
    assert "$[1].n" in str(failure.error)
    assert commit.ids == ()


# -- effects -----------------------------------------------------------------------------------------------------


@define
class Nothing:
    pass


class Asking(Saga[Nothing], key="customer"):
    """Asks for whatever the test's callable asks for."""

    ask: Any = None

    @starts
    def started(self, m: CheckCredit) -> None:
        pass

    @handles
    def nudged(self, m: Nudge) -> None:
        type(self).ask(self)

    @handles
    def reminded(self, m: Remind) -> None:
        pass


def asked(ask: Any, *, snapshot: Snapshot | None = None, **attributes: Any) -> Commit:
    """Return the commit of a handler that asks for something."""
    Asking.ask = staticmethod(ask)
    definition = bound(Asking, **{"test.note": "notes"})
    key = SagaKey("Asking", "42")
    return advance(definition, snapshot or live(definition, Nothing(), key=key), [incoming(Nudge(), "n", **attributes)])


def test_send_goes_to_its_endpoint_with_a_way_back() -> None:
    """A command says who asked, which life of it, what caused it, and whose conversation it is."""
    commit = asked(lambda s: s.send(RequestScore("42"), to="equifax"), correlationid="order-7", traceparent="00-1-2-01")
    (outgoing,) = commit.facts.outgoing["n"]
    (envelope,) = envelopes(commit, "n")
    assert (outgoing.kind, outgoing.to, outgoing.partition_key) == (OutgoingKind.COMMAND, "equifax", "42")
    assert outgoing.id == envelope.id == derive_id("Asking/42", 1, "n", "", 0)
    assert (envelope.source, envelope.type, envelope.time) == (
        "/credit",
        "test.request-score",
        "2023-11-14T22:13:20.000Z",
    )
    assert (envelope.replyto, envelope.replysaga, envelope.replylife) == ("credit", "Asking/42", 1)
    assert (envelope.correlationid, envelope.causationid, envelope.traceparent) == ("order-7", "n", "00-1-2-01")


def test_handler_that_returns_a_coroutine_or_a_generator_fails_its_message() -> None:
    """Code that was made and not run is never taken for handling: the message fails, and says why."""

    async def later() -> None: ...

    made = [later(), (n for n in [1])]

    class Lazy(Saga[CreditState], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> Any:
            return made[0]

    for answer in list(made):
        commit = advance(bound(Lazy), Snapshot(SagaKey("Lazy", "42"), 1), [incoming(CheckCredit("42"), "start")])
        assert commit.ids == ()
        assert f"started returned a {type(answer).__name__}" in str(commit.failures[0].error)
        made.pop(0).close()  # type: ignore[attr-defined]


def test_send_of_a_class_or_of_a_message_that_does_not_fit_it_fails_at_its_sender() -> None:
    """What the receiver could not read never leaves."""
    (failure,) = asked(lambda s: s.send(Note, to="notes")).failures
    assert "Note is a class; send a message of it" in str(failure.error)
    (failure,) = asked(lambda s: s.send(CheckCredit(42), to="credit")).failures  # type: ignore[arg-type]
    assert "Expected `str`, got `int` - at `$.customer`" in str(failure.error)


def test_effect_of_a_saga_that_nobody_runs_is_refused() -> None:
    """From outside a handler nothing can be sent, and the error says what can be used instead."""
    with pytest.raises(HandlerMisuseError, match=r"send works only in a handler .* use bus\.send"):
        CREDIT.cls().send(Note("x"), to="notes")
    with pytest.raises(HandlerMisuseError, match="complete"):
        CREDIT.cls().complete()


def test_send_without_to_takes_the_route_of_its_type() -> None:
    """Where no endpoint is named the bus's routes say; without one, handling fails with the mend."""
    assert [o.to for o in asked(lambda s: s.send(Note("x"))).facts.outgoing["n"]] == ["notes"]
    (failure,) = asked(lambda s: s.send(RequestScore("42"))).failures
    assert isinstance(failure.error, NoRouteError)
    assert "no route for 'test.request-score'" in str(failure.error)
    assert "bus.route(ItsClass, to=ENDPOINT)" in str(failure.error)


def test_first_message_of_a_conversation_names_it() -> None:
    """Without a correlation id the conversation is named after the message that began it."""
    (envelope,) = envelopes(asked(lambda s: s.publish(Note("x"))), "n")
    assert (envelope.correlationid, envelope.causationid) == ("n", "n")


def test_reply_goes_back_to_the_saga_that_asked() -> None:
    """A reply carries the saga and the life of who asked, so that it is found without a key."""
    commit = asked(lambda s: s.reply(Note("x")), replyto="orders", replysaga="Order/a/b", replylife=4)
    (outgoing,) = commit.facts.outgoing["n"]
    (envelope,) = envelopes(commit, "n")
    assert (outgoing.to, outgoing.partition_key) == ("orders", "a/b")
    assert (envelope.saga, envelope.sagalife) == ("Order/a/b", 4)


def test_reply_to_a_client_carries_no_saga() -> None:
    """Who asked without being a saga gets the plain answer."""
    commit = asked(lambda s: s.reply(Note("x")), replyto="client")
    (outgoing,) = commit.facts.outgoing["n"]
    (envelope,) = envelopes(commit, "n")
    assert (outgoing.to, envelope.saga, envelope.sagalife) == ("client", "", 0)


def test_reply_to_nobody_fails_the_message() -> None:
    """A message that was sent without a reply address cannot be answered."""
    (failure,) = asked(lambda s: s.reply(Note("x"))).failures
    assert isinstance(failure.error, HandlerMisuseError)
    assert "reply_to=ENDPOINT" in str(failure.error)


def test_reply_to_starter_answers_who_started_the_saga() -> None:
    """The starter's address is kept in the record, its saga and life included."""
    commit = asked(lambda s: s.reply_to_starter(Note("x")))
    (outgoing,) = commit.facts.outgoing["n"]
    (envelope,) = envelopes(commit, "n")
    assert (outgoing.to, outgoing.partition_key) == ("client", "9")
    assert (envelope.saga, envelope.sagalife) == ("Order/9", 3)


def test_starter_waits_where_it_can_be_answered() -> None:
    """A saga that nobody waits for can tell, and does not reply."""

    class Told(Saga[TallyState], key="customer"):
        @starts
        def told(self, m: CheckCredit) -> None:
            self.state.count = int(self.starter_waits)

        def decide(self) -> None:
            self.state.count += 10 * self.starter_waits

    told = bound(Told)
    key = SagaKey("Told", "42")
    for attributes, count in (({}, 0), ({"replyto": "client"}, 11)):
        commit = advance(told, absent(key), [incoming(CheckCredit("42"), "n", **attributes)])
        state = commit.decision.state if commit.decision else commit.facts.state
        assert told.codec.decode(state) == TallyState(count)
    assert not Told().starter_waits


def test_reply_in_decide_is_refused() -> None:
    """decide() handles no message; the error names what to use instead."""

    class Replying(Saga[Nothing], key="customer"):
        @starts
        def started(self, m: CheckCredit) -> None:
            pass

        def decide(self) -> None:
            self.reply(Note("x"))

    commit = advance(bound(Replying), absent(SagaKey("Replying", "42")), [START])
    assert "reply_to_starter" in str(commit.failures[0].error)


def test_defer_sets_a_timer_for_the_same_saga_and_life() -> None:
    """A timer is a message of the saga to itself; unnamed, its id is its name."""
    commit = asked(lambda s: (s.defer(Remind(), after=timedelta(minutes=1), name="t"), s.defer(Remind(), after=0.25)))
    named, unnamed = commit.facts.outgoing["n"]
    assert [(o.kind, o.to, o.due_ms - NOW_MS) for o in (named, unnamed)] == [
        (OutgoingKind.TIMER, "credit", 60_000),
        (OutgoingKind.TIMER, "credit", 250),
    ]
    assert commit.facts.timers == {"t": named.id, unnamed.id: unnamed.id}
    first, second = envelopes(commit, "n")
    assert (first.saga, first.sagalife, first.timer, second.timer) == ("Asking/42", 1, "t", unnamed.id)


def test_defer_at_a_time_is_that_time() -> None:
    """A time with its zone says when exactly."""
    at = datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(hours=2)
    (outgoing,) = asked(lambda s: s.defer(Remind(), at=at)).facts.outgoing["n"]
    assert outgoing.due_ms == NOW_MS + 7_200_000


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda s: s.defer(Remind()), "either after= or at="),
        (lambda s: s.defer(Remind(), after=1, at=datetime.now(UTC)), "either after= or at="),
        (lambda s: s.defer(Remind(), after=-1), "negative"),
        (lambda s: s.defer(Remind(), at=datetime(2030, 1, 1)), "time zone"),  # noqa: DTZ001
        (lambda s: s.defer(Note("x"), after=1), "no handler for it"),
        (lambda s: s.send("text", to="x"), "is not a message"),
    ],
)
def test_effect_that_cannot_be_fails_the_message(ask: Any, text: str) -> None:
    """What cannot be done where it was asked for is said in the handler's failure."""
    (failure,) = asked(ask).failures
    assert text in str(failure.error)


def test_cancel_after_defer_leaves_no_timer() -> None:
    """Effects count in the order asked for: set then cancelled is cancelled, cancelled then set is set."""
    commit = asked(lambda s: (s.defer(Remind(), after=1, name="t"), s.cancel("t")))
    assert (commit.facts.timers, commit.facts.cancelled) == ({}, ("t",))
    commit = asked(lambda s: (s.cancel("t"), s.defer(Remind(), after=1, name="t")))
    assert (list(commit.facts.timers), commit.facts.cancelled) == (["t"], ("t",))


def test_effect_that_is_too_large_fails_the_message() -> None:
    """An envelope over the bus's limit is refused while it can still be blamed on its handler."""
    (failure,) = asked(lambda s: s.publish(Note("x" * 200_000))).failures
    assert isinstance(failure.error, CodecError)
    assert failure.error.reason == "too-large"


def test_effects_have_ids_that_differ_by_all_that_matters() -> None:
    """Saga, life, message, half and place: no two effects share an id."""
    commits = [
        asked(lambda s: (s.publish(Note("x")), s.publish(Note("x")))),
        asked(lambda s: s.publish(Note("x")), snapshot=live(bound(Asking), Nothing(), key=SagaKey("Asking", "43"))),
        asked(
            lambda s: s.publish(Note("x")), snapshot=live(bound(Asking), Nothing(), key=SagaKey("Asking", "42"), life=2)
        ),
    ]
    ids = [outgoing.id for commit in commits for outgoing in commit.facts.outgoing["n"]]
    assert len(set(ids)) == len(ids) == 4


def test_saga_sees_who_and_when_it_is() -> None:
    """key, id, now and message are what they say."""
    seen: list[Any] = []
    asked(lambda s: seen.extend((s.key, s.id, s.now, s.message)))
    assert seen == ["42", "42", datetime.fromtimestamp(NOW_MS / 1000, UTC), Nudge()]


def test_defaults_of_a_saga_do_nothing() -> None:
    """A saga need not decide, nor care for late messages."""
    definition = bound(Asking)
    tomb = live(definition, Nothing(), key=SagaKey("Asking", "42"), lifecycle=Lifecycle.COMPLETED)
    commit = advance(definition, tomb, [incoming(Nudge(), "n")])
    assert (commit.late, commit.ids, commit.facts.outgoing) == (True, ("n",), {})


@message("test.unhandled")
class Unhandled:
    pass


def test_message_without_a_handler_fails() -> None:
    """The driver passes only what the saga handles; anything else is a failure, never silence."""
    commit = advance(CREDIT, live(CREDIT, CreditState()), [incoming(Unhandled(), "u")])
    assert isinstance(commit.failures[0].error, KeyError)


def test_hand_driven_check_completes() -> None:
    """The core, on a store, from the first message to the verdict."""
    hand = Hand(MemoryStore())
    hand.start()
    hand.fork(score("a", 1), score("b", 2))
    commit, _ = hand.handle(score("c", 3))
    assert commit.merged
    assert hand.load().lifecycle is Lifecycle.COMPLETED
    assert [type(o) for o in hand.sent("c")] == [Outgoing, Outgoing]
