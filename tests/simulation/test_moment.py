"""`Moment` and `Messages`: what invariants and outcomes look at."""

from __future__ import annotations

from typing import Any

import pytest

from sagabus import message
from sagabus.envelope import SagaKey
from sagabus.errors import HandlerMisuseError
from sagabus.testing import Moment, explore
from sagabus.testing.simulator.moment import Messages
from tests.simulation.small_sagas import Add, Begin, Collect, Collected, Echo, Heard, Note, words_of


@message("moment.table")
class Table:
    cells: dict[str, int]


def moments(subject: Any, **arguments: Any) -> list[Moment]:
    """Return the moments that an exploration without a race passes, and its last one."""
    seen: list[Moment] = []
    explore(subject, workers=1, always=[seen.append], finally_=[seen.append], **arguments)
    return seen


def test_messages_are_equal_in_any_order_and_to_any_sequence() -> None:
    """What was released is a bag; users write it as a list or a tuple, or in another order."""
    a, b = Heard("a"), Heard("b")
    assert Messages([a, b]) == Messages([b, a])
    assert Messages([a, b]) == [b, a]
    assert Messages([b, a]) == (a, b)
    assert Messages([a, b]) != [a]
    assert Messages([a, a]) != [a]
    assert Messages([a]) != a
    assert Messages([Heard("a")]) != [Add("a")]
    assert hash(Messages([a, b])) == hash(Messages([b, a]))
    assert len({Messages([a, b]), Messages([b, a]), Messages([a])}) == 2


def test_messages_with_mappings_can_be_hashed() -> None:
    """Whatever a message holds, and however its mapping was filled."""
    ab, ba = Table({"a": 1, "b": 2}), Table({"b": 2, "a": 1})
    assert {Messages([ab]): "found"}[Messages([ba])] == "found"


def test_messages_in_words_are_the_messages() -> None:
    """None is a decision too: not to decide."""
    assert repr(Messages([Heard("a"), Heard("b")])) == "Heard(word='a'), Heard(word='b')"
    assert repr(Messages()) == "no decision"


def test_moment_of_the_first_saga_says_where_it_stands() -> None:
    """Before the start, while it lives, and when it has completed."""
    seen = moments(Collect, start=[Begin(want=1)], messages=[Add("a")])
    (before, *_, last) = seen
    assert (before.started, before.completed, before.states) == (False, False, ())
    started = next(moment for moment in seen if moment.started)
    assert (started.started, started.completed, started.state.words) == (True, False, set())
    assert (last.started, last.completed, last.state.words) == (True, True, {"a"})
    assert last.decisions == words_of("a")
    assert last.key == SagaKey("Collect", "1")
    assert last.keys == (SagaKey("Collect", "1"),)


def test_moment_of_a_saga_that_has_not_started_has_no_state() -> None:
    """`state` says what to look at instead; nobody started at all is a moment too."""
    (moment,) = moments(Collect)
    assert (moment.key, moment.states, moment.started, moment.completed, moment.keys) == (None, (), False, False, ())
    with pytest.raises(HandlerMisuseError, match="None has 0 live states at this moment"):
        _ = moment.state


def test_moment_without_a_start_is_about_the_first_saga_that_has_a_message() -> None:
    """A message for a saga that never starts names it all the same."""
    seen = moments(Collect, messages=[Note("7", "a")], dead_letters=True)
    assert {moment.key for moment in seen} == {SagaKey("Collect", "7")}


def test_moment_with_siblings_has_states_and_no_state() -> None:
    """Two versions are no one state."""
    forked: list[Moment] = []
    explore(
        Collect,
        start=[Begin()],
        messages=[Add("a"), Add("b")],
        always=[lambda moment: forked.append(moment) if len(moment.states) > 1 else None],
    ).assert_ok()
    assert forked
    assert sorted(sorted(state.words) for state in forked[0].states) == [["a"], ["b"]]
    with pytest.raises(HandlerMisuseError, match="Collect/1 has 2 live states"):
        _ = forked[0].state


def test_moment_decisions_leave_settled_and_facts_at_once() -> None:
    """What a handler sends to nobody here is `sent`; what `decide()` releases is a decision wherever it goes."""
    seen = moments(Echo, start=[Begin(want=1)], messages=[Add("a")])
    assert seen[0].sent == []
    assert seen[-1].sent == [Heard("a")]
    assert not any(moment.decisions for moment in seen if not moment.completed)
    assert seen[-1].decisions == [Collected("1", ["a"])]


def test_moment_of_another_saga_is_found_by_key_class_or_name() -> None:
    """All ways to say which; decisions and dead letters stay those of all."""
    (*_, last) = moments(
        [Collect, Echo],
        start=[Begin("1", want=1)],
        messages=[Note("1", "a"), Note("2", "b")],
        dead_letters=True,
    )
    assert {str(key) for key in last.keys} == {"Collect/1", "Collect/2", "Echo/1", "Echo/2"}
    echo = SagaKey("Echo", "1")
    for other in (last.saga(echo), last.saga("Echo/1"), last.saga(Echo, "1"), last.saga("Echo", "1")):
        assert other.key == echo
        assert other.completed
        assert other.decisions == last.decisions
        assert other.dead == last.dead
    assert not last.saga("Collect/2").started
    assert {reason for _, reason in last.dead} == {"no-saga"}
    assert last.saga(Echo, "1").saga(Collect, "1").key == SagaKey("Collect", "1")


@pytest.mark.parametrize(("which", "found"), [(Collect, 2), ("Collect", 2), ("Collect/9", 0), (Echo, 0)])
def test_moment_of_a_saga_that_cannot_be_told_says_which_there_are(which: Any, found: int) -> None:
    """None, or several: the error lists what there is."""
    (*_, last) = moments(Collect, start=[Begin("1", want=1), Begin("2", want=1)], must_end=False)
    with pytest.raises(HandlerMisuseError, match=f"{found} sagas match .*Collect/1, Collect/2; write NAME/ID"):
        last.saga(which)


def test_moment_of_another_saga_where_there_is_none_says_so() -> None:
    """Nothing has begun."""
    (moment,) = moments(Collect)
    with pytest.raises(HandlerMisuseError, match="there are none"):
        moment.saga(Collect)
