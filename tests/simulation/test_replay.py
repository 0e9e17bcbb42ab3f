"""`explore` at random, its replays, and how what it finds is made small."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError
from sagabus.testing import ExplorationError, explore, session
from sagabus.testing.session import Defaults, Session, opened
from sagabus.testing.simulator.report import Failure
from sagabus.testing.simulator.schedule import Commits, LeavesOut, Loads, RollsBack, schedule_of, token_of
from tests.simulation.small_sagas import Add, Begin, Collect, Exact, Note

KEY = SagaKey("Collect", "1")
START = [Begin()]
FOUR = [Add("a"), Add("b"), Add("c"), Add("d")]
ENDS: dict[str, Any] = {"outcome": lambda moment: moment.completed}
PAIRS: dict[str, Any] = {
    "outcome": lambda moment: tuple(sorted(moment.state.words)),
    "outcomes": [tuple(words) for words in ("ab", "ac", "ad", "bc", "bd", "cd", "abc", "abd", "acd", "bcd", "abcd")],
}


def at_random(**more: Any) -> Any:
    """Return what a random search of four words finds."""
    return explore(Collect, start=START, messages=FOUR, mode="random", **PAIRS, **{"runs": 60, **more}).assert_ok()


def counted(result: Any) -> dict[Any, float]:
    """Return how many schedules end in which way."""
    return {outcome: ending.schedules for outcome, ending in result.outcomes.items()}


# -- at random -----------------------------------------------------------------------------------------------------


def test_explore_at_random_with_one_seed_is_the_same_every_time() -> None:
    """The seed and nothing else decides; another one finds its way differently."""
    first, again, other = at_random(seed=1), at_random(seed=1), at_random(seed=2)
    assert first == again
    assert counted(first) != counted(other)
    assert (first.mode, first.seed, first.schedules, first.complete) == ("random", 1, 60, False)
    assert sum(counted(first).values()) == 60


def test_explore_at_random_has_an_example_of_each_outcome() -> None:
    """The token beside an outcome ends with it, as of an exhaustive search."""
    for words, ending in at_random(seed=3).outcomes.items():
        allowed = {**PAIRS, "outcomes": [words]}
        explore(Collect, start=START, messages=FOUR, **allowed, replay=ending.example).assert_ok()


def test_explore_auto_is_exhaustive_while_that_fits_and_random_beyond() -> None:
    """Too many states for max_states, and the search goes on at random; `exhaustive` stops there."""
    asked: dict[str, Any] = {"start": START, "messages": FOUR, **PAIRS}
    assert explore(Collect, **asked).mode == "exhaustive"
    beyond = explore(Collect, **asked, max_states=50, runs=40)
    assert (beyond.mode, beyond.seed, beyond.schedules) == ("random", 0, 40)
    insisted = explore(Collect, **asked, max_states=50, mode="exhaustive")
    assert (insisted.mode, insisted.complete, insisted.ok) == ("exhaustive", False, False)
    with pytest.raises(ExplorationError, match=r"cut off after \d+ states.*Raise max_states=") as caught:
        insisted.assert_ok()
    assert caught.value.failure is None


def test_explore_uses_the_settings_of_its_session_where_it_says_nothing() -> None:
    """`--saga-seed` and `--saga-states` are for explorations that do not say it themselves."""
    told: list[tuple[int, int]] = []
    here = Session(Defaults(seed=7, max_states=50), lambda: nullcontext(lambda *seen: told.append(seen)))
    with opened(here):
        by_session = explore(Collect, start=START, messages=FOUR, runs=100, **PAIRS)
        by_itself = explore(Collect, start=START, messages=FOUR, runs=10, seed=0, mode="random", **PAIRS)
        assert explore(Collect, start=START, messages=FOUR, max_states=100_000, **PAIRS).complete
    assert (by_session.mode, by_session.seed) == ("random", 7)
    assert by_itself.seed == 0
    assert here.tally.explorations == 3
    assert here.tally.seeds == [7, 0]
    assert told
    assert session.defaults().seed != 7


def test_explore_tells_its_progress_on_the_way() -> None:
    """An exhaustive search of some thousand states says how far it is."""
    told: list[tuple[int, int]] = []
    with opened(Session(Defaults(), lambda: nullcontext(lambda *seen: told.append(seen)))):
        words = [Add(word) for word in "abcde"]
        result = explore(
            Collect, start=[Begin(want=5)], messages=words, resends=1, mode="exhaustive", max_states=15_000
        )
    assert result.states > 4_096
    assert told
    assert all(0 <= waiting <= states for states, waiting in told)


# -- made small ------------------------------------------------------------------------------------------------------


def stuck(**more: Any) -> Failure:
    """Return how a saga gets stuck that wants just two of four words."""
    failure = explore(Exact, start=START, messages=FOUR, **ENDS, **more).failure
    assert failure is not None
    assert failure.kind == "stuck"
    return failure


@pytest.mark.parametrize("search", [{"mode": "exhaustive"}, {"mode": "random", "seed": 5}])
def test_explore_leaves_out_the_messages_that_a_failure_does_not_need(search: dict[str, Any]) -> None:
    """Three words show it; the fourth is left out, and the token says so."""
    failure = stuck(**search)
    steps = schedule_of(failure.token)
    (left_out,) = (step for step in steps if isinstance(step, LeavesOut))
    assert len(left_out.messages) == 1
    assert not any(isinstance(step, LeavesOut) for step in failure.events)
    handled = {name for step in failure.events if isinstance(step, Loads) for name in step.messages}
    assert not handled & set(left_out.messages)
    assert len(failure.events) == 10


def test_explore_at_random_beyond_all_states_still_drops_what_is_not_needed() -> None:
    """Where even the small case is too large to be searched, single steps are left out while it fails alike."""
    failure = stuck(mode="random", seed=5, max_states=1)
    steps = list(schedule_of(failure.token))
    for dropped in range(len(failure.events)):
        rest = [step for number, step in enumerate(steps) if number != dropped]
        again = explore(Exact, start=START, messages=FOUR, **ENDS, replay=token_of(rest))
        assert again.failure is None or len(again.failure.events) >= len(failure.events)


def test_explore_at_random_beyond_all_states_shows_no_step_that_is_not_needed() -> None:
    """Two siblings need a start, two loads and two commits, whatever else the random schedule did before."""
    failure = explore(
        Collect,
        start=[Begin(want=9)],
        messages=FOUR,
        mode="random",
        seed=1,
        max_states=1,
        always=[lambda moment: len(moment.states) < 2],
    ).failure
    assert failure is not None
    assert failure.kind == "invariant"
    assert len(failure.events) == 6


@pytest.mark.parametrize("mishap", [{"rollbacks": 1}, {"duplicates": 1}, {"resends": 1}, {"batch": 2}])
def test_explore_at_random_meets_every_mishap(mishap: dict[str, int]) -> None:
    """What an exhaustive search may do, a random one may, and both say that all is well."""
    explore(Collect, start=START, messages=FOUR[:2], mode="random", runs=60, **mishap, **ENDS).assert_ok()


# -- replays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", [{"mode": "exhaustive"}, {"mode": "random", "seed": 5}])
def test_replay_of_a_failure_made_small_is_the_same_trace_for_the_whole_call(search: dict[str, Any]) -> None:
    """Users keep their call as it is, with the messages that were left out, and add the token."""
    failure = stuck(**search)
    again = explore(Exact, start=START, messages=FOUR, **ENDS, replay=failure.token)
    assert again.failure is not None
    assert again.failure.kind == failure.kind
    assert again.failure.problem == failure.problem
    assert again.failure.trace == again.trace == failure.trace
    assert again.failure.token == failure.token
    assert "the schedule that was asked for; its 10 steps:" in again.failure.report


def test_replay_after_mending_passes_and_tells_what_happens_now() -> None:
    """The same schedule with the mended saga: steps that it has not any more are passed over."""
    failure = stuck()
    token = token_of([_for(KEY, step) for step in schedule_of(failure.token)])
    mended = explore(Collect, start=START, messages=FOUR, **ENDS, replay=token).assert_ok()
    assert mended.mode == "replay"
    assert "completed" in mended.trace[-1]


def _for(key: SagaKey, step: Any) -> Any:
    """Return a step of another saga class, as a mended class of the same name would have it."""
    if isinstance(step, Loads):
        return Loads(key, step.messages, step.kept, step.resent)
    return Commits(key, step.messages, step.which) if isinstance(step, Commits) else step


def test_replay_passes_over_steps_that_cannot_happen() -> None:
    """Messages and sagas that are not there, commits of what nobody holds, failovers that are not allowed."""
    steps = [
        Commits(KEY, ("m1",)),
        Loads(KEY, ("m9",)),
        Loads(SagaKey("Nowhere", "1"), ("m1",)),
        RollsBack(KEY),
        Loads(KEY, ("m1",)),
        Loads(KEY, ("m1",)),
        Commits(KEY, ("m1",), 1),
        Commits(KEY, ("m1",)),
    ]
    result = explore(Collect, start=START, messages=FOUR[:2], replay=token_of(steps)).assert_ok()
    plain = explore(Collect, start=START, messages=FOUR[:2], replay=token_of(())).assert_ok()
    assert result.trace == plain.trace


def test_replay_leaves_out_messages_in_whatever_follows() -> None:
    """The others keep their names."""
    token = token_of([LeavesOut(("m2",)), Loads(KEY, ("m1",)), Commits(KEY, ("m1",)), Loads(KEY, ("m4",))])
    result = explore(Collect, start=START, messages=FOUR[:3], **ENDS, replay=token).assert_ok()
    assert "Add(word='c')" in result.trace[2]
    assert not any("word='a'" in line for line in result.trace)


def test_replay_keeps_the_invariants_on_the_way_and_at_the_end() -> None:
    """A replay is judged like any schedule."""
    asked: dict[str, Any] = {"start": START, "messages": FOUR[:2], "replay": token_of(())}
    always = explore(Collect, **asked, always=[lambda moment: not moment.completed]).failure
    finally_ = explore(Collect, **asked, finally_=[lambda moment: not moment.completed]).failure
    other = explore(Collect, **asked, outcomes=[[]]).failure
    stray = explore(Collect, **{**asked, "messages": [*FOUR[:2], Note("2", "x")]}).failure
    kinds = [failure.kind if failure else None for failure in (always, finally_, other, stray)]
    assert kinds == ["invariant", "finally", "outcome", "dead-letter"]


def test_token_of_a_schedule_can_be_read_back() -> None:
    """Every kind of step, and the token is one line without spaces."""
    steps = (
        LeavesOut(("m2", "m3")),
        Loads(KEY, ("m1", "m4"), kept=1, resent=2),
        Commits(KEY, ("m1", "m4"), 1),
        RollsBack(KEY),
    )
    token = token_of(steps)
    assert schedule_of(token) == steps
    assert schedule_of(f"  {token}\n") == steps
    assert token.split() == [token]


@pytest.mark.parametrize("steps", ['[["X","Collect/1"]]', "[[]]", "[1]", '[["L","Collect/1"]]', "{}1", '[["R","x"]]'])
def test_token_that_says_nonsense_is_refused(steps: str) -> None:
    """Whatever is inside: it is no token of this version."""
    import base64
    import zlib

    token = "v1:" + base64.urlsafe_b64encode(zlib.compress(steps.encode())).decode().rstrip("=")
    with pytest.raises(ConfigurationError, match="is no replay token of this version"):
        schedule_of(token)
