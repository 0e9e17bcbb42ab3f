"""The harness: what a test gives a saga, forks on purpose, and sees of it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import define, field

from sagabus import MergeSagaState, Saga, SagabusError, UnmergeableStateError, handles, message, starts
from sagabus.testing.harness.desk import HarnessError
from sagabus.testing.harness.released import Deferred, Published, Releases, Replied, Sent
from sagabus.testing.harness.saga_harness import START, SagaHarness
from sagabus.testing.harness.view import SagaLooks
from tests.sagas_for_tests import (
    CheckCredit,
    CreditCheck,
    CreditDecided,
    CreditState,
    End,
    Fail,
    Note,
    Nudge,
    Remind,
    RequestScore,
    ScoreReported,
    SerialCheck,
    Tally,
)
from tests.typing import harness as user_code


@message("harness.open")
class Open:
    number: str
    wait_s: float = 0.0


@message("harness.ring")
class Ring:
    text: str = ""


@message("harness.answer")
class Answer:
    text: str


@define
class DeskState:
    rings: list[str] = field(factory=list)


def refuse(siblings: Sequence[DeskState]) -> DeskState:
    raise UnmergeableStateError("these two cannot be one")


class FrontDesk(Saga[DeskState], key="number", merger=refuse):
    """Answers everybody, and rings again and again."""

    @starts
    def opened(self, m: Open) -> None:
        self.send(Answer("hello"))
        self.reply(Answer("open"))
        if m.wait_s:
            self.defer(Ring("first"), after=m.wait_s)
            self.defer(Ring("named"), after=m.wait_s, name="named")

    @handles
    def rang(self, m: Ring) -> None:
        self.state.rings.append(f"{m.text} at {self.now:%M:%S}")
        if m.text == "again":
            self.defer(m, after=1)
        if m.text == "forever":
            self.defer(m, after=0)
        if m.text == "trouble":
            self.defer(Ring("broken"), after=1)
        if m.text == "broken":
            raise LookupError("no bell")
        if m.text == "tell":
            self.reply_to_starter(Answer("rang"))

    def decide(self) -> None:
        if len(self.state.rings) == 2:
            self.reply_to_starter(Answer("twice"))


@pytest.fixture
def harness() -> SagaHarness[CreditState]:
    """Return a credit check that has asked its three bureaus."""
    harness = SagaHarness(CreditCheck)
    harness.give(CheckCredit("42"))
    return harness


@pytest.fixture
def desk() -> SagaHarness[DeskState]:
    """Return a front desk whose timers ring after a minute."""
    harness = SagaHarness(FrontDesk)
    harness.give(Open("1", wait_s=60))
    return harness


# -- giving --------------------------------------------------------------------------------------------------------


def test_give_returns_what_left_in_that_step() -> None:
    """The effects of one message are values that compare with `==`."""
    harness = SagaHarness(CreditCheck)
    assert harness.give(CheckCredit("42")) == [Sent(RequestScore("42"), to=bureau) for bureau in "abc"]
    assert harness.give(ScoreReported("a", 1)) == []
    assert harness.sent == [RequestScore("42")] * 3
    assert harness.key == "42"
    assert harness.state.scores == {"a": 1}
    assert (harness.settled, harness.completed) == (True, False)


def test_give_the_last_score_completes_and_decides_once(harness: SagaHarness[CreditState]) -> None:
    """What `decide()` asked for shows in effects, published and decisions; the last state stays to be looked at."""
    for bureau in "abc":
        left = harness.give(ScoreReported(bureau, 100))
    assert left == [Published(CreditDecided("42", 300))]
    assert harness.completed
    assert harness.decisions == harness.published == [CreditDecided("42", 300)]
    assert set(harness.state.scores) == {"a", "b", "c"}


def test_give_to_a_completed_saga_is_late(harness: SagaHarness[CreditState]) -> None:
    """`on_late` gets the message, and what it sends leaves as facts."""
    harness.give(End())
    state = harness.state
    assert harness.give(ScoreReported("b", 1)) == [Sent(Note("late b"), to="notes")]
    assert harness.state == state
    assert harness.decisions == []


def test_give_before_the_start_is_early_and_says_what_comes_first() -> None:
    """Nothing waits in a harness, so an early message is an error that names the message which starts the saga."""
    harness = SagaHarness(CreditCheck)
    with pytest.raises(HarnessError, match="CreditCheck has not started; give CheckCredit first"):
        harness.give(ScoreReported("a", 1))
    with pytest.raises(HarnessError, match="CreditCheck/7 has not started, so ScoreReported is early"):
        harness.give(ScoreReported("a", 1), saga=7)
    assert harness.keys == []
    assert harness.effects == []


def test_give_what_is_not_handled_says_what_is() -> None:
    """A message of another saga, and one that only the runtime posts, are mistakes of the test."""
    harness = SagaHarness(FrontDesk)
    with pytest.raises(HarnessError, match="FrontDesk does not handle CheckCredit; it handles Open, Ring"):
        harness.give(CheckCredit("42"))
    with pytest.raises(HarnessError, match="gets MergeSagaState from the runtime; fork it with together"):
        harness.give(MergeSagaState())


def test_give_whose_handler_raises_raises_the_same_and_stores_nothing(harness: SagaHarness[CreditState]) -> None:
    """pytest shows the user's own frames: those of the test, and right below them the handler's."""
    before = harness.graph()
    with pytest.raises(ValueError, match="as asked") as caught:
        harness.give(Fail())
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "failing"
    assert not {"advance", "_handle", "_call"} & set(frames[frames.index("run") :])
    assert [entry.name for entry in caught.traceback.filter(caught)] == [
        "test_give_whose_handler_raises_raises_the_same_and_stores_nothing",
        "failing",
    ]
    assert harness.graph() == before
    assert "failed" not in harness.state.scores
    assert Note("must not leave") not in harness.sent


def test_give_the_same_id_again_changes_nothing(harness: SagaHarness[CreditState]) -> None:
    """A saga handles an id once; under another id the same body counts again."""
    harness.give(Nudge(), id="n")
    assert harness.give(Nudge(), id="n") == []
    assert harness.redeliver() == harness.redeliver("n") == harness.redeliver("m1") == []
    assert harness.give(Nudge()) == [Sent(Note("nudged 0"), to="notes")]
    assert len(harness.sent) == 3 + 2


def test_give_without_ids_never_repeats_one_that_the_test_chose(harness: SagaHarness[CreditState]) -> None:
    """The names that the harness gives pass over those that are taken."""
    harness.give(Nudge(), id="m3")
    assert harness.give(Nudge()) != []


def test_redeliver_of_what_was_never_given_says_what_was(harness: SagaHarness[CreditState]) -> None:
    """A wrong id is a mistake of the test."""
    with pytest.raises(HarnessError, match="was given no message 'x'; there are: m1"):
        harness.redeliver("x")
    with pytest.raises(HarnessError, match="there are: none"):
        SagaHarness(CreditCheck).redeliver()


def test_redeliver_of_a_message_that_failed_tries_it_again() -> None:
    """What raised was not consumed: its next delivery is handled like the first."""
    harness = SagaHarness(CreditCheck)
    with pytest.raises(HarnessError):
        harness.give(ScoreReported("a", 1), saga="42")
    harness.give(CheckCredit("42"))
    harness.redeliver("m1")
    assert harness.state.scores == {"a": 1}


def test_replies_go_to_the_client_unless_the_test_says_otherwise() -> None:
    """Answers to the sender and to the starter are `Replied`, also where a send goes to the same endpoint."""
    harness = SagaHarness(FrontDesk, routes={Answer: "client"})
    assert harness.give(Open("1")) == [Sent(Answer("hello"), to="client"), Replied(Answer("open"), to="client")]
    assert harness.give(Ring("tell"), reply_to="app") == [Replied(Answer("rang"), to="client")]
    assert harness.replies == [Answer("open"), Answer("rang")]
    assert harness.sent == [Answer("hello")]


def test_reply_to_a_message_without_reply_address_is_refused_as_in_life() -> None:
    """An empty reply_to is a message that nobody waits for."""
    with pytest.raises(SagabusError, match="there is nobody to reply to"):
        SagaHarness(FrontDesk).give(Open("1"), reply_to="")


def test_send_without_a_route_goes_to_an_endpoint_called_as_its_message() -> None:
    """A unit test of one saga needs no routes; those it names count."""
    assert SagaHarness(FrontDesk).give(Open("1"))[0] == Sent(Answer("hello"), to="harness.answer")
    assert SagaHarness(FrontDesk, routes={Answer: "desk"}).give(Open("1"))[0] == Sent(Answer("hello"), to="desk")


def test_saga_without_a_key_is_called_as_the_message_that_started_it() -> None:
    """Only replies find it, and what a test gives goes to the one that was started."""
    harness = SagaHarness(Tally)
    harness.give(Note("a"), id="begin")
    assert harness.key == "begin"
    harness.give(End())
    assert harness.completed


# -- forks ---------------------------------------------------------------------------------------------------------


def test_together_forks_merges_and_decides_once(harness: SagaHarness[CreditState]) -> None:
    """All load before any commits; the merge that the runtime posts is handled, and the decision rests on all."""
    left = harness.together(*(ScoreReported(bureau, 10) for bureau in "abc"))
    assert left == [Sent(Note("merged"), to="notes"), Published(CreditDecided("42", 30))]
    assert (harness.settled, harness.completed) == (True, True)
    assert harness.state.merges == 1
    assert harness.decisions == [CreditDecided("42", 30)]


def test_together_without_merge_leaves_the_siblings(harness: SagaHarness[CreditState]) -> None:
    """Siblings can be looked at before they are merged; there is no one state then."""
    assert harness.together(ScoreReported("a", 1), ScoreReported("b", 2), merge=False) == []
    assert [state.scores for state in harness.states] == [{"a": 1}, {"b": 2}]
    assert not harness.settled
    with pytest.raises(HarnessError, match=r"CreditCheck/42 has 2 siblings.*merge\(\) first"):
        _ = harness.state
    assert repr(harness) == "<SagaHarness of CreditCheck: <CreditCheck/42: live, 2 versions>>"
    assert harness.merge() == [Sent(Note("merged"), to="notes")]
    assert harness.state.scores == {"a": 1, "b": 2}


def test_merge_without_siblings_says_how_to_fork(harness: SagaHarness[CreditState]) -> None:
    """There is nothing to merge where nothing is under way."""
    with pytest.raises(HarnessError, match=r"has no merge under way; fork it first: together"):
        harness.merge()


def test_together_of_one_says_what_to_do(harness: SagaHarness[CreditState]) -> None:
    """A fork needs two."""
    with pytest.raises(HarnessError, match=r"forks with two messages or more; give a single one with give"):
        harness.together(Nudge())


def test_together_on_a_serial_saga_loses_nothing() -> None:
    """Without a merger the second writer runs again, on what the first has stored."""
    harness = SagaHarness(SerialCheck)
    harness.give(CheckCredit("42"))
    harness.together(ScoreReported("a", 1), ScoreReported("b", 2))
    assert harness.settled
    assert harness.state.scores == {"a": 1, "b": 2}
    assert "forked" not in harness.graph()


def test_together_with_a_completion_runs_the_others_as_late(harness: SagaHarness[CreditState]) -> None:
    """Who loses against a completion runs again, and is late; who completes beside a fork completes after it."""
    assert harness.together(End(), ScoreReported("b", 1)) == [Sent(Note("late b"), to="notes")]
    other = SagaHarness(CreditCheck)
    other.give(CheckCredit("1"))
    other.together(ScoreReported("b", 1), End())
    assert other.completed
    assert other.state.scores == {"b": 1, "end": 0}


def test_together_beyond_the_sibling_limit_loses_nothing() -> None:
    """The limit makes a writer run again, which merges; every score is there in the end."""

    class Narrow(CreditCheck, key="customer", merger=CreditCheck.__saga__.merger, sibling_limit=2):
        def decide(self) -> None: ...

    harness = SagaHarness(Narrow)
    harness.give(CheckCredit("42"))
    harness.together(*(ScoreReported(bureau, 1) for bureau in "vwxyz"))
    assert set(harness.state.scores) == set("vwxyz")
    assert harness.settled


def test_together_of_starts_forks_the_first_write() -> None:
    """Two concurrent starts are siblings like any other; both make their requests."""
    harness = SagaHarness(CreditCheck)
    harness.together(CheckCredit("42"), CheckCredit("42"), merge=False)
    assert len(harness.states) == 2
    assert harness.sent == [RequestScore("42")] * 6


def test_together_whose_handler_raises_stores_nothing_of_any(harness: SagaHarness[CreditState]) -> None:
    """All run before any commits."""
    with pytest.raises(ValueError, match="as asked"):
        harness.together(ScoreReported("a", 1), Fail())
    assert harness.state.scores == {}


def test_merger_that_raises_raises_the_same_and_keeps_the_siblings(desk: SagaHarness[DeskState]) -> None:
    """Unmergeable siblings stay as they are, and the merge stays under way."""
    with pytest.raises(UnmergeableStateError, match="these two cannot be one") as caught:
        desk.together(Ring("x"), Ring("y"))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "refuse"
    assert len(desk.states) == 2
    with pytest.raises(UnmergeableStateError):
        desk.give(Ring("z"))
    with pytest.raises(UnmergeableStateError):
        desk.merge()


def test_graph_shows_forks_and_who_made_them(harness: SagaHarness[CreditState]) -> None:
    """The version graph is the one that `sagabus inspect` draws."""
    assert SagaHarness(CreditCheck).saga("42").graph() == ""
    harness.together(ScoreReported("a", 1), ScoreReported("b", 2))
    graph = harness.graph()
    assert [line.split()[0] for line in graph.splitlines()] == ["●", "├─╮", "●", "│", "├─╯", "●"]
    assert "worker 2  00:00:00.000  forked, decision dropped" in graph
    assert "merged memory:2 + memory:3" in graph


# -- time ----------------------------------------------------------------------------------------------------------


def test_timers_are_shown_with_their_times(desk: SagaHarness[DeskState]) -> None:
    """A named timer goes by its name; one without goes by its id, and its effect has no name."""
    due = START + timedelta(seconds=60)
    assert list(desk.timers.values()) == [due, due]
    assert desk.timers["named"] == due
    assert desk.effects[2:] == [Deferred(Ring("first"), due), Deferred(Ring("named"), due, "named")]


def test_advance_delivers_what_falls_due_in_order(desk: SagaHarness[DeskState]) -> None:
    """Each timer comes at its own time; what is due later stays."""
    assert desk.advance(59.9) == []
    assert desk.state.rings == []
    assert desk.advance(timedelta(seconds=0.2)) == [Replied(Answer("twice"), to="client")]
    assert desk.state.rings == ["first at 01:00", "named at 01:00"]
    assert desk.timers == {}
    assert desk.now == START + timedelta(seconds=60.1)


def test_advance_delivers_what_timers_set_meanwhile(desk: SagaHarness[DeskState]) -> None:
    """A timer that sets itself rings as often as the time allows, and goes on next time."""
    desk.give(Ring("again"))
    desk.advance(3.5)
    assert desk.state.rings == [f"again at 00:0{second}" for second in range(4)]
    assert START + timedelta(seconds=4) in desk.timers.values()


def test_advance_with_a_timer_that_never_waits_says_so(desk: SagaHarness[DeskState]) -> None:
    """A timer that sets itself at once would ring for ever."""
    desk.give(Ring("forever"))
    with pytest.raises(HarnessError, match="had 1001 timers at one moment; have a timer that sets itself wait longer"):
        desk.advance(0)


def test_advance_backwards_is_refused(desk: SagaHarness[DeskState]) -> None:
    """Time only goes on."""
    with pytest.raises(HarnessError, match="cannot go back by 1 s"):
        desk.advance(-1)


def test_advance_whose_handler_raises_stops_there_and_keeps_the_timer() -> None:
    """The error comes out as it is; the timer was not consumed, and comes again."""
    harness = SagaHarness(FrontDesk)
    harness.give(Open("1"))
    harness.give(Ring("trouble"))
    for _ in range(2):
        with pytest.raises(LookupError, match="no bell"):
            harness.advance(5)
        assert harness.now == START + timedelta(seconds=1)
        assert harness.state.rings == ["trouble at 00:00"]
        assert list(harness.timers.values()) == [harness.now]


def test_timer_that_is_replaced_or_cancelled_never_comes(harness: SagaHarness[CreditState]) -> None:
    """A second timer of a name replaces the first; `cancel` takes it away; completion takes all."""
    harness.give(Remind(10, "r"))
    harness.give(Remind(20, "r"))
    assert list(harness.timers) == ["r"]
    harness.advance(15)
    assert list(harness.timers) == ["r"]
    harness.give(Remind(0, "r"))
    assert harness.timers == {}
    harness.give(Remind(10))
    harness.give(End())
    assert harness.timers == {}
    history = harness.graph()
    harness.advance(60)
    assert harness.graph() == history


def test_timers_of_one_name_set_by_siblings_leave_the_later_one(harness: SagaHarness[CreditState]) -> None:
    """Where two branches set the same name, the one stored later counts; the other is delivered to nobody."""
    harness.together(Remind(10, "r"), Remind(20, "r"))
    assert harness.timers == {"r": START + timedelta(seconds=20)}
    history = harness.graph()
    harness.advance(15)
    assert harness.graph() == history
    harness.advance(15)
    assert harness.timers == {}


def test_harness_begins_when_the_test_says() -> None:
    """`now` is the saga's time; a time without a zone means nothing."""
    began = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    harness = SagaHarness(FrontDesk, now=began)
    harness.give(Open("1"))
    harness.give(Ring())
    assert (harness.now, harness.state.rings) == (began, [" at 08:09"])
    with pytest.raises(HarnessError, match="cannot begin at a time without a zone"):
        SagaHarness(FrontDesk, now=began.replace(tzinfo=None))


# -- several sagas -------------------------------------------------------------------------------------------------


def test_several_sagas_are_seen_one_by_one(harness: SagaHarness[CreditState]) -> None:
    """Each has its own state, effects and graph; the harness has the effects of all."""
    harness.give(CheckCredit("43"))
    harness.together(ScoreReported("a", 1), ScoreReported("b", 1), saga="43")
    assert harness.keys == ["42", "43"]
    other = harness.saga("43")
    assert (other.key, set(other.state.scores), other.settled, other.completed) == ("43", {"a", "b"}, True, False)
    assert other.sent == [RequestScore("43")] * 3 + [Note("merged")]
    assert len(harness.sent) == 7
    assert harness.saga("42").state.scores == {}
    assert repr(harness.saga("42")) == "<CreditCheck/42: live, 1 version>"


def test_several_sagas_without_a_key_say_what_to_do(harness: SagaHarness[CreditState]) -> None:
    """The harness does not guess which saga is meant."""
    harness.give(CheckCredit("43"))
    with pytest.raises(HarnessError, match=r"was started 2 times \(42, 43\); say which: saga\('42'\)"):
        _ = harness.state
    with pytest.raises(HarnessError, match=r"ScoreReported names none of them; say which: give\(..., saga=KEY\)"):
        harness.give(ScoreReported("a", 1))


def test_saga_that_was_not_started_has_no_state() -> None:
    """It can be looked at all the same: nothing is stored of it."""
    view = SagaHarness(CreditCheck).saga("42")
    assert (view.states, view.settled, view.completed, view.timers, view.effects) == ([], False, False, {}, [])
    with pytest.raises(HarnessError, match="CreditCheck/42 has not started; give CheckCredit first"):
        _ = view.state
    assert repr(SagaHarness(CreditCheck)) == "<SagaHarness of CreditCheck: nothing started>"


def test_looks_and_releases_are_nothing_by_themselves() -> None:
    """Whoever inherits them says which saga, and where to find what left."""
    looks: Any = SagaLooks(SagaHarness(CreditCheck)._desk)
    with pytest.raises(NotImplementedError):
        _ = looks.key
    with pytest.raises(NotImplementedError):
        _ = Releases().effects


def test_user_code_with_the_harness_runs() -> None:
    """What type-checks works as well."""
    user_code.check_two_scores_at_once_are_one_decision()
    user_code.check_state_and_time()
