"""Mergers that keep the laws of merging pass; for each law there is one that breaks it, and the smallest states."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from hypothesis import strategies as st

import mergers
from examples.credit_check.saga import CreditCheck as ExampleCheck
from sagabus.codec import StateCodec
from sagabus.errors import ConfigurationError, DefinitionError, SagabusError
from sagabus.saga import Saga
from sagabus.testing.laws import merge_search, merger_check, merger_laws, other_process
from sagabus.testing.laws.merge_trial import Answers
from sagabus.testing.laws.merger_check import MergerError, check_merger
from sagabus.testing.laws.merger_laws import examine, refute
from sagabus.testing.laws.other_process import Merged, Task, Unreachable, address_of, merge_all, merge_elsewhere
from sagabus.testing.laws.refutation import Law, Refutation, Result
from tests.changes import evolve
from tests.mergers_for_tests import (
    Agreed,
    Count,
    Counting,
    Impossible,
    Natural,
    Order,
    Tags,
    added,
    both_sides,
    by_partial,
    careless,
    changes,
    first,
    first_side,
    forgetful,
    greatest,
    hash_of_change,
    into_the_ancestor,
    into_the_first,
    last_in_order,
    lower_median,
    lowest_hash,
    mean,
    merge_agreed,
    merge_orders,
    one_more,
    refuses_all,
    refuses_three,
    refuses_to_end_on_one,
    refusing_side,
    same_only,
    shortening,
    spoiling,
)
from tests.sagas_for_tests import CreditCheck, CreditState, SerialCheck, Tally, TallyState, all_scores

HOME = "tests.mergers_for_tests"
CODEC = StateCodec(Count, 1)
NATURAL = StateCodec(Natural, 1)


def counts(*numbers: int) -> list[Count]:
    return [Count(n) for n in numbers]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Have no other process started; return what they would have been asked, as the merge here answers for all."""
    asked: list[Task] = []

    def merged(task: Task, seeds: Sequence[int]) -> Unreachable:
        asked.append(task)
        return Unreachable("it was not asked")

    monkeypatch.setattr(merger_check, "merge_elsewhere", merged)
    return asked


# -- lawful mergers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merger", "state"), [(merge_orders, Order), (merge_agreed, Agreed), (all_scores, CreditState), (greatest, Count)]
)
def test_check_of_a_lawful_merger_reports_every_law(merger: Any, state: type) -> None:
    """Every ready-made rule keeps all laws, in other processes too, and the check says how much it tried."""
    check = check_merger(merger, state, max_examples=80)
    assert check.laws == (*merger_laws.NARY_LAWS, Law.ACROSS_PROCESSES)
    assert not check.skipped
    assert check.sets > 30


@pytest.mark.parametrize("saga", [CreditCheck, ExampleCheck, Counting])
def test_check_of_a_saga_takes_its_merger_and_its_state(saga: type[Saga[Any]]) -> None:
    """A saga class stands for its merger, also where that has no name of its own."""
    assert check_merger(saga, max_examples=50).laws[-1] == Law.ACROSS_PROCESSES


def test_check_of_a_merger_with_ancestor_reports_its_own_laws() -> None:
    """A binary merger is tried on ancestors and what became of them."""
    check = check_merger(changes, Count)
    assert check.laws == (*merger_laws.ANCESTRAL_LAWS, Law.ACROSS_PROCESSES)
    assert str(check) == f"changes: 7 laws hold on {check.sets} sets of siblings"


def test_check_of_a_merger_that_refuses_counts_what_it_refused(elsewhere: list[Task]) -> None:
    """Where siblings contradict each other, a merger may refuse, in whatever order they come."""
    check = check_merger(same_only, counts(0, 1, 2))
    assert (check.sets, check.refused) == (7, 4)
    assert check.laws == merger_laws.NARY_LAWS
    assert "(4 refused); not tried: deterministic-across-processes, for it was not asked" in str(check)


def test_check_of_a_merger_that_refuses_everything_says_what_was_not_tried(elsewhere: list[Task]) -> None:
    """Laws that there was nothing to try on are not said to hold."""
    check = check_merger(refuses_all, Count, max_examples=50)
    assert check.laws[-1] == Law.COMMUTATIVE
    assert check.skipped[Law.ASSOCIATIVE] == "the merger refused every set of siblings"


def test_check_twice_tries_the_same_states(elsewhere: list[Task]) -> None:
    """A check comes out alike each time; another seed tries others."""
    for seed in (0, 0, 1):
        check_merger(merge_orders, Order, max_examples=10, seed=seed)
    once, again, other = (task.cases for task in elsewhere)
    assert once == again != other


def test_check_writes_no_example_database(tmp_path: Path) -> None:
    """A failing check leaves nothing that a later run would read."""
    code = (
        "from sagabus.testing import check_merger\n"
        "from tests.mergers_for_tests import Count, first\n"
        "try: check_merger(first, Count)\n"
        "except AssertionError: print('refuted')"
    )
    root = Path(__file__).parents[2]
    script = f"import sys; sys.path.insert(0, {str(root)!r})\n{code}"
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "refuted\n"
    assert not list(tmp_path.glob(".hypothesis/examples"))


def test_refute_that_is_given_answers_asks_for_none_of_them_again() -> None:
    """A merger is asked once for each list of states, and for the siblings as they are once more each time."""
    asked: list[tuple[int, ...]] = []

    def heard(siblings: Sequence[Count]) -> Count:
        asked.append(tuple(each.n for each in siblings))
        return greatest(siblings)

    answers = Answers()
    for numbers in ((1, 2), (1, 2, 3), (2, 1), (1, 2, 3)):
        assert refute(heard, counts(*numbers), CODEC, answers=answers) is None
    again = Counter({(1, 2): 1, (1, 2, 3): 2, (2, 1): 1})
    assert Counter(asked) == Counter(dict.fromkeys(asked, 1)) + again


def test_refute_that_is_given_answers_notices_that_they_are_others_now() -> None:
    """A merger that has changed its mind since is not deterministic."""
    answers, shift = Answers(), [0]

    def shifting(siblings: Sequence[Count]) -> Count:
        return Count(max(each.n for each in siblings) + shift[0])

    assert refute(shifting, counts(1, 2), CODEC, answers=answers) is None
    shift[0] = 1
    found = refute(shifting, counts(1, 2), CODEC, answers=answers)
    assert found is not None
    assert found.law is Law.DETERMINISTIC


# -- a broken merger for each law ------------------------------------------------------------------------------------

BROKEN: list[tuple[Callable[..., Any], Law, dict[str, Count], list[tuple[str, Any]]]] = [
    (
        first,
        Law.COMMUTATIVE,
        {"a": Count(0), "b": Count(1)},
        [("merge([a, b])", Count(0)), ("merge([b, a])", Count(1))],
    ),
    (added, Law.IDEMPOTENT, {"a": Count(1)}, [("merge([a, a])", Count(2)), ("a", Count(1))]),
    (
        mean,
        Law.IDEMPOTENT,
        {"a": Count(0), "b": Count(2)},
        [("merge([a, b])", Count(1)), ("merge([a, b, a])", Count(0))],
    ),
    (
        lower_median,
        Law.ASSOCIATIVE,
        {"a": Count(0), "b": Count(1), "c": Count(2)},
        [("merge([a, b, c])", Count(1)), ("merge([merge([a, b]), c])", Count(0))],
    ),
    (
        one_more,
        Law.ABSORBING,
        {"a": Count(0), "b": Count(1)},
        [("merge([a, b])", Count(2)), ("merge([a, merge([a, b])])", Count(3))],
    ),
    (
        into_the_first,
        Law.MUTATES_NOTHING,
        {"a": Count(0), "b": Count(1)},
        [("a", Count(0)), ("a after merge([a, b])", Count(1))],
    ),
    (
        refuses_to_end_on_one,
        Law.COMMUTATIVE,
        {"a": Count(0), "b": Count(1)},
        [("merge([a, b])", None), ("merge([b, a])", Count(1))],
    ),
    (
        refuses_three,
        Law.ASSOCIATIVE,
        {"a": Count(0), "b": Count(1), "c": Count(2)},
        [("merge([a, b, c])", Count(2)), ("merge([a, b])", None)],
    ),
    (careless, Law.ANSWERS, {"a": Count(2)}, [("merge([a, a])", None)]),
]

BROKEN_WITH_ANCESTOR: list[tuple[Callable[..., Any], Law, dict[str, Count], list[tuple[str, Any]]]] = [
    (
        first_side,
        Law.SYMMETRIC,
        {"a": Count(1), "b": Count(2), "ancestor": Count(0)},
        [("merge(a, b, ancestor)", Count(1)), ("merge(b, a, ancestor)", Count(2))],
    ),
    (
        both_sides,
        Law.ONE_SIDED,
        {"a": Count(0), "ancestor": Count(1)},
        [("merge(a, ancestor, ancestor)", Count(1)), ("a", Count(0))],
    ),
    (
        into_the_ancestor,
        Law.MUTATES_NOTHING,
        {"a": Count(1), "ancestor": Count(0)},
        [("ancestor", Count(0)), ("ancestor after merge(a, a, ancestor)", Count(2))],
    ),
]


def assert_refuted(error: MergerError, law: Law, states: dict[str, Count], results: list[tuple[str, Any]]) -> None:
    """Fail unless *error* shows exactly that."""
    assert error.law == law
    assert error.refutations[0].states == states
    assert error.states == tuple(states.values())
    shown = error.results if law is not Law.ANSWERS else [evolve(result, error="") for result in error.results]
    assert [(result.call, result.state) for result in shown] == results


@pytest.mark.parametrize(("merger", "law", "states", "results"), [*BROKEN, *BROKEN_WITH_ANCESTOR])
def test_check_of_a_broken_merger_on_generated_states_shows_the_smallest(
    merger: Any, law: Law, states: dict[str, Count], results: list[tuple[str, Any]]
) -> None:
    """Hypothesis finds the law that is broken, and the simplest states that break it."""
    with pytest.raises(MergerError) as caught:
        check_merger(merger, Count)
    assert_refuted(caught.value, law, states, results)


@pytest.mark.parametrize(("merger", "law", "states", "results"), [*BROKEN, *BROKEN_WITH_ANCESTOR])
def test_check_of_a_broken_merger_on_given_states_shows_the_smallest(
    merger: Any, law: Law, states: dict[str, Count], results: list[tuple[str, Any]]
) -> None:
    """Of all pairs and triples of the given states, the smallest that break the law are shown."""
    with pytest.raises(MergerError) as caught:
        check_merger(merger, counts(2, 1, 0))
    assert_refuted(caught.value, law, states, results)


def test_merger_error_shows_the_two_smallest_and_what_to_do() -> None:
    """A newcomer reads which states, what came of them, the next smallest, and what to change."""
    with pytest.raises(MergerError) as caught:
        check_merger(first, counts(0, 1, 2))
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, SagabusError)
    assert len(caught.value.refutations) == 2
    assert str(caught.value) == (
        "first is refuted (commutative): it depends on the order of the siblings\n"
        "\n"
        "  a = Count(n=0)\n"
        "  b = Count(n=1)\n"
        "\n"
        "  merge([a, b])  gives  Count(n=0)\n"
        "  merge([b, a])  gives  Count(n=1)\n"
        "\n"
        "The next smallest:\n"
        "\n"
        "  a = Count(n=0)\n"
        "  b = Count(n=2)\n"
        "\n"
        "  merge([a, b])  gives  Count(n=0)\n"
        "  merge([b, a])  gives  Count(n=2)\n"
        "\n"
        "Let the result depend on what the siblings say, never on which of them stands first: keep the highest, the "
        "union, or the one that sorts first."
    )


@pytest.mark.parametrize("states", [Count, counts(0, 1)])
def test_check_of_a_random_merger_blames_chance(states: Any) -> None:
    """What depends on chance seems to break any law; the law that is named is that two calls are alike."""
    numbers = itertools.count()

    def drifting(siblings: Sequence[Count]) -> Count:
        return Count(next(numbers) // 7)

    with pytest.raises(MergerError) as caught:
        check_merger(drifting, states)
    assert caught.value.law == "deterministic"


def test_check_where_the_shrunk_states_break_nothing_shows_what_broke_before() -> None:
    """A merger that failed once has failed, though Hypothesis cannot make it fail again."""
    calls = itertools.count()

    def once(siblings: Sequence[Count]) -> Count:
        return Count(9 if next(calls) == 40 else max(s.n for s in siblings))

    with pytest.raises(MergerError):
        check_merger(once, Count)


# -- refute, on concrete states ------------------------------------------------------------------------------------


def test_refute_of_a_lawful_merger_returns_none() -> None:
    """No law is broken on one, a few, or many siblings."""
    for number in range(1, 7):
        assert refute(greatest, counts(*range(number)), CODEC) is None


def test_refute_of_one_sibling_has_it_meet_its_equal() -> None:
    """One state is enough to show that equals do not merge to themselves."""
    refutation = refute(added, counts(1), CODEC)
    assert refutation is not None
    assert refutation.results == (Result("merge([a, a])", Count(2)), Result("a", Count(1)))


def test_refute_without_siblings_asks_for_some() -> None:
    """There is nothing to merge."""
    with pytest.raises(ConfigurationError, match="give one or more"):
        refute(greatest, [], CODEC)


@pytest.mark.parametrize(
    ("merger", "law", "calls"),
    [
        (first, Law.COMMUTATIVE, ("merge([a, b, c, d, e])", "merge([e, d, c, b, a])")),
        (
            lower_median,
            Law.ASSOCIATIVE,
            ("merge([a, b, c, d, e])", "merge([a, merge([b, c, d, e])])"),
        ),
    ],
)
def test_refute_beyond_four_siblings_tries_some_orders_and_groupings(
    merger: Any, law: Law, calls: tuple[str, str]
) -> None:
    """Of many siblings the reverse, the rotations, and every cut into two are tried."""
    refutation = refute(merger, counts(0, 1, 2, 3, 4), CODEC)
    assert refutation is not None
    assert (refutation.law, tuple(result.call for result in refutation.results)) == (law, calls)


def test_refute_of_more_siblings_than_letters_numbers_the_rest() -> None:
    """Every sibling has a name, z is followed by s26."""
    refutation = refute(first, counts(*range(28)), CODEC)
    assert refutation is not None
    assert list(refutation.states)[-3:] == ["z", "s26", "s27"]


def test_refute_tries_every_grouping_of_four() -> None:
    """Merges of two, of three, and of two twos are made before the rest."""
    seen: set[tuple[int, ...]] = set()

    def watched(siblings: Sequence[Count]) -> Count:
        seen.add(tuple(s.n for s in siblings))
        return Count(sum({bit for s in siblings for bit in (1, 2, 4, 8) if s.n & bit}))

    assert refute(watched, counts(1, 2, 4, 8), CODEC) is None
    assert {(5, 2, 8), (13, 2), (5, 10), (1, 2, 12)} <= seen


def test_refute_with_an_ancestor_tries_every_two_siblings() -> None:
    """A binary merger is tried on each pair."""
    refutation = refute(first_side, counts(0, 1, 2), CODEC, ancestor=Count(0))
    assert refutation is not None
    assert refutation.states == {"b": Count(1), "c": Count(2), "ancestor": Count(0)}
    assert refute(changes, counts(0, 1, 2), CODEC, ancestor=Count(5)) is None


def test_examine_of_a_binary_merger_that_refuses_says_so() -> None:
    """Refusing is no fault where both orders refuse."""
    assert examine(refusing_side, counts(1, 2), CODEC, ancestor=Count(0)).refused
    assert not examine(refusing_side, counts(0, 2), CODEC, ancestor=Count(0)).refused


@pytest.mark.parametrize(
    ("merger", "call", "shown"),
    [
        (shortening, "the list after merge([a, b])", "a list of 0 siblings, or in another order"),
        (spoiling, "a after merge([a, b])", "Count(n=<object object"),
    ],
)
def test_refute_of_a_merger_that_spoils_its_input_shows_it(merger: Any, call: str, shown: str) -> None:
    """The list of siblings is input too, and a state that can no longer be written has changed."""
    refutation = refute(merger, counts(0, 1), CODEC)
    assert refutation is not None
    assert refutation.law is Law.MUTATES_NOTHING
    assert refutation.results[-1].call == call
    assert str(refutation.results[-1]).startswith(shown)


@pytest.mark.parametrize(("merger", "reason"), [(forgetful, "got `None`"), (added, "must be >= 0")])
def test_refute_of_a_merger_whose_result_cannot_be_stored_says_why(merger: Any, reason: str) -> None:
    """What a merger returns must be a state, within its validators."""

    def below(siblings: Sequence[Natural]) -> Any:
        return merger(siblings) and type("Below", (), {}) and _negative(siblings[0])

    refutation = refute(below, [Natural(1), Natural(2)], NATURAL)
    assert refutation is not None
    assert refutation.law is Law.STORABLE
    assert reason in refutation.text


def _negative(state: Natural) -> Natural:
    wrong = Natural(0)
    object.__setattr__(wrong, "n", -1)
    return wrong


def test_refutation_text_tells_states_results_and_mend() -> None:
    """The text of a refutation stands by itself."""
    refutation = refute(careless, counts(2), CODEC)
    assert refutation is not None
    assert refutation.text == (
        "careless is refuted (answers): it raises an error\n\n"
        "  a = Count(n=2)\n\n"
        "  merge([a, a])  gives  KeyError: 2\n\n"
        "Mend the error; where no value can stand for all siblings, raise sagabus.errors.UnmergeableStateError."
    )


def test_refutation_names_a_merger_that_has_no_name_by_its_class() -> None:
    """An object that merges is called by its class and its states; one made in a function by its own name."""
    keeping_first = mergers.fieldwise(Count, n=mergers.rule(lambda values: values[0]))
    refutation = refute(keeping_first, counts(0, 1), CODEC)
    assert isinstance(refutation, Refutation)
    assert refutation.merger == "FieldwiseMerger of Count"

    def local(siblings: Sequence[Count]) -> Count:
        return siblings[0]

    named = refute(local, counts(0, 1), CODEC)
    assert named is not None
    assert named.merger == "local"


# -- what is checked, and on what -----------------------------------------------------------------------------------


def test_check_with_a_strategy_takes_the_class_from_what_it_draws(elsewhere: list[Task]) -> None:
    """States may come from the user's own strategy."""
    check_merger(greatest, st.builds(Count, st.integers(5, 7)), max_examples=50)
    drawn = {CODEC.decode(data).n for task in elsewhere for siblings, _ in task.cases for data in siblings}
    assert drawn == {5, 6, 7}


@pytest.mark.parametrize("ancestors", [st.builds(Count, st.just(9)), [Count(9)]])
@pytest.mark.parametrize("states", [Count, counts(0, 1)])
def test_check_with_ancestors_uses_those(elsewhere: list[Task], states: Any, ancestors: Any) -> None:
    """Ancestors may be given too, as a strategy or as states."""
    if isinstance(states, list) and not isinstance(ancestors, list):
        with pytest.raises(ConfigurationError, match="give ancestors as a sequence"):
            check_merger(changes, states, ancestors=ancestors)
        return
    check_merger(changes, states, ancestors=ancestors, max_examples=50)
    assert {ancestor for task in elsewhere for _, ancestor in task.cases} == {CODEC.encode(Count(9))}


def test_check_of_given_states_with_ancestor_tries_them_and_the_initial_state(elsewhere: list[Task]) -> None:
    """Two first writes have the initial state as their ancestor, so it is always among them."""
    assert check_merger(changes, counts(3)).sets == 2


@pytest.mark.parametrize("merger", [greatest, changes])
def test_check_of_very_many_states_tries_a_sample(
    merger: Any, elsewhere: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of sets is bounded, and another process merges a part of them."""
    monkeypatch.setattr(merge_search, "MOST_GIVEN", 20)
    monkeypatch.setattr(merge_search, "MOST_ELSEWHERE", 5)
    assert check_merger(merger, counts(*range(15))).sets <= 55
    assert 1 <= len(elsewhere[0].cases) <= 5


def test_check_of_a_merger_that_names_its_states_needs_no_class(elsewhere: list[Task]) -> None:
    """A fieldwise merger says what it merges."""
    assert check_merger(by_partial, max_examples=20).merger == "FieldwiseMerger of Count"


@pytest.mark.parametrize(
    ("error", "match", "ask"),
    [
        (ConfigurationError, "does not say what it merges", lambda: check_merger(greatest)),
        (ConfigurationError, "give at least one", lambda: check_merger(greatest, [])),
        (ConfigurationError, "a Tags stands among states of Count", lambda: check_merger(greatest, [Count(), Tags()])),
        (ConfigurationError, "no ancestor; leave", lambda: check_merger(greatest, Count, ancestors=[Count()])),
        (DefinitionError, "is serial", lambda: check_merger(SerialCheck)),
        (DefinitionError, "merges Order, the state is Count", lambda: check_merger(merge_orders, Count)),
        (DefinitionError, "is no attrs class", lambda: check_merger(greatest, int)),
        (DefinitionError, "takes 2 arguments", lambda: check_merger(lambda a, b: a, Count)),
        (ConfigurationError, "no state can be generated", lambda: check_merger(last_in_order, Impossible)),
        (
            ConfigurationError,
            "no state can be generated",
            lambda: check_merger(greatest, st.builds(Count).filter(lambda count: count.n > 5)),
        ),
    ],
)
def test_check_of_what_cannot_be_checked_says_what_to_give(
    error: type[Exception], match: str, ask: Callable[[], object]
) -> None:
    """Every way to ask wrongly is answered with what to give instead."""
    with pytest.raises(error, match=match):
        ask()


def test_check_of_the_shared_tally_is_refuted_for_a_removed_note() -> None:
    """A union cannot tell that one side removed something: the law for one changed side finds it."""
    with pytest.raises(MergerError) as caught:
        check_merger(Tally)
    assert caught.value.law == Law.ONE_SIDED
    assert caught.value.states == (TallyState(), TallyState(notes=["a"]))


# -- other processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merger", "names"), [(lowest_hash, "merge([a, b])"), (hash_of_change, "merge(a, b, ancestor)")]
)
def test_check_of_a_merger_that_depends_on_hashes_is_refuted_in_other_processes(merger: Any, names: str) -> None:
    """Nothing in one process shows it; the processes of other workers do."""
    with pytest.raises(MergerError) as caught:
        check_merger(merger, Tags, max_examples=100)
    assert caught.value.law == "deterministic-across-processes"
    assert [result.call for result in caught.value.results] == [
        f"{names} where PYTHONHASHSEED=1",
        f"{names} where PYTHONHASHSEED=2",
    ]
    one, other = (result.state.names for result in caught.value.results)
    assert one != other


class Unnamed:
    """Merges, and is called by its class alone."""

    def __call__(self, siblings: Sequence[Count]) -> Count:
        return greatest(siblings)


def test_check_of_a_merger_that_has_no_address_skips_other_processes() -> None:
    """What is made inside a function cannot be found elsewhere; the check says that it did not look."""
    check = check_merger(Unnamed(), counts(0, 1))
    assert check.merger == "Unnamed"
    assert check.skipped[Law.ACROSS_PROCESSES].startswith("another process cannot find the merger: it is no attribute")
    assert Law.ACROSS_PROCESSES not in check.laws


def test_check_of_local_states_skips_other_processes() -> None:
    """The class of the states must be found too."""

    @define
    class Local:
        n: int = 0

    reason = check_merger(last_in_order, [Local(), Local(1)]).skipped[Law.ACROSS_PROCESSES]
    assert reason.startswith("another process cannot find the state class")


@pytest.mark.parametrize(
    ("subject", "address"),
    [
        (greatest, f"{HOME}:greatest"),
        (by_partial, f"{HOME}:by_partial"),
        (Counting, f"{HOME}:Counting"),
        (Counting.noted, f"{HOME}:Counting.noted"),
    ],
)
def test_address_of_what_stands_in_a_module_leads_to_it(subject: Any, address: str) -> None:
    """A function and a class say where they stand; an object is found under the name of the module that holds it."""
    assert address_of(subject) == address
    assert other_process.find(address) is subject


def test_address_in_the_main_module_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has another main module."""

    def mine(siblings: Sequence[Count]) -> Count:
        return siblings[0]

    monkeypatch.setattr(sys.modules["__main__"], "mine", mine, raising=False)
    # Where multiprocessing has started a child, the module has a second name.
    monkeypatch.setitem(sys.modules, "__mp_main__", sys.modules["__main__"])
    assert isinstance(address_of(mine), Unreachable)


def test_merge_elsewhere_comes_to_what_it_comes_to_here() -> None:
    """A task is done alike by whoever does it: merges, refusals and errors."""
    zero, one = (CODEC.encode(count) for count in counts(0, 1))
    task = Task(f"{HOME}:same_only", f"{HOME}:Count", [([one, one], None), ([zero, one], None)])
    assert merge_all(same_only, CODEC, task) == [Merged(one), Merged()]
    assert merge_elsewhere(task, [3]) == [[Merged(one), Merged()]]
    (broken,) = merge_all(careless, CODEC, Task("", "", [([CODEC.encode(Count(5))] * 2, None)]))
    assert broken == Merged(error="careless is refuted (answers): it raises an error")
    binary = Task(f"{HOME}:changes", f"{HOME}:Count", [([one, one], zero)])
    assert merge_elsewhere(binary, [3]) == [merge_all(changes, CODEC, binary)] == [[Merged(CODEC.encode(Count(2)))]]


def test_merge_elsewhere_that_cannot_import_says_why() -> None:
    """A module that another process cannot import is a reason to skip, not a broken law."""
    outcome = merge_elsewhere(Task("no_such_module:merge", "", []), [1, 2])
    assert outcome == Unreachable("another process failed: ModuleNotFoundError: No module named 'no_such_module'")


def test_merge_elsewhere_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not answer in time is ended, and the law skipped."""
    monkeypatch.setattr(other_process, "TIMEOUT_S", 0.0)
    monkeypatch.setattr(other_process, "_BOOT", "import signal; signal.pause()")
    assert merge_elsewhere(Task("", "", []), [1]) == Unreachable("another process took longer than 0 s")


@pytest.mark.parametrize(
    ("elsewhere", "shown"),
    [
        ((Merged(CODEC.encode(Count(1))), Merged(CODEC.encode(Count(2)))), ["Count(n=1)", "Count(n=2)"]),
        ((Merged(CODEC.encode(Count(1))), Merged()), ["Count(n=1)", "refused"]),
        ((Merged(error="it broke"), Merged(error="it broke")), ["Count(n=3)", "it broke"]),
    ],
)
def test_check_that_differs_elsewhere_shows_both(
    monkeypatch: pytest.MonkeyPatch, elsewhere: tuple[Merged, Merged], shown: list[str]
) -> None:
    """Two other processes are compared, then one of them with this one."""
    monkeypatch.setattr(merger_check, "merge_elsewhere", lambda task, seeds: [[merged] for merged in elsewhere])
    with pytest.raises(MergerError) as caught:
        check_merger(greatest, counts(3))
    assert [str(result) for result in caught.value.results] == shown


def test_task_is_served_on_standard_streams() -> None:
    """The program of another process: a task in, what it comes to out, and whatever a merger prints kept apart."""
    one = CODEC.encode(Count(1))
    for subject, state in (("chatty", "Count"), ("Counting", "")):
        task = Task(f"{HOME}:{subject}", state and f"{HOME}:{state}", [([one, one], None)])
        assert merge_elsewhere(task, [1]) == [[Merged(one)]]
