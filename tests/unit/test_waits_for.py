"""What a saga waits for: answers, timers, a merge, what is not dispatched; and what of that is overdue."""

from __future__ import annotations

from typing import Any

import pytest

from sagabus import Bus, Context, Saga, handles, starts
from sagabus.dead_letters.letter import DeadLetter
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming, wrap
from sagabus.observe.record import look
from sagabus.observe.waits_for import ANSWER_PATIENCE_MS, Wait, WaitKind, gather
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping, Scheduled
from tests.changes import evolve
from tests.sagas_for_tests import (
    NOW_MS,
    CheckCredit,
    CreditCheck,
    CreditState,
    Hand,
    Note,
    Nudge,
    Remind,
    RequestScore,
    ScoreReported,
    bound,
    incoming,
    merge_message,
    score,
)


class Clock:
    """A store's time that a test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def answer(endpoint: str, cause: str) -> Incoming:
    """Return the answer of an endpoint to the message *cause*."""
    body = ScoreReported(endpoint, 700)
    return Incoming(wrap(body, id=f"re {cause}", source=f"/{endpoint}", now_ms=NOW_MS, causationid=cause))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hand(clock: Clock) -> Hand:
    """Return a hand on a saga that has asked three bureaus, and dispatched that."""
    hand = Hand(MemoryStore(now_ms=clock))
    hand.start()
    hand.dispatch("start")
    return hand


def waits(hand: Hand, definition: SagaDefinition | None = None, **options: Any) -> list[Wait]:
    return list(gather(hand.store, definition or hand.definition, look(hand.store, hand.key), **options))


def answers(hand: Hand, definition: SagaDefinition | None = None) -> list[str]:
    return sorted(wait.to for wait in waits(hand, definition) if wait.kind is WaitKind.ANSWER)


def requests(hand: Hand) -> dict[str, str]:
    """Return the ids of the requests that the start has sent, by endpoint."""
    commit = hand.run(Hand(MemoryStore()).load(), incoming(CheckCredit("42"), "start", replyto="client"))
    return {message.to: message.id for message in commit.facts.outgoing["start"]}


def test_waits_for_each_request_until_its_answer_is_handled(hand: Hand) -> None:
    """An answer names the message that caused it."""
    assert answers(hand) == ["a", "b", "c"]
    ids = requests(hand)
    assert {wait.to: wait.id for wait in waits(hand)} == ids
    hand.handle(answer("b", ids["b"]))
    assert answers(hand) == ["a", "c"]


def test_waits_for_an_answer_too_long_is_overdue(hand: Hand, clock: Clock) -> None:
    """A minute is the patience, unless somebody says otherwise."""
    assert not any(wait.overdue for wait in waits(hand))
    clock.now_ms += ANSWER_PATIENCE_MS + 1
    assert [(wait.overdue, wait.age_ms(clock.now_ms)) for wait in waits(hand)] == [(True, 60_001)] * 3
    assert not any(wait.overdue for wait in waits(hand, patience_ms=120_000))


def test_waits_for_a_request_that_was_given_up_says_so(hand: Hand) -> None:
    """Its dead letter has the reason; nobody will answer it."""
    ids = requests(hand)
    letter = DeadLetter(ids["a"], "a", "failed", "OSError: bureau is down\nmore", "", 5, NOW_MS, b"")
    hand.store.note(Bookkeeping(buried=(letter,)))
    first = waits(hand)[0]
    assert (first.to, first.overdue) == ("a", True)
    assert first.remark == "given up, a dead letter now: failed: OSError: bureau is down"


def test_waits_for_nothing_that_went_back_to_who_started_it() -> None:
    """The answer to the starter is no request, and events ask nobody."""

    class Answering(Saga[CreditState], key="customer"):
        @starts
        def requested(self, m: CheckCredit) -> None:
            self.reply(Note("yes"))
            self.publish(Note("all"))
            self.send(RequestScore(m.customer), to="a")

    hand = Hand(MemoryStore(), bound(Answering))
    hand.start()
    hand.dispatch("start")
    assert answers(hand) == ["a"]


def test_waits_for_no_answer_of_a_consumer_that_can_give_none(hand: Hand) -> None:
    """A consumer without a Context answers nobody; of endpoints elsewhere, and of those with one, nobody knows."""
    bus = Bus(store="memory:", transport="memory:")

    @bus.endpoint("a").consumer
    def quiet(m: RequestScore) -> None: ...

    @bus.endpoint("b").consumer
    def speaking(m: RequestScore, context: Context) -> None: ...

    assert sorted(wait.to for wait in waits(hand, endpoints=bus.endpoints)) == ["b", "c"]
    ids = requests(hand)
    hand.store.note(Bookkeeping(buried=(DeadLetter(ids["a"], "a", "failed", "OSError: no", "", 5, NOW_MS, b""),)))
    assert sorted(wait.to for wait in waits(hand, endpoints=bus.endpoints)) == ["a", "b", "c"]


def test_waits_for_what_a_record_says_where_the_class_is_not_there(hand: Hand) -> None:
    """An app that has lost the class of a saga still shows what it waits for."""
    found = gather(hand.store, None, look(hand.store, hand.key))
    assert sorted(wait.to for wait in found) == ["a", "b", "c"]
    hand.handle(answer("b", requests(hand)["b"]))
    assert sorted(w.to for w in gather(hand.store, None, look(hand.store, hand.key)) if w.to) == ["a", "c"]


@pytest.mark.parametrize("answered", [True, False])
def test_waits_for_answers_where_no_code_can_make_the_history_again(clock: Clock, answered: bool) -> None:
    """A trimmed history has digests alone: the ids that a command may have had are tried out."""
    definition = evolve(bound(CreditCheck), limits=evolve(bound(CreditCheck).limits, history=2))
    hand = Hand(MemoryStore(now_ms=clock), definition)
    hand.start()
    hand.handle(incoming(Nudge(), "n1", saga=str(hand.key)))
    commit, _ = hand.handle(incoming(Nudge(), "n2", saga=str(hand.key)))
    (sent,) = commit.facts.outgoing["n2"]
    hand.dispatch("start", "n1", "n2")
    if answered:
        hand.handle(answer("notes", sent.id))
    assert answers(hand) == ([] if answered else ["notes", "notes"])


def test_waits_for_answers_to_a_batch_where_code_has_changed(clock: Clock) -> None:
    """Several commands of one batch find their own answers, by where these came from."""

    class Quiet(CreditCheck, key="customer", name="CreditCheck"):
        @handles
        def nudged(self, m: Nudge) -> None: ...

    hand = Hand(MemoryStore(now_ms=clock))
    hand.start()
    nudges = [incoming(Nudge(), name, saga=str(hand.key)) for name in ("n1", "n2")]
    commit, _ = hand.handle(*nudges)
    hand.dispatch("start", "n1", "n2")
    (sent,) = commit.facts.outgoing["n2"]
    assert answers(hand, bound(Quiet)) == ["a", "b", "c", "notes", "notes"]
    hand.handle(answer("notes", sent.id))
    assert answers(hand, bound(Quiet)) == ["a", "b", "c", "notes"]


def test_waits_for_timers_says_when_they_are_due(hand: Hand, clock: Clock) -> None:
    """Overdue once their time has come; one that is not scheduled any more says so."""
    commit, _ = hand.handle(incoming(Remind(5.0, "nudge"), "r", saga=str(hand.key)))
    (timer,) = commit.facts.outgoing["r"]
    hand.store.note(Bookkeeping((Scheduled(timer.id, "credit", timer.body, timer.due_ms),)))
    hand.dispatch("r")
    (wait,) = [wait for wait in waits(hand) if wait.kind is WaitKind.TIMER]
    assert (wait.name, wait.due_ms, wait.overdue, wait.remark) == ("nudge", NOW_MS + 5000, False, "")
    clock.now_ms += 6000
    (wait,) = [wait for wait in waits(hand) if wait.kind is WaitKind.TIMER]
    assert (wait.overdue, wait.age_ms(clock.now_ms)) == (True, 1000)
    hand.store.note(Bookkeeping(unscheduled=(timer.id,)))
    (wait,) = [wait for wait in waits(hand) if wait.kind is WaitKind.TIMER]
    assert (wait.due_ms, wait.overdue) == (None, False)
    assert "no longer scheduled" in wait.remark


def test_waits_for_a_merge_and_for_its_dispatch(hand: Hand, clock: Clock) -> None:
    """Siblings wait for their MergeSagaState, which waits to be sent; both for too long, after ten seconds."""
    snapshot = hand.fork(score("a"), score("b"))
    kinds = {(wait.kind, wait.id, wait.overdue) for wait in waits(hand) if wait.kind is not WaitKind.ANSWER}
    id_ = snapshot.pending_merge
    assert kinds == {(WaitKind.MERGE, id_, False), (WaitKind.DISPATCH, id_, False)}
    clock.now_ms += 10_001
    assert all(wait.overdue for wait in waits(hand) if wait.kind is not WaitKind.ANSWER)
    hand.dispatch("b")
    hand.handle(merge_message(snapshot, "b"))
    assert not any(wait.kind is WaitKind.MERGE for wait in waits(hand))


def test_waits_for_nothing_when_it_has_ended() -> None:
    """But for what it has not dispatched yet."""
    hand = Hand(MemoryStore())
    hand.start()
    hand.handle(*(score(name) for name in "abc"))
    assert {wait.kind for wait in waits(hand)} == {WaitKind.DISPATCH}
    hand.dispatch("start", "a", "b", "c")
    assert waits(hand) == []
