"""What-if: today's merger over stored siblings in every order, and what would follow; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field

from sagabus import Encrypted, Saga, handles, starts
from sagabus.commit import Lifecycle, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.errors import NothingToMergeError, UnmergeableStateError
from sagabus.observe.changes import MISSING
from sagabus.observe.what_if import MOST_ORDERS, what_if
from sagabus.store.memory import MemoryStore
from sagabus.testing.keys import fall_back_on_test_keys
from tests.changes import evolve
from tests.sagas_for_tests import (
    CheckCredit,
    CreditCheck,
    CreditState,
    Hand,
    Note,
    ScoreReported,
    SerialCheck,
    Tally,
    bound,
    incoming,
    score,
)


def siblings(definition: SagaDefinition, *scores: Any) -> Hand:
    """Return a hand on a saga that has as many siblings as there are scores."""
    hand = Hand(MemoryStore(), definition)
    hand.handle(incoming(CheckCredit("42"), "start"))
    snapshot = hand.load()
    for commit in [hand.run(snapshot, one) for one in scores]:
        hand.put(commit)
    return hand


def with_merger(merger: Any) -> SagaDefinition:
    return evolve(bound(CreditCheck), merger=merger)


def test_what_if_of_a_lawful_merger_has_one_answer_in_all_orders() -> None:
    """Three siblings have six orders, and all of them give the state that would be stored."""
    hand = siblings(bound(CreditCheck), score("a", 1), score("b", 2), score("c", 3))
    found = what_if(hand.definition, hand.load())
    (answer,) = found.answers
    assert (found.broken, found.refused, found.all_orders) == ("", "", True)
    assert len({trial.order for trial in answer.trials}) == 6
    assert answer.plain["scores"] == {"a": 1, "b": 2, "c": 3}


def test_what_if_says_what_would_follow() -> None:
    """State, effects, decision and completion come as values; the store is as it was."""
    hand = siblings(bound(CreditCheck), score("a", 1), score("b", 2), score("c", 3))
    before = hand.load()
    step = what_if(hand.definition, before).next
    assert [str(effect) for effect in step.facts] == ['test.note to notes {"text":"merged"}']
    assert [(e.kind, e.type, e.body) for e in step.decision] == [
        ("event", "test.credit-decided", {"customer": "42", "total": 6})
    ]
    assert step.completes
    assert step.plain["merges"] == 1
    assert evolve(hand.load(), now_ms=before.now_ms) == before


def first(states: Sequence[CreditState]) -> CreditState:
    """Keep the first sibling alone."""
    return states[0]


def test_what_if_shows_the_order_that_differs() -> None:
    """A merger that keeps the first sibling has an answer for each; the second says where it differs."""
    hand = siblings(with_merger(first), score("a", 1), score("b", 2))
    found = what_if(hand.definition, hand.load())
    assert found.broken == "a broken merger: 2 different results, depending on the order of the siblings"
    one, two = found.answers
    assert one.trials[0].order == tuple(reversed(two.trials[0].order))
    assert [(c.place, c.before, c.after) for c in two.differs] == [
        ("decisions", 2, 1),
        ("scores.a", 1, MISSING),
        ("scores.b", MISSING, 2),
    ]


def test_what_if_shows_what_the_merger_raises() -> None:
    """A refusal is an answer with its error, and nothing would be committed."""

    def refuse(states: Sequence[CreditState]) -> CreditState:
        raise UnmergeableStateError("who is right?")

    hand = siblings(with_merger(refuse), score("a", 1), score("b", 2))
    found = what_if(hand.definition, hand.load())
    assert found.refused == found.next.error == "UnmergeableStateError: who is right?"
    assert found.broken == ""


def test_what_if_finds_an_order_that_raises() -> None:
    """A merger that raises for some orders alone is broken."""

    def by_size(states: Sequence[CreditState]) -> CreditState:
        if "b" in states[0].scores:
            raise KeyError("a")
        return states[0]

    hand = siblings(with_merger(by_size), score("a", 1), score("b", 2))
    found = what_if(hand.definition, hand.load())
    assert found.broken.startswith("a broken merger")
    assert [answer.error for answer in found.answers] == ["", "KeyError: 'a'"]


def test_what_if_finds_a_merger_that_changes_its_siblings() -> None:
    """Whatever it returns."""

    def adds(states: Sequence[CreditState]) -> CreditState:
        for state in states:
            states[0].scores |= state.scores
        return states[0]

    hand = siblings(with_merger(adds), score("a", 1), score("b", 2))
    assert what_if(hand.definition, hand.load()).mutates


def test_what_if_finds_a_merger_that_is_no_function() -> None:
    """The runtime's own order is tried twice."""
    calls: list[int] = []

    def counts(states: Sequence[CreditState]) -> CreditState:
        calls.append(1)
        return CreditState({"calls": len(calls)})

    hand = siblings(with_merger(counts), score("a", 1), score("b", 2))
    assert "the second time" in what_if(hand.definition, hand.load()).broken


def test_what_if_of_many_siblings_is_bounded_and_repeatable() -> None:
    """Of seven siblings 120 orders are tried, the same ones for the same seed, rotations and reversals among them."""
    hand = siblings(with_merger(first), *(score(name) for name in "abcdefg"))
    snapshot = hand.load()
    one, same, other = (what_if(hand.definition, snapshot, seed=seed) for seed in (1, 1, 2))
    orders = {trial.order for answer in one.answers for trial in answer.trials}
    dots = tuple(version.dot for version in snapshot.versions)
    assert len(orders) == MOST_ORDERS
    assert {dots, dots[::-1], dots[3:] + dots[:3]} <= orders
    assert not one.all_orders
    assert one == same
    assert one.answers != other.answers


def test_what_if_of_large_states_tries_fewer_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it waits seconds, not minutes; the runtime's own order is always the first."""
    hand = siblings(bound(CreditCheck), *(score(f"bureau {n}", n) for n in range(5)))
    size = sum(len(version.state) for version in hand.load().versions)
    monkeypatch.setattr("sagabus.observe.what_if._MOST_BYTES", 10 * size)
    found = what_if(hand.definition, hand.load())
    assert (found.tried, found.all_orders, found.broken) == (11, False, "")
    assert found.answers[0].trials[0].order == tuple(version.dot for version in hand.load().versions)


def test_what_if_of_a_binary_merger_keeps_the_order_of_contexts() -> None:
    """What a sibling changed since its parent is only added to a state that has seen that parent."""
    hand = Hand(MemoryStore(), bound(Tally))
    hand.handle(incoming(Note("start"), "start", saga=str(hand.key)))
    early = hand.load()
    late = hand.run(early, incoming(Note("late"), "late", saga=str(hand.key)))
    hand.handle(incoming(Note("more"), "more", saga=str(hand.key)))
    behind = hand.load()
    runs = [hand.run(behind, incoming(Note(name), name, saga=str(hand.key))) for name in ("x", "y")]
    for run in (*runs, late):
        hand.put(run)
    found = what_if(hand.definition, hand.load())
    (answer,) = found.answers
    assert found.broken == ""
    assert answer.plain == {"count": 5, "notes": ["late", "more", "start", "x", "y"]}
    assert len({trial.order for trial in answer.trials}) == 2
    assert {trial.swapped for trial in answer.trials} == {False, True}


def test_what_if_of_a_lopsided_binary_merger_is_broken() -> None:
    """Its sides are swapped too."""
    hand = Hand(MemoryStore(), evolve(bound(Tally), merger=lambda a, b, ancestor: a))
    hand.handle(incoming(Note("start"), "start", saga=str(hand.key)))
    snapshot = hand.load()
    for run in [hand.run(snapshot, incoming(Note(name), name, saga=str(hand.key))) for name in ("x", "y")]:
        hand.put(run)
    found = what_if(hand.definition, hand.load())
    assert found.broken
    assert any(trial.swapped for trial in found.answers[1].trials)


@pytest.mark.parametrize(
    ("definition", "snapshot", "why"),
    [
        (bound(CreditCheck), siblings(bound(CreditCheck)).load(), "one version"),
        (
            bound(CreditCheck),
            evolve(siblings(bound(CreditCheck)).load(), lifecycle=Lifecycle.COMPLETED),
            "it has completed",
        ),
        (bound(SerialCheck), siblings(bound(CreditCheck), score("a"), score("b")).load(), "no merger"),
    ],
)
def test_what_if_where_nothing_can_be_merged_is_refused(
    definition: SagaDefinition, snapshot: Snapshot, why: str
) -> None:
    """The error says why."""
    with pytest.raises(NothingToMergeError, match=why):
        what_if(definition, snapshot)


@define
class SecretState:
    cards: dict[str, Encrypted[str]] = field(factory=dict)


def all_cards(states: Sequence[SecretState]) -> SecretState:
    return SecretState({name: card for state in states for name, card in state.cards.items()})


class SecretCheck(Saga[SecretState], key="customer", merger=all_cards):
    @starts
    def requested(self, m: CheckCredit) -> None: ...

    @handles
    def scored(self, m: ScoreReported) -> None:
        self.state.cards[m.bureau] = Encrypted(f"card {m.score}")


def test_what_if_keeps_secrets_encrypted() -> None:
    """The merger sees them; who looks at what it made does not."""
    fall_back_on_test_keys()
    hand = siblings(bound(SecretCheck), score("a", 4711), score("b", 4712))
    found = what_if(hand.definition, hand.load())
    assert set(found.answers[0].plain["cards"]) == {"a", "b"}
    assert all(card.startswith("encrypted:1:") for card in found.answers[0].plain["cards"].values())
    assert "4711" not in repr(found)
