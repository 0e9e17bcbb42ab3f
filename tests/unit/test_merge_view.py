"""The merge view: ancestor, sides, result, and what the merger ignored; states at any version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sagabus import handles
from sagabus.commit import Lifecycle
from sagabus.errors import NothingToMergeError, VersionNotFoundError
from sagabus.messages import MERGE
from sagabus.observe.changes import MISSING, changes
from sagabus.observe.ignored import Fate, ignored
from sagabus.observe.lineage import Origin, common_origin
from sagabus.observe.merge_view import past_merges, view_merge, view_siblings
from sagabus.observe.record import look
from sagabus.observe.states import Proof, at, past_states
from sagabus.store.memory import MemoryStore
from sagabus.versions import Dot
from tests.changes import evolve
from tests.sagas_for_tests import (
    CheckCredit,
    CreditCheck,
    CreditState,
    Hand,
    Note,
    Nudge,
    ScoreReported,
    Tally,
    bound,
    incoming,
    merge_message,
    score,
)
from tests.unit import test_record as races


def highest_alone(states: Sequence[CreditState]) -> CreditState:
    """Keep the sibling with the highest score alone, and lose what the others know."""
    return max(states, key=lambda s: (max(s.scores.values(), default=0), sorted(s.scores)))


def raced(merger: Any = highest_alone) -> Hand:
    """Return a hand on a saga of which two replies were handled at once."""
    hand = Hand(MemoryStore(), evolve(bound(CreditCheck), merger=merger))
    hand.handle(incoming(CheckCredit("42"), "start"))
    hand.handle(score("c", 5))
    hand.fork(score("a", 710), score("b", 720))
    return hand


def past(hand: Hand, definition: Any = None) -> Any:
    return past_states(definition or hand.definition, look(hand.store, hand.key).recorded)


def dot(counter: int) -> Dot:
    return Dot("memory", counter)


# -- live siblings -----------------------------------------------------------------------------------------------


def test_merge_view_of_siblings_names_what_the_merger_ignores() -> None:
    """The score that only one side knows is lost with that side; the other one's is kept."""
    hand = raced()
    seen = look(hand.store, hand.key)
    view = view_siblings(hand.definition, seen.snapshot, seen.recorded)
    assert view.ancestor is not None
    assert (view.ancestor.dot, view.ancestor.proof) == (dot(2), Proof.REMADE)
    assert [side.version.dot for side in view.sides] == [dot(3), dot(4)]
    assert view.result["scores"] == {"c": 5, "b": 720}
    assert [(d, str(one)) for d, one in view.ignored] == [
        (dot(3), "decisions: 2 -> 3, lost"),
        (dot(3), "scores.a: missing -> 710, lost"),
    ]


def test_merge_view_of_first_writes_compares_with_the_initial_state() -> None:
    """Two starts at once have no ancestor."""
    hand = Hand(MemoryStore())
    empty = hand.load()
    for run in [hand.run(empty, incoming(CheckCredit("42"), f"start {id_}"), score(id_, 7)) for id_ in ("x", "y")]:
        hand.put(run)
    seen = look(hand.store, hand.key)
    view = view_siblings(hand.definition, seen.snapshot, seen.recorded)
    assert view.ancestor is None
    assert view.ancestor_state == {"scores": {}, "decisions": 0, "merges": 0}
    assert view.result["scores"] == {"x": 7, "y": 7}
    assert view.ignored == ()


def test_merge_view_where_the_merger_raises_says_so() -> None:
    """There is no result, and nothing was ignored."""

    def refuse(states: Sequence[CreditState]) -> CreditState:
        raise ValueError("no")

    hand = raced(refuse)
    seen = look(hand.store, hand.key)
    view = view_siblings(hand.definition, seen.snapshot, seen.recorded)
    assert (view.result, view.error, view.ignored) == (None, "ValueError: no", ())


def test_merge_view_of_a_trimmed_history_says_so() -> None:
    """The sides are there; what they have in common is not."""
    hand = Hand(MemoryStore(), evolve(bound(CreditCheck), limits=evolve(bound(CreditCheck).limits, history=2)))
    hand.handle(incoming(CheckCredit("42"), "start"))
    hand.handle(incoming(Nudge(), "n", saga=str(hand.key)))
    hand.fork(score("a"), score("b"))
    seen = look(hand.store, hand.key)
    view = view_siblings(hand.definition, seen.snapshot, seen.recorded)
    assert view.result["scores"] == {"a": 700, "b": 700}
    assert view.ancestor_state is None
    assert any("trimmed" in remark for remark in view.remarks)


def test_merge_view_of_a_binary_merger_takes_the_ancestor_that_the_record_keeps() -> None:
    """Also where the history is trimmed; a counter to which both sides' changes were added ignores nothing."""
    definition = bound(Tally)
    hand = Hand(MemoryStore(), evolve(definition, limits=evolve(definition.limits, history=2)))
    for name in ("start", "more"):
        hand.handle(incoming(Note(name), name, saga=str(hand.key)))
    hand.fork(*(incoming(Note(name), name, saga=str(hand.key)) for name in ("x", "y")))
    seen = look(hand.store, hand.key)
    view = view_siblings(hand.definition, seen.snapshot, seen.recorded)
    assert view.ancestor is not None
    assert (view.ancestor.proof, view.ancestor_state["count"]) == (Proof.STORED, 2)
    assert view.result == {"count": 4, "notes": ["more", "start", "x", "y"]}
    assert view.ignored == ()


# -- a merge that has been ---------------------------------------------------------------------------------------


def test_merge_view_of_a_past_merge_makes_its_sides_again() -> None:
    """No store has the sides any more; history and digests prove what they were."""
    hand = raced()
    hand.handle(merge_message(hand.load(), "b"))
    hand.handle(score("d", 1))
    states = past(hand)
    (merge,) = past_merges(states.recorded)
    view = view_merge(hand.definition, states, merge.dot)
    assert [side.version.proof for side in view.sides] == [Proof.REMADE, Proof.REMADE]
    assert [(d, str(one)) for d, one in view.ignored] == [
        (dot(3), "decisions: 2 -> 3, lost"),
        (dot(3), "scores.a: missing -> 710, lost"),
    ]
    assert view.written is not None
    assert view.written.plain["merges"] == 1
    assert view.result["merges"] == 0
    assert view.remarks == ()


def test_merge_view_by_changed_code_says_that_states_differ() -> None:
    """A handler that stores something else today cannot show what was stored; the digests tell."""
    hand = raced()
    hand.handle(merge_message(hand.load(), "b"))

    class Changed(CreditCheck, key="customer", merger=highest_alone, name="CreditCheck"):
        @handles
        def scored(self, m: ScoreReported) -> None:
            self.state.scores[m.bureau] = m.score + 1

    states = past(hand, bound(Changed))
    (merge,) = past_merges(states.recorded)
    view = view_merge(bound(Changed), states, merge.dot)
    assert {side.version.proof for side in view.sides} == {Proof.DIFFERS}
    assert "today's code gives another state than what was stored" in view.remarks[0]


def test_merge_view_of_no_merge_is_refused() -> None:
    """A version of one parent was not merged."""
    hand = raced()
    with pytest.raises(NothingToMergeError, match="one version"):
        view_merge(hand.definition, past(hand), dot(2))


@pytest.mark.parametrize("merger", [races.best, races.by_change])
def test_merge_view_of_any_race_gives_what_the_runtime_gave(merger: Any) -> None:
    """Whatever the order of loads and commits: states are proved, and a merge alone stored what the view shows."""
    members: dict[str, Any] = {"merged": None, "decide": lambda self: None}
    definition = races.changed(merger=merger, **members)
    merges = 0
    for seed in range(300):
        store = races.chance(definition, seed)
        if not store.history(races.KEY):
            continue
        states = past_states(definition, look(store, races.KEY).recorded)
        proofs = {state.proof for state in states.states.values()}
        assert proofs <= {Proof.STORED, Proof.REMADE}, f"seed {seed}: {proofs}"
        for entry in past_merges(states.recorded):
            assert entry.dot is not None
            view = view_merge(definition, states, entry.dot)
            assert view.written is not None
            assert (view.error, view.remarks) == ("", ()), f"seed {seed}"
            if [message.type for message in entry.messages] == [MERGE]:
                assert view.result == view.written.plain, f"seed {seed}"
                merges += 1
    assert merges > 20


# -- states ------------------------------------------------------------------------------------------------------


def test_states_of_all_versions_are_there() -> None:
    """The live ones as stored, the others made again and proved by their digests."""
    hand = raced()
    hand.handle(merge_message(hand.load(), "b"))
    states = past(hand)
    assert [state.proof for state in states.states.values()] == [*[Proof.REMADE] * 4, Proof.STORED]
    assert states.at(dot(3)).plain["scores"] == {"c": 5, "a": 710}
    assert [str(c) for c in states.changed(dot(2), dot(3))] == ["decisions: 2 -> 3", "scores.a: missing -> 710"]
    assert [parent.dot for parent in states.parents(dot(5))] == [dot(3), dot(4)]
    assert at(hand.definition, states.recorded, dot(1)).plain["scores"] == {}


def test_states_are_found_by_the_names_that_people_use() -> None:
    """Whole, or by the number alone; what there is not says what there is."""
    states = past(raced())
    assert states.named("memory:3") == states.named("3") == dot(3)
    with pytest.raises(VersionNotFoundError, match="memory:1, memory:2"):
        states.named("7")


def test_states_of_a_completed_saga_include_its_last() -> None:
    """The tombstone keeps it."""
    hand = Hand(MemoryStore())
    hand.handle(incoming(CheckCredit("42"), "start"))
    hand.handle(*(score(name) for name in "abc"))
    states = past(hand)
    assert states.recorded.lifecycle is Lifecycle.COMPLETED
    assert states.at(dot(2)).proof is Proof.STORED


def test_states_of_a_trimmed_history_are_unknown_and_say_why() -> None:
    """What the history does not reach back to cannot be made again."""
    definition = bound(CreditCheck)
    hand = Hand(MemoryStore(), evolve(definition, limits=evolve(definition.limits, history=2)))
    hand.handle(incoming(CheckCredit("42"), "start"))
    for name in ("a", "b", "c2"):
        hand.handle(incoming(Nudge(), name, saga=str(hand.key)))
    states = past(hand)
    unknown = [state for state in states.states.values() if state.proof is Proof.UNKNOWN]
    assert unknown
    assert all("history" in state.remark and state.plain is None for state in unknown)


# -- pure parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ancestor", "sides", "result", "said"),
    [
        ({"limit": 1}, [{"limit": 2}, {"limit": 3}], {"limit": 3}, [["limit: 1 -> 2, overruled by 3"], []]),
        ({"n": 1}, [{"n": 2}, {"n": 4}], {"n": 5}, [[], []]),
        ({"n": 1}, [{"n": 2}, {"n": 4}], {"n": 9}, [["n: 1 -> 2, replaced by 9"], ["n: 1 -> 4, replaced by 9"]]),
        ({"n": 1}, [{"n": 2}, {"n": 1}], {"n": 1}, [["n: 1 -> 2, lost"], []]),
        ({"l": ["a"]}, [{"l": ["a", "x"]}, {"l": ["a", "y"]}], {"l": ["a", "y"]}, [['l: + "x", lost'], []]),
        ({"l": ["a"]}, [{"l": []}, {"l": ["a", "y"]}], {"l": ["a", "y"]}, [['l: - "a", still there'], []]),
        ({"l": ["a"]}, [{"l": ["a", "x"]}, {"l": ["y", "a"]}], {"l": ["x", "a", "y"]}, [[], []]),
        ({"s": {"k": 1}}, [{"s": {}}, {"s": {"k": 1}}], {"s": {"k": 1}}, [["s.k: 1 -> missing, lost"], []]),
        ({}, [{"d": {"p": 1, "q": 2}}, {}], {"d": {"p": 1}}, [["d.q: missing -> 2, lost"], []]),
        ({"v": True}, [{"v": False}, {"v": True}], {"v": True}, [["v: true -> false, lost"], []]),
        ({"v": 1}, [{"v": None}, {"v": 1}], {"v": None}, [[], []]),
    ],
)
def test_ignored_names_each_change_that_the_result_does_not_have(
    ancestor: Any, sides: list[Any], result: Any, said: list[list[str]]
) -> None:
    """Lost, overruled, replaced; items of lists; sums are kept changes."""
    assert [[str(one) for one in side] for side in ignored(ancestor, sides, result)] == said


def test_ignored_changes_come_as_values() -> None:
    """What is missing is no null."""
    ((one,),) = ignored({"s": {}}, [{"s": {"equifax": 720}}], {"s": {}})
    assert (one.fate, one.change.path, one.change.before, one.change.after) == (
        Fate.LOST,
        ("s", "equifax"),
        MISSING,
        720,
    )
    assert one.row() == {"path": "s.equifax", "fate": "lost", "item": False, "after": 720}


def test_changes_of_equal_numbers_of_other_types_differ() -> None:
    """True is not 1, and 1.0 is another value than 1."""
    assert [str(c) for c in changes({"a": 1, "b": 1}, {"a": True, "b": 1.0})] == ["a: 1 -> true", "b: 1 -> 1.0"]
    assert list(changes([1, {"x": 2}], [1, {"x": 2}])) == []


def test_common_origin_is_the_latest_common_ancestor() -> None:
    """Of versions on branches of unequal length, too."""
    hand = raced()
    history = hand.store.history(hand.key)
    assert common_origin(history, [dot(3), dot(4)]) == Origin((dot(2),))
    assert common_origin(history[1:], [dot(3), dot(4)]) == Origin((dot(2),))
    assert common_origin(history[2:3], [dot(3), dot(4)]) == Origin()
