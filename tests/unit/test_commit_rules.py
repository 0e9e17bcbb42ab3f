"""Each commit rule's shortest trace, through the functional core, on a store in memory and on a server."""

from __future__ import annotations

import pytest

from sagabus.commit import Lifecycle, Outcome
from sagabus.definition import Limits
from sagabus.outgoing import OutgoingKind, from_lines, merge_id
from sagabus.store.protocol import Store
from tests.changes import evolve
from tests.sagas_for_tests import (
    CheckCredit,
    CreditDecided,
    CreditState,
    End,
    Fail,
    Hand,
    Note,
    Nudge,
    RequestScore,
    SerialCheck,
    Tally,
    TallyState,
    bound,
    incoming,
    merge_message,
    score,
)


@pytest.fixture
def hand(either_store: Store) -> Hand:
    """Return a hand on a credit check that has started."""
    hand = Hand(either_store)
    hand.start()
    return hand


def test_rule_1_redelivered_message_is_a_duplicate(hand: Hand) -> None:
    """A crash before the ack: the message comes again, nothing is done twice, and what it left is handed back."""
    base = hand.load()
    commit = hand.run(base, incoming(Nudge(), "n"))
    assert hand.put(commit).outcome is Outcome.STORED
    result = hand.put(commit)
    assert result.outcome is Outcome.DUPLICATE
    assert [outgoing.to for outgoing in from_lines(result.consumed["n"])[0]] == ["notes"]
    again = hand.run(hand.load("n"), incoming(Nudge(), "n"))
    assert again.ids == ()


def test_rule_1_batch_part_of_which_was_consumed_before_is_run_again_without_it(hand: Hand) -> None:
    """Two workers got overlapping batches: the second starts over, and then handles only what is new."""
    base = hand.load("a", "b")
    first, second = hand.run(base, score("a")), hand.run(base, score("a"), score("b"))
    assert hand.put(first).outcome is Outcome.STORED
    result = hand.put(second)
    assert (result.outcome, result.reason, set(result.consumed)) == (Outcome.AGAIN, "consumed", {"a"})
    commit, result = hand.handle(score("a"), score("b"))
    assert (commit.ids, result.outcome) == (("b",), Outcome.STORED)
    assert hand.states() == [CreditState({"a": 700, "b": 700}, decisions=3)]


def test_rule_1_same_id_twice_in_a_batch_is_handled_once(hand: Hand) -> None:
    """A second copy in the batch is passed over."""
    commit, result = hand.handle(score("a"), incoming(Nudge(), "n"), score("a"), incoming(Nudge(), "n"))
    assert (commit.ids, result.outcome) == (("a", "n"), Outcome.STORED)
    assert hand.bodies("n") == [Note("nudged 1")]


def test_rule_2_message_for_a_completed_saga_is_late(hand: Hand) -> None:
    """The state stays, what on_late sends is recorded, and a redelivery is a duplicate."""
    hand.handle(score("a"), score("b"), score("c"))
    before = hand.load()
    commit, result = hand.handle(score("d"))
    assert (commit.late, result.outcome) == (True, Outcome.LATE)
    assert hand.bodies("d") == [Note("late d")]
    assert hand.load().versions == before.versions
    assert hand.run(hand.load("d"), score("d")).ids == ()


def test_rule_2_run_that_finds_its_saga_completed_is_made_again_and_is_late(hand: Hand) -> None:
    """The saga ended between load and commit: the run is made again, and its message is late then."""
    commit = hand.run(hand.load(), score("d"))
    hand.handle(score("a"), score("b"), score("c"))
    result = hand.put(commit)
    assert (result.outcome, result.reason) == (Outcome.AGAIN, "completed")
    assert hand.handle(score("d"))[1].outcome is Outcome.LATE


def test_rule_3_context_from_beyond_the_clock_is_run_again(hand: Hand) -> None:
    """A failover lost what the run had read: it starts over from what there is."""
    lost = hand.load()
    commit = hand.run(evolve(lost, clock={**lost.clock, "other-primary": 1}), score("a"))
    result = hand.put(commit)
    assert (result.outcome, result.reason) == (Outcome.AGAIN, "clock")
    assert hand.handle(score("a"))[1].outcome is Outcome.STORED


def test_rule_4_decision_is_discarded_with_its_state_while_the_facts_effects_leave(hand: Hand) -> None:
    """The verdict of a run that had not seen everything never leaves; what its handlers asked for does."""
    hand.handle(score("a"), score("b"))
    base = hand.load()
    verdict = hand.run(base, incoming(Nudge(), "n"), score("c", 1))
    assert verdict.completes
    hand.put(hand.run(base, incoming(Nudge(), "first")))
    assert hand.put(verdict).outcome is Outcome.FORKED
    assert hand.bodies("n") == [Note("nudged 2")]
    messages, merge = from_lines(hand.load("c").consumed["c"])
    assert (messages, merge) == ([], True)
    assert hand.load().lifecycle is Lifecycle.LIVE
    assert [state.scores.get("c") for state in hand.states()] == [None, 1]
    assert [state.decisions for state in hand.states()] == [3, 2]


def test_rule_4_handler_that_completes_and_cannot_settle_is_run_again(hand: Hand) -> None:
    """complete() outside decide() is no decision that could be dropped: the whole run is made again."""
    base = hand.load()
    ending = hand.run(base, incoming(End(), "end"))
    hand.put(hand.run(base, score("a")))
    result = hand.put(ending)
    assert (result.outcome, result.reason) == (Outcome.AGAIN, "settle")
    _, result = hand.handle(incoming(End(), "end"))
    assert result.outcome is Outcome.STORED
    assert hand.load().lifecycle is Lifecycle.COMPLETED
    assert hand.states()[0].scores == {"a": 700, "end": 0}


def test_rule_4_serial_saga_never_forks(either_store: Store) -> None:
    """Without a merger the loser of a race runs again on what the winner wrote."""
    hand = Hand(either_store, bound(SerialCheck))
    base = hand.start()
    runs = [hand.run(base, score("a")), hand.run(base, score("b"))]
    assert [(r.outcome, r.reason) for r in map(hand.put, runs)] == [(Outcome.STORED, ""), (Outcome.AGAIN, "settle")]
    assert hand.handle(score("b"))[1].outcome is Outcome.STORED
    assert hand.states()[0].scores == {"a": 700, "b": 700}
    assert hand.load().pending_merge == ""


def test_rule_4_serial_saga_that_starts_twice_at_once_starts_once(either_store: Store) -> None:
    """Two first writes of a serial saga: the second runs again, on the first one's state."""
    hand = Hand(either_store, bound(SerialCheck))
    nothing = hand.load()
    runs = [hand.run(nothing, incoming(CheckCredit("42"), id_)) for id_ in ("s1", "s2")]
    assert [hand.put(run).outcome for run in runs] == [Outcome.STORED, Outcome.AGAIN]
    assert hand.handle(incoming(CheckCredit("42"), "s2"))[1].outcome is Outcome.STORED


def test_rule_4_sibling_limit_makes_writers_merge(hand: Hand) -> None:
    """At the limit a fork is run again: it then finds the siblings and merges them."""
    limited = Hand(hand.store, evolve(hand.definition, limits=Limits(siblings=2)))
    base = limited.load()
    late_run = limited.run(base, score("c"))
    limited.fork(score("a"), score("b"))
    result = limited.put(late_run)
    assert (result.outcome, result.reason) == (Outcome.AGAIN, "siblings")
    commit, result = limited.handle(score("c"))
    assert (commit.merged, result.outcome, result.live) == (True, Outcome.STORED, 1)


def test_rule_5_two_mergers_at_once_never_fork(hand: Hand) -> None:
    """The second finds that what it merged is gone, runs again, and has nothing left to merge."""
    siblings = hand.fork(score("a"), score("b"))
    merge = merge_message(siblings, "b")
    runs = [hand.run(siblings, incoming(Nudge(), "n")), hand.run(siblings, merge)]
    results = [hand.put(run) for run in runs]
    assert [(r.outcome, r.reason, r.live) for r in results] == [
        (Outcome.STORED, "", 1),
        (Outcome.AGAIN, "merged", 1),
    ]
    before = hand.load().versions
    _, result = hand.handle(merge)
    assert (result.outcome, result.dot) == (Outcome.STORED, None)
    assert hand.load().versions == before


def test_rule_5_merge_never_raises_the_number_of_siblings(hand: Hand) -> None:
    """However many forks came since the merge was read, it takes the place of what it merged."""
    base = hand.load()
    stale = [hand.run(base, score(str(n))) for n in range(3)]
    siblings = hand.fork(score("a"), score("b"))
    merging = hand.run(siblings, merge_message(siblings, "b"))
    for run in stale:
        hand.put(run)
    assert len(hand.load().versions) == 5
    result = hand.put(merging)
    assert (result.outcome, result.live) == (Outcome.FORKED, 4)


def test_rule_6_fork_while_a_merge_is_pending_posts_no_other(hand: Hand) -> None:
    """One MergeSagaState at a time: the third sibling waits for the one that is under way."""
    base = hand.load()
    runs = [hand.run(base, score(bureau)) for bureau in ("a", "b", "x")]
    results = [hand.put(run) for run in runs]
    assert [r.posted_merge for r in results] == [False, True, False]
    siblings = hand.load()
    assert siblings.pending_merge == merge_id(hand.key, 1, "b")
    _, result = hand.handle(merge_message(siblings, "b"))
    assert (result.outcome, result.live) == (Outcome.STORED, 1)
    assert hand.load().pending_merge == ""


def test_rule_6_fork_while_a_merge_is_handled_is_followed_by_the_next(hand: Hand) -> None:
    """What forked after the merge was read is told by a MergeSagaState of its own, in the same write."""
    base = hand.load()
    stale = hand.run(base, score("x"))
    siblings = hand.fork(score("a"), score("b"))
    merge = merge_message(siblings, "b")
    handling = hand.run(siblings, merge)
    assert not hand.put(stale).posted_merge
    result = hand.put(handling)
    assert (result.outcome, result.live, result.posted_merge) == (Outcome.FORKED, 2, True)
    after = hand.load()
    assert after.pending_merge == merge_id(hand.key, 1, merge.id)
    commit, result = hand.handle(merge_message(after, merge.id))
    assert (commit.merged, result.live) == (True, 1)
    assert hand.load().pending_merge == ""


def test_rule_6_merge_with_nothing_to_merge_writes_no_version(hand: Hand) -> None:
    """Another message merged on its way: MergeSagaState consumes its id and clears itself."""
    siblings = hand.fork(score("a"), score("b"))
    hand.handle(incoming(Nudge(), "n"))
    settled = hand.load()
    assert settled.pending_merge == siblings.pending_merge
    commit, result = hand.handle(merge_message(siblings, "b"))
    assert (commit.facts.state, result.dot) == (None, None)
    assert (hand.load().versions, hand.load().pending_merge) == (settled.versions, "")


def test_rule_7_completion_needs_a_settled_saga(hand: Hand) -> None:
    """Two runs that would each complete: one verdict leaves, from the run that settles; the other is late or merged."""
    hand.handle(score("a"), score("b"))
    base = hand.load()
    runs = [hand.run(base, score("c", 1, id="c1")), hand.run(base, score("c", 2, id="c2"))]
    assert [run.completes for run in runs] == [True, True]
    assert [hand.put(run).outcome for run in runs] == [Outcome.STORED, Outcome.AGAIN]
    assert hand.handle(score("c", 2, id="c2"))[1].outcome is Outcome.LATE
    verdicts = [b for id_ in ("c1", "c2") for b in hand.bodies(id_) if isinstance(b, CreditDecided)]
    assert verdicts == [CreditDecided("42", 1401)]


def test_rule_7_new_life_keeps_the_old_one_out(either_store: Store) -> None:
    """A restartable saga begins anew; what was computed in, or sent to, the old life is late."""
    hand = Hand(either_store, bound(Tally, endpoint="tally"))
    hand.handle(incoming(Note("one"), "s1"))
    old_run = hand.run(hand.load(), incoming(Note("slow"), "slow", replyto="client"))
    hand.handle(incoming(End(), "e1"))
    _, result = hand.handle(incoming(Note("two"), "s2"))
    assert result.outcome is Outcome.STORED
    assert (hand.load().life, hand.states()) == (2, [TallyState(1, ["two"])])
    result = hand.put(old_run)
    assert (result.outcome, result.reason) == (Outcome.AGAIN, "life")
    to_old = incoming(Note("old"), "old", saga=str(hand.key), sagalife=1, replyto="client")
    commit, result = hand.handle(to_old)
    assert (commit.late, result.outcome) == (True, Outcome.LATE)
    assert hand.states() == [TallyState(1, ["two"])]
    assert hand.bodies("old") == [Note("too late")]


def test_rule_8_same_bytes_make_no_version(either_store: Store) -> None:
    """A message that changes nothing leaves its effects and no version."""
    hand = Hand(either_store, bound(Tally, endpoint="tally"))
    hand.handle(incoming(Note("one"), "s1"))
    before = hand.load()
    commit = hand.run(before, incoming(Note("two"), "s2"))
    same = evolve(commit, facts=evolve(commit.facts, state=before.versions[0].state), decision=None)
    assert hand.put(same).dot is None
    assert hand.load().versions == before.versions


def test_handler_that_raises_in_the_middle_of_a_batch_leaves_no_trace(hand: Hand) -> None:
    """Its neighbours are committed as if it had never been there; its id is not consumed."""
    commit, result = hand.handle(score("a"), incoming(Fail(), "f"), incoming(Nudge(), "n"))
    assert ([f.incoming.id for f in commit.failures], commit.ids) == (["f"], ("a", "n"))
    assert result.outcome is Outcome.STORED
    snapshot = hand.load("a", "f", "n")
    assert set(snapshot.consumed) == {"a", "n"}
    assert hand.states()[0].scores == {"a": 700}
    assert hand.bodies("n") == [Note("nudged 1")]


def test_decide_runs_once_a_run(hand: Hand) -> None:
    """However many messages a batch has, and whether it merges first: decide() runs once, last."""
    hand.handle(score("a"), incoming(Nudge(), "n"), incoming(Nudge(), "m"))
    assert hand.states() == [CreditState({"a": 700}, decisions=2)]
    base = hand.load()
    runs = [hand.run(base, score("b")), hand.run(base, incoming(Nudge(), "o"))]
    assert [hand.put(run).outcome for run in runs] == [Outcome.STORED, Outcome.FORKED]
    hand.handle(incoming(Nudge(), "p"), incoming(Nudge(), "q"))
    assert hand.states() == [CreditState({"a": 700, "b": 700}, decisions=4, merges=1)]


def test_starts_that_race_both_make_their_requests(either_store: Store) -> None:
    """Two concurrent starts are a fork: both ask the bureaus, and one merge makes one saga of them."""
    hand = Hand(either_store)
    nothing = hand.load()
    runs = [hand.run(nothing, incoming(CheckCredit("42"), id_, replyto=id_)) for id_ in ("s1", "s2")]
    assert [hand.put(run).outcome for run in runs] == [Outcome.STORED, Outcome.FORKED]
    for id_ in ("s1", "s2"):
        assert hand.bodies(id_) == [RequestScore("42")] * 3
        assert {outgoing.kind for outgoing in hand.sent(id_)} == {OutgoingKind.COMMAND}
    assert b'"replyto":"s1"' in hand.load().starter
    assert len({o.id for id_ in ("s1", "s2") for o in hand.sent(id_)}) == 6
