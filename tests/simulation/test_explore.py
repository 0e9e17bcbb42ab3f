"""`explore`: what it refuses, what it counts, and what it checks of every schedule."""

from __future__ import annotations

import gc
import math
from typing import Any

import pytest
from attrs import define

from examples.credit_check.messages import CheckCredit, ScoreReported
from examples.credit_check.saga import CreditCheck
from sagabus import Bus, Saga, handles, message, starts
from sagabus.errors import ConfigurationError, DefinitionError, HandlerMisuseError
from sagabus.testing import ExplorationError, Moment, explore
from tests.simulation.small_sagas import (
    Add,
    Begin,
    Collect,
    Collected,
    Exact,
    Fails,
    Forgets,
    Heard,
    Note,
    Unmergeable,
    words_of,
)

START = [Begin()]
TWO = [Add("a"), Add("b")]
THREE = [Add("a"), Add("b"), Add("c")]


@message("explore.tick")
class Tick:
    pass


@message("explore.stop")
class Stop:
    pass


@define
class Nothing:
    ticks: int = 0


class Waits(Saga[Nothing], key="order"):
    """Waits for a timer of an hour; it or a word ends it."""

    @starts
    def begun(self, m: Begin) -> None:
        self.defer(Tick(), after=3_600)

    @handles
    def ticked(self, m: Tick) -> None:
        self.complete()

    @handles
    def stopped(self, m: Stop) -> None:
        self.complete()


class Ticks(Waits, key="order"):
    """Ticks until it is stopped."""

    @handles
    def ticked(self, m: Tick) -> None:
        self.defer(Tick(), after=3_600)


def namesake() -> type[Saga[Any]]:
    """Return another saga that is called Collect."""

    class Other(Collect, key="order", name="Collect"):
        pass

    return Other


class Twin(Collect, key="order", merger=None):
    """Handles the same messages, so that a command could be for either."""


class Asks(Saga[Nothing], key="order"):
    """Sends a word that two sagas handle."""

    @starts
    def begun(self, m: Begin) -> None:
        self.send(Note(m.order, "a"), to="somebody")


# -- arguments that do not fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "arguments", "said", "mend"),
    [
        ([], {}, "nothing to explore", "give a saga class"),
        (Bus(store="memory:", transport="memory:"), {}, "no saga to explore", "give one to bus.endpoint"),
        ([Collect, namesake()], {}, "two sagas share a name among Collect, Collect", "give one another name="),
        (Collect, {"messages": [Heard("a")]}, "Heard is handled by none of Collect", "explore the saga that handles"),
        (Collect, {"messages": [Add("a")]}, "Add names no saga", r"give the start message in start=\[...\]"),
        (Collect, {"batch": 3}, "batch=3 is not explored", "say 1 or 2"),
        (Collect, {"batch": 0}, "batch=0 is not explored", "say 1 or 2"),
        (Collect, {"workers": 0}, "workers", "at least 1"),
        (Collect, {"duplicates": -1}, "duplicates", "at least 0"),
        (Collect, {"resends": -1}, "resends", "at least 0"),
        (Collect, {"rollbacks": -1}, "rollbacks", "at least 0"),
        (Collect, {"runs": 0}, "runs=0 tries nothing", "at least 1"),
        (Collect, {"max_states": 0}, "max_states=0", "at least 1"),
        (Collect, {"mode": "often"}, "'often' is none of", "auto, exhaustive, random"),
        (Collect, {"replay": "v1:nonsense"}, "'v1:nonsense'... is no replay token", "copy the whole text"),
        (Collect, {"replay": "nonsense"}, "'nonsense'... is no replay token", "copy the whole text"),
        ([Asks, Collect, Twin], {"start": START}, "could be for Collect or Twin", "explore a Bus"),
    ],
)
def test_explore_of_arguments_that_do_not_fit_says_the_mend(
    subject: Any, arguments: dict[str, Any], said: str, mend: str
) -> None:
    """What cannot be explored is refused before anything is reported, with what to do about it."""
    with pytest.raises(ConfigurationError, match=f"(?s){said}.*{mend}"):
        explore(subject, **arguments)


def test_explore_with_a_projection_that_cannot_be_a_key_says_so() -> None:
    """Outcomes are the keys of a mapping, so a list is none."""
    with pytest.raises(ConfigurationError, match=r"outcome= returned \['a', 'b'\].*return a tuple, a frozenset"):
        explore(Collect, start=START, messages=TWO, outcome=lambda moment: sorted(moment.state.words))


@pytest.mark.parametrize(("subject", "messages"), [(dict, []), (Collect, ["no message"])])
def test_explore_of_what_is_no_saga_or_no_message_says_so(subject: Any, messages: list[Any]) -> None:
    """Classes and messages that were never defined as such are errors of definition."""
    with pytest.raises(DefinitionError):
        explore(subject, start=START if subject is Collect else [], messages=messages)


# -- outcomes ----------------------------------------------------------------------------------------------------


def test_explore_by_default_wants_every_schedule_to_end_as_without_a_race() -> None:
    """Two of three words decide, and nothing says which two: an exploration that is not told so refuses it."""
    failure = explore(Collect, start=START, messages=THREE).failure
    assert failure is not None
    assert failure.kind == "outcome"
    assert "Collected(order='1', words=['a', 'b'])" in failure.problem
    assert "If both may be, name them: outcomes=[...]" in failure.problem


def test_explore_with_allowed_outcomes_refuses_every_other() -> None:
    """What is allowed passes, in any sequence type and any order; one outcome less, and it is a failure."""
    pairs = [words_of("a", "b"), words_of("a", "c"), words_of("b", "c"), words_of("a", "b", "c")]
    result = explore(Collect, start=START, messages=THREE, outcomes=pairs).assert_ok()
    assert len(result.outcomes) == len(pairs)
    explore(Collect, start=START, messages=THREE, outcomes=map(tuple, reversed(pairs))).assert_ok()
    failure = explore(Collect, start=START, messages=THREE, outcomes=pairs[:3]).failure
    assert failure is not None
    assert failure.kind == "outcome"
    assert "and only Collected" in failure.problem


def test_explore_with_a_projection_compares_what_it_returns() -> None:
    """`outcome=` says what counts: here whether the saga has ended, which it always has."""
    result = explore(Collect, start=START, messages=THREE, outcome=lambda moment: moment.completed).assert_ok()
    assert list(result.outcomes) == [True]
    allowed = explore(
        Collect, start=START, messages=THREE, outcome=lambda moment: len(moment.state.words), outcomes=[2, 3]
    )
    assert sorted(allowed.assert_ok().outcomes) == [2, 3]


@pytest.mark.parametrize(
    ("circumstances", "schedules"),
    [
        # One worker: a then b, or b then a.
        ({"workers": 1}, 2),
        # Two: those, and two loads in either order with two commits in either order; the merge that follows has no
        # choices.
        ({"workers": 2}, 2 + 2 * 2),
        # One worker who may also take two at once, in either order: the words, or the start and one of them.
        ({"workers": 1, "batch": 2}, 2 + 2 + 2 * 2),
    ],
)
def test_explore_of_two_replies_counts_the_schedules_that_there_are(
    circumstances: dict[str, int], schedules: int
) -> None:
    """Small cases can be counted by hand, and the counts agree."""
    result = explore(Collect, start=START, messages=TWO, **circumstances).assert_ok()
    assert result.complete
    assert result.schedules == schedules
    assert [ending.schedules for ending in result.outcomes.values()] == [schedules]


def test_explore_outcome_names_an_example_that_ends_so() -> None:
    """The token beside an outcome plays a schedule that ends with it."""
    result = explore(Collect, start=START, messages=THREE, outcome=lambda moment: frozenset(moment.state.words))
    everything = explore(
        Collect,
        start=START,
        messages=THREE,
        outcome=lambda moment: frozenset(moment.state.words),
        outcomes=[frozenset("ab"), frozenset("ac"), frozenset("bc"), frozenset("abc")],
    ).assert_ok()
    assert not result.ok
    for words, ending in everything.outcomes.items():
        played = explore(
            Collect,
            start=START,
            messages=THREE,
            outcomes=[words],
            outcome=lambda moment: frozenset(moment.state.words),
            replay=ending.example,
        )
        played.assert_ok()


def test_explore_of_a_saga_that_may_go_on_for_ever_has_endless_schedules() -> None:
    """A timer that sets itself anew goes round before it is stopped, as often as it likes."""
    result = explore(Ticks, start=START, messages=[Stop()]).assert_ok()
    assert result.complete
    assert math.isinf(result.schedules)
    assert [ending.schedules for ending in result.outcomes.values()] == [math.inf]
    assert "endless schedules" in str(result)


@pytest.mark.parametrize("mode", ["exhaustive", "random"])
def test_explore_of_a_saga_that_never_ends_is_a_livelock(mode: Any) -> None:
    """Where nothing that can come is an end, the shortest way round is shown."""
    failure = explore(Ticks, start=START, mode=mode, runs=1).failure
    assert failure is not None
    assert failure.kind == "livelock"
    assert failure.problem == (
        "it never ends: from here on nothing leads to an end, and the last 2 steps can repeat"
        if mode == "exhaustive"
        else failure.problem
    )
    replayed = explore(Ticks, start=START, replay=failure.token).failure
    assert replayed is not None
    assert replayed.kind == "livelock"


def test_explore_of_nothing_ends_at_once() -> None:
    """Without messages there is one schedule, in which nothing happens."""
    result = explore(Collect).assert_ok()
    assert (result.states, result.transitions, result.schedules) == (1, 0, 1)


# -- what is said of the whole -------------------------------------------------------------------------------------


def test_exploration_in_words_is_one_line() -> None:
    """Mode, numbers and end, as the command line prints them."""
    well = explore(Collect, start=START, messages=TWO)
    assert str(well) == f"exhaustive: {well.states} states, {well.transitions} transitions, 6 schedules, 1 outcomes: ok"
    broken = explore(Exact, start=START, messages=THREE)
    assert str(broken) == f"exhaustive: {broken.states} states, {broken.transitions} transitions: {broken.failure.kind}"  # type: ignore[union-attr]
    chance = explore(Collect, start=START, messages=TWO, mode="random", runs=10, seed=3)
    assert str(chance).startswith("random, seed 3: ")
    assert str(chance).endswith("10 schedules, 1 outcomes: ok")
    (ending,) = well.outcomes.values()
    replayed = explore(Collect, start=START, messages=TWO, replay=ending.example)
    assert str(replayed) == f"replay of {len(replayed.trace)} steps: ok"


def test_exploration_assert_ok_returns_itself_or_raises_the_report() -> None:
    """A chain goes on where all is well; else the error is an AssertionError whose text is the whole report."""
    well = explore(Collect, start=START, messages=TWO)
    assert well.ok
    assert well.assert_ok() is well
    broken = explore(Exact, start=START, messages=THREE)
    assert not broken.ok
    with pytest.raises(AssertionError) as caught:
        broken.assert_ok()
    assert isinstance(caught.value, ExplorationError)
    assert caught.value.failure is broken.failure
    assert str(caught.value) == broken.failure.report  # type: ignore[union-attr]


# -- invariants ----------------------------------------------------------------------------------------------------


def never_two_words(moment: Moment) -> bool:
    """Not so."""
    return all(len(state.words) < 2 for state in moment.states)


def never_two_words_said(moment: Moment) -> None:
    """Not so either."""
    assert all(len(state.words) < 2 for state in moment.states), "two words at once"


def never_two_words_silent(moment: Moment) -> None:
    """Not so, and without a reason."""
    if any(len(state.words) > 1 for state in moment.states):
        raise AssertionError


@pytest.mark.parametrize("when", ["always", "finally_"])
@pytest.mark.parametrize(
    ("invariant", "problem"),
    [
        (never_two_words, "never_two_words does not hold"),
        (never_two_words_said, "never_two_words_said does not hold: two words at once"),
        (never_two_words_silent, "never_two_words_silent does not hold"),
    ],
)
def test_explore_invariant_that_does_not_hold_is_a_failure(when: str, invariant: Any, problem: str) -> None:
    """False and AssertionError alike; the first line says which and why."""
    failure = explore(Collect, start=START, messages=TWO, **{when: [invariant]}).failure
    assert failure is not None
    assert failure.kind == {"always": "invariant", "finally_": "finally"}[when]
    assert failure.problem.startswith(problem)


def test_explore_invariant_that_returns_nothing_or_anything_but_false_holds() -> None:
    """None, zero and an empty list are no objections."""
    invariants = [lambda moment: None, lambda moment: 0, lambda moment: [], lambda moment: True]
    explore(Collect, start=START, messages=TWO, always=invariants, finally_=invariants).assert_ok()


def test_explore_always_is_asked_in_the_middle_and_finally_at_the_end() -> None:
    """`always` sees siblings and sagas that have not started; `finally_` sees what has ended."""
    on_the_way: list[tuple[int, bool]] = []
    at_the_end: list[tuple[int, bool]] = []
    explore(
        Collect,
        start=START,
        messages=TWO,
        always=[lambda moment: on_the_way.append((len(moment.states), moment.completed))],
        finally_=[lambda moment: at_the_end.append((len(moment.states), moment.completed))],
    ).assert_ok()
    assert set(on_the_way) == {(0, False), (1, False), (2, False), (1, True)}
    assert set(at_the_end) == {(1, True)}


def test_explore_invariant_that_raises_something_else_ends_the_exploration() -> None:
    """An invariant with a fault of its own is no failure of the saga."""
    with pytest.raises(HandlerMisuseError, match="0 live states"):
        explore(Collect, start=START, messages=TWO, always=[lambda moment: moment.state.words])


# -- what must not be ----------------------------------------------------------------------------------------------


def test_explore_saga_that_waits_for_more_is_stuck_unless_it_may() -> None:
    """A saga that has started must complete; `must_end=False` lets it wait for what is not part of the test."""
    waiting = {"start": [Begin(want=3)], "messages": TWO}
    failure = explore(Collect, **waiting).failure
    assert failure is not None
    assert failure.kind == "stuck"
    assert "Collect/1 never completes" in failure.problem
    assert "say must_end=False" in failure.problem
    explore(Collect, **waiting, must_end=False).assert_ok()


def test_explore_without_timeouts_a_saga_may_wait_for_its_timer() -> None:
    """No timer fires, and to wait for one is not to be stuck."""
    fires = explore(Waits, start=START).assert_ok()
    never = explore(Waits, start=START, timeouts=False).assert_ok()
    assert fires.transitions == 4
    assert never.transitions == 2
    assert explore(Collect, start=START, timeouts=False).failure is not None


def test_explore_message_that_ends_as_a_dead_letter_is_a_failure_unless_it_may() -> None:
    """A saga that never starts takes no message; a handler that always raises neither."""
    stray = {"start": START, "messages": [*TWO, Note("2", "x")]}
    failure = explore(Collect, **stray).failure
    assert failure is not None
    assert failure.kind == "dead-letter"
    assert (
        failure.problem == "Note(order='2', word='x') came to Collect/2, which never starts; it ends as a dead letter"
    )
    dead: list[Any] = []
    explore(Collect, **stray, dead_letters=True, finally_=[lambda moment: dead.extend(moment.dead)]).assert_ok()
    assert set(dead) == {(Note("2", "x"), "no-saga")}

    poison = {"start": [Begin(want=9)], "messages": [Note("1", "x")], "must_end": False}
    failure = explore(Fails, **poison).failure
    assert failure is not None
    assert failure.kind == "dead-letter"
    assert failure.problem == "Fails/1 never takes Note(order='1', word='x'): its handler raised ValueError: no x"
    dead.clear()
    explore(Fails, **poison, dead_letters=True, finally_=[lambda moment: dead.extend(moment.dead)]).assert_ok()
    assert set(dead) == {(Note("1", "x"), "failed")}


def test_explore_merger_that_raises_is_unmergeable() -> None:
    """Siblings that cannot be merged are a failure of their own, told with what was raised."""
    failure = explore(Unmergeable, start=START, messages=TWO).failure
    assert failure is not None
    assert failure.kind == "unmergeable"
    assert failure.problem == (
        "the siblings of Unmergeable/1 cannot be merged: "
        "the merger raised UnmergeableStateError: these two do not go together"
    )
    failure = explore(Unmergeable, start=START, messages=TWO, dead_letters=True).failure
    assert failure is not None
    assert failure.kind == "stuck"
    assert "it stands at 2 siblings" in failure.problem


def test_explore_merger_that_forgets_loses_an_effect_unless_that_is_not_asked() -> None:
    """A lawful merger may still lose what a message did; `serial_merges=False` leaves that to the invariants."""
    waiting = {"start": [Begin(want=9)], "messages": TWO, "must_end": False}
    failure = explore(Forgets, **waiting).failure
    assert failure is not None
    assert failure.kind == "lost-effect"
    assert "Forgets/1 has handled Add(word='a') and Add(word='b')" in failure.problem
    assert "say serial_merges=False" in failure.problem
    explore(Forgets, **waiting, serial_merges=False).assert_ok()
    lossy = explore(
        Forgets, **waiting, serial_merges=False, finally_=[lambda moment: moment.state.words == {"a", "b"}]
    ).failure
    assert lossy is not None
    assert lossy.kind == "finally"


# -- the credit check ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replies", [2, 3, 4])
def test_explore_credit_check_is_complete_and_its_counts_do_not_change(replies: int) -> None:
    """The same question has the same answer, to the last state and schedule."""

    def asked() -> tuple[Any, ...]:
        result = explore(
            CreditCheck,
            start=[CheckCredit(customer="42")],
            messages=[ScoreReported(bureau=f"bureau {number}", score=700) for number in range(replies)],
            outcome=lambda moment: len(moment.decisions),
        ).assert_ok()
        assert result.complete
        counts = [(outcome, ending.schedules, ending.example) for outcome, ending in result.outcomes.items()]
        return result.states, result.transitions, result.schedules, counts

    first = asked()
    assert first == asked()
    assert [outcome for outcome, *_ in first[3]] == [1]


def test_explore_decisions_are_those_of_all_sagas() -> None:
    """Two sagas of one class end on their own, and the outcome has what both said."""
    result = explore(
        Collect,
        start=[Begin("1", want=1), Begin("2", want=1)],
        messages=[Note("1", "a"), Note("2", "b")],
        outcomes=[[Collected("2", ["b"]), Collected("1", ["a"])]],
    ).assert_ok()
    assert len(result.outcomes) == 1


def test_explore_leaves_next_to_nothing_to_the_collector() -> None:
    """What a search piles up is gone with it, and the collector is on again, with nothing withheld from it."""
    scores = [ScoreReported(bureau=name, score=700) for name in ("equifax", "experian", "transunion", "schufa")]
    gc.collect()
    gc.disable()
    try:
        states = explore(CreditCheck, start=[CheckCredit(customer="42")], messages=scores).states
        assert gc.collect() < states / 2
    finally:
        gc.enable()
    explore(CreditCheck, start=[CheckCredit(customer="42")], messages=scores[:2])
    assert gc.isenabled()
    assert not gc.get_freeze_count()
