"""Counter-examples are as small as they can be made, and the two that are shown differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field
from attrs.validators import min_len
from hypothesis import strategies as st

from sagabus.codec import StateCodec
from sagabus.testing.laws import merger_check
from sagabus.testing.laws.counter_example import Minimiser, Reach
from sagabus.testing.laws.merger_check import MergerError, check_merger
from sagabus.testing.laws.merger_laws import refute
from sagabus.testing.laws.other_process import Merged
from sagabus.testing.laws.refutation import Law, Refutation
from tests.mergers_for_tests import Count, Order, added, both_sides, greatest, merge_orders


@define
class CreditState:
    scores: dict[str, int] = field(factory=dict)


@define
class Report:
    """A state with much in it, of which little matters."""

    title: str = "none yet"
    names: set[str] = field(factory=set)
    lines: list[int] = field(factory=lambda: [7], validator=min_len(1))
    clean: bool = True
    score: float = 0.5


CREDIT, REPORT = StateCodec(CreditState, 1), StateCodec(Report, 1)


def fullest(siblings: Sequence[Any]) -> Any:
    """Keep the sibling that has most, and of those that have as much the first."""
    return max(siblings, key=lambda s: len(s.scores))


def fullest_of_many(siblings: Sequence[CreditState]) -> CreditState:
    """Keep the laws but where all siblings have more than two scores, and as many."""
    lengths = {len(s.scores) for s in siblings}
    if len(lengths) == 1 and min(lengths) > 2:
        return siblings[0]
    known: dict[str, int] = {}
    for sibling in siblings:
        known |= {name: max(score, known.get(name, score)) for name, score in sibling.scores.items()}
    return CreditState(known)


def first_report(siblings: Sequence[Report]) -> Report:
    return siblings[0]


def refuted(merger: Any, states: Any, **options: Any) -> MergerError:
    """Return what `check_merger` raises."""
    with pytest.raises(MergerError) as caught:
        check_merger(merger, states, **options)
    return caught.value


def small(merger: Any, siblings: Sequence[Any], codec: Any, reach: Reach = Reach.EDITED) -> list[Refutation]:
    """Return the two smallest counter-examples near *siblings*, which must be one."""
    refutation = refute(merger, siblings, codec)
    assert refutation is not None
    return Minimiser(merger, codec, refutation.law, reach).two_smallest([refutation])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_check_of_a_merger_that_keeps_the_fullest_shows_one_key_in_each(seed: int) -> None:
    """Siblings must stay equally full, so entries are taken from all at once; the second example is another one."""
    error = refuted(fullest, CreditState, seed=seed)
    assert error.law == Law.COMMUTATIVE
    assert [list(each.states.values()) for each in error.refutations] == [
        [CreditState({"a": 0}), CreditState({"b": 0})],
        [CreditState({"a": 0}), CreditState({"c": 0})],
    ]


def test_counter_example_that_needs_three_keys_shows_three() -> None:
    """Nothing is taken away that the law needs to be broken, and the states stay different where they must."""
    bureaus = ("equifax", "experian", "schufa", "transunion")
    first, second = small(fullest_of_many, [CreditState(dict.fromkeys(bureaus, n)) for n in (700, 850)], CREDIT)
    assert first.law == Law.COMMUTATIVE
    assert first.states == {"a": CreditState({"a": 0, "b": 0, "c": 0}), "b": CreditState({"a": 0, "b": 0, "c": 1})}
    assert second.states != first.states
    assert {len(state.scores) for state in second.states.values()} == {3}


@pytest.mark.parametrize("merger", [fullest, lambda siblings: siblings[-1]])
@pytest.mark.parametrize("words", [("equifax", "experian"), ("x", "", "zz")])
def test_counter_example_of_big_states_loses_all_that_does_not_matter(merger: Any, words: tuple[str, ...]) -> None:
    """However big the states are that broke the law, the simplest ones near them are found."""
    siblings = [CreditState(dict.fromkeys(words, score)) for score in (700, 850, -3)]
    first, second = small(merger, siblings, CREDIT)
    assert {len(each.states) for each in (first, second)} == {2}
    assert sum(len(state.scores) for state in first.states.values()) <= 2
    assert first.states != second.states


def test_counter_example_puts_fields_at_their_defaults_within_validators() -> None:
    """One field is enough to tell two states apart; the others say what a new saga says."""
    siblings = [
        Report("one", {"x", "y"}, [3, 4, 5], clean=False, score=9.5),
        Report("two", {"y", "z"}, [900], clean=False, score=-1.0),
    ]
    first, second = small(first_report, siblings, REPORT)
    assert first.states == {"a": Report(), "b": Report(title="a")}
    assert second.states == {"a": Report(), "b": Report(title="b")}


def test_counter_example_breaks_no_validator() -> None:
    """A list that may not be empty keeps one line."""

    def longest(siblings: Sequence[Report]) -> Report:
        return Report(lines=max((s.lines for s in siblings), key=len))

    first, second = small(longest, [Report(lines=[3, 4, 5]), Report(lines=[900, 4, 3])], REPORT)
    assert first.states == {"a": Report(), "b": Report(lines=[0])}
    assert second.states == {"a": Report(), "b": Report(lines=[1])}


def test_counter_example_that_stands_alone_has_no_second() -> None:
    """Where no other states break the law, one counter-example is shown, not the same one twice."""
    error = refuted(added, [Count(0), Count(1)])
    assert [each.states for each in error.refutations] == [{"a": Count(1)}]
    assert "The next smallest" not in str(error)


def test_given_states_are_searched_on_until_two_differ() -> None:
    """Sets that come down to the states already shown are no second counter-example."""
    error = refuted(both_sides, [Count(0), Count(1), Count(2)])
    assert [each.states for each in error.refutations] == [
        {"a": Count(0), "ancestor": Count(1)},
        {"a": Count(1), "ancestor": Count(1)},
    ]


def test_counter_example_of_given_states_holds_those_alone() -> None:
    """Only given states are known to be possible."""
    states = [CreditState({"equifax": 700, "experian": 650}), CreditState({"equifax": 700, "schufa": 1})]
    error = refuted(fullest, states)
    assert [sorted(map(repr, each.states.values())) for each in error.refutations] == [sorted(map(repr, states))]


def test_counter_example_of_the_users_strategy_holds_what_it_draws() -> None:
    """A strategy may leave out what cannot happen, so simpler states of the class are not made up."""
    drawn = st.dictionaries(st.sampled_from(["p", "q", "r"]), st.integers(5, 7), min_size=2).map(CreditState)
    error = refuted(fullest, drawn)
    assert error.states == (CreditState({"p": 5, "q": 5}), CreditState({"p": 5, "q": 6}))
    one, other = (tuple(each.states.values()) for each in error.refutations)
    assert one != other
    assert all(len(state.scores) >= 2 and set(state.scores.values()) <= {5, 6, 7} for state in other)


def test_counter_example_keeps_the_law_that_was_broken() -> None:
    """Smaller states that break another law are no smaller counter-example."""

    def careful_until_nine(siblings: Sequence[Count]) -> Count:
        if max(s.n for s in siblings) == 9:
            raise KeyError(9)
        return siblings[0]

    refutation = refute(careful_until_nine, [Count(9), Count(4)], StateCodec(Count, 1))
    assert refutation is not None
    first, *_ = Minimiser(careful_until_nine, StateCodec(Count, 1), refutation.law, Reach.EDITED).two_smallest(
        [refutation]
    )
    assert (first.law, first.states) == (Law.ANSWERS, {"a": Count(9)})


def test_counter_example_of_a_wide_state_shows_one_field() -> None:
    """Of a state with many fields only those that matter are not at their defaults."""

    def spoilt(siblings: Sequence[Order]) -> Order:
        merged = merge_orders(siblings)
        merged.flagged = siblings[0].flagged
        return merged

    error = refuted(spoilt, Order, max_examples=40)
    assert error.states == (Order(), Order(flagged=True))


def test_error_of_a_check_is_shown_at_the_line_that_asked() -> None:
    """pytest hides the frames of check_merger, so that a newcomer sees the own test."""
    with pytest.raises(MergerError) as caught:
        check_merger(fullest, CreditState)
    assert [entry.name for entry in caught.traceback.filter(caught)] == [
        "test_error_of_a_check_is_shown_at_the_line_that_asked"
    ]


def test_error_of_other_processes_is_shown_at_the_line_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is where another process disagrees."""
    monkeypatch.setattr(merger_check, "merge_elsewhere", lambda task, seeds: [[Merged()], [Merged(error="broke")]])
    with pytest.raises(MergerError) as caught:
        check_merger(greatest, [Count(3)])
    assert len(caught.traceback.filter(caught)) == 1
