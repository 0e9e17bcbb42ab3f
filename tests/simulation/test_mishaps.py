"""`explore`: what happens to messages on their way, and what only more workers, batches or failovers show."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from unittest.mock import ANY

import pytest
from attrs import define, field

from mergers import fieldwise, highest
from sagabus import MergeSagaState, Saga, handles, message, starts
from sagabus.commit import Commit, Result
from sagabus.envelope import SagaKey
from sagabus.store.memory import Record, apply_commit
from sagabus.testing import Moment, explore
from sagabus.testing.exploration import inquiry_of
from sagabus.testing.simulator.schedule import Commits, Loads, RollsBack, token_of
from tests.changes import evolve
from tests.simulation.small_sagas import Add, Begin, Collect, Echo, Exact, Heard, Note, Words, words_of

START = [Begin()]
TWO = [Add("a"), Add("b")]
ENDS = {"outcome": lambda moment: moment.completed}


@define
class Count:
    count: int = 0


class Counts(Saga[Count], key="order"):
    """Counts what it is sent, without a merger, and never ends."""

    @starts
    def begun(self, m: Begin) -> None:
        self.state.count = 0

    @handles
    def added(self, m: Add) -> None:
        self.state.count += 1


@message("mishaps.remind")
class Remind:
    name: str = ""


@define
class Times:
    reminded: Annotated[int, highest] = 0
    words: Annotated[int, highest] = 0


class Reminds(Saga[Times], key="order", merger=fieldwise(Times)):
    """Sets a timer with a name; a word cancels it, a note sets it anew, and the end comes after the timer or a word."""

    @starts
    def begun(self, m: Begin) -> None:
        self.defer(Remind("soon"), after=timedelta(hours=1), name="soon")

    @handles
    def reminded(self, m: Remind) -> None:
        self.state.reminded = 1

    @handles
    def added(self, m: Add) -> None:
        self.cancel("soon")
        self.state.words = 1

    @handles
    def noted(self, m: Note) -> None:
        self.defer(Remind("later"), after=timedelta(hours=2), name="soon")

    def decide(self) -> None:
        if self.state.reminded or self.state.words:
            self.complete()


class Announces(Collect, key="order", merger=fieldwise(Words)):
    """Says when it was told of a merge."""

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.send(Heard("merge"), to="listeners")


class Reopens(Saga[Count], key="order", restartable=True):
    """Every start is a whole life."""

    @starts
    def begun(self, m: Begin) -> None:
        self.state.count += 1
        self.send(Heard(f"life with {self.state.count}"), to="listeners")
        self.complete()


class Regrets(Collect, key="order", merger=fieldwise(Words)):
    """Sends back what comes too late."""

    def on_late(self, message: Any) -> None:
        if isinstance(message, Add):
            self.send(Heard(message.word), to="returns")


# -- duplicates and resends --------------------------------------------------------------------------------------


def test_explore_duplicate_has_the_same_id_and_changes_nothing_twice() -> None:
    """A second delivery is recognised by its id: a saga that counts, counts right."""
    result = explore(
        Counts,
        start=START,
        messages=TWO,
        duplicates=1,
        must_end=False,
        finally_=[lambda moment: moment.state.count <= 2],
    ).assert_ok()
    plain = explore(Counts, start=START, messages=TWO, must_end=False).assert_ok()
    assert result.complete
    assert result.schedules > plain.schedules


def test_explore_resend_has_another_id_and_is_counted_twice() -> None:
    """The same body under a new id is another message: only state that knows what it has seen is safe."""

    def counts_right(moment: Moment) -> bool:
        return moment.state.count <= 2

    failure = explore(Counts, start=START, messages=TWO, resends=1, must_end=False, finally_=[counts_right]).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert any("its sender sends it again under a new id" in line for line in failure.trace)
    assert any(step.resent for step in failure.events if hasattr(step, "resent"))
    explore(Collect, start=START, messages=TWO, resends=1).assert_ok()


def test_explore_of_a_batch_says_which_of_the_two_comes_again() -> None:
    """In the trace the message is named where two were loaded."""
    for mishap, said in (
        ({"resends": 1}, "its sender sends Add(word='b') again under a new id"),
        ({"duplicates": 1}, "Add(word='b') is delivered once more later"),
    ):
        result = explore(Collect, start=START, messages=TWO, batch=2, workers=1, **mishap).assert_ok()
        assert result.complete
        key = SagaKey("Collect", "1")
        place = {"kept" if "duplicates" in mishap else "resent": 2}
        steps = [Loads(key, ("m1",)), Commits(key, ("m1",)), Loads(key, ("m2", "m3"), **place)]
        played = explore(
            Collect, start=START, messages=TWO, batch=2, workers=1, **mishap, replay=token_of(steps)
        ).assert_ok()
        assert any(said in line for line in played.trace), played.trace


# -- failovers -----------------------------------------------------------------------------------------------------


def test_explore_failover_loses_a_commit_and_its_message_comes_again() -> None:
    """What was lost is handled again: the state is whole in the end, and what had left may leave twice."""
    result = explore(
        Echo,
        start=[Begin(want=9)],
        messages=[Add("a")],
        rollbacks=1,
        must_end=False,
        finally_=[lambda moment: moment.state.words == {"a"}],
        outcome=lambda moment: len(moment.sent),
        outcomes=[1, 2],
    ).assert_ok()
    assert result.complete
    assert sorted(result.outcomes) == [1, 2]
    again = explore(
        Echo,
        start=[Begin(want=9)],
        messages=[Add("a")],
        rollbacks=1,
        must_end=False,
        outcome=lambda moment: len(moment.sent),
        outcomes=[1, 2],
        replay=result.outcomes[2].example,
    ).assert_ok()
    (lost,) = (line for line in again.trace if "fails over" in line)
    assert lost == "the store fails over and loses the last commit of Echo/1; Add(word='a') comes again"


def test_explore_failover_while_a_worker_holds_the_saga_refuses_what_it_has() -> None:
    """A commit that has seen what was lost is refused, and its message handled again."""
    key = SagaKey("Collect", "1")
    steps = [
        Loads(key, ("m1",)),
        Commits(key, ("m1",)),
        Loads(key, ("m2",)),
        RollsBack(key),
        Commits(key, ("m2",)),
    ]
    played = explore(Collect, start=START, messages=TWO, rollbacks=1, replay=token_of(steps)).assert_ok()
    refused = "A commits: refused (it has seen what the failover lost), so its messages are handled again"
    assert played.trace[4] == refused
    assert len(played.trace) > len(steps)


def test_explore_of_a_completed_saga_that_is_rolled_back_ends_again() -> None:
    """A failover may take back a completion; the saga completes once more, and its decision leaves twice."""
    result = explore(
        Collect, start=START, messages=TWO, rollbacks=1, outcomes=[words_of("a", "b"), words_of("a", "b") * 2]
    ).assert_ok()
    assert len(result.outcomes) == 2


# -- batches and workers -------------------------------------------------------------------------------------------


def test_explore_saga_that_looks_after_every_message_is_broken_by_a_batch_alone() -> None:
    """`decide()` runs once a load: what one worker with single messages never shows, a load of two does."""
    start = [Begin(want=1)]
    one = {"workers": 1, **ENDS}
    explore(Exact, start=start, messages=TWO, batch=1, **one).assert_ok()
    failure = explore(Exact, start=start, messages=TWO, batch=2, **one).failure
    assert failure is not None
    assert failure.kind == "stuck"
    assert any("for Add(word='a') and Add(word='b')" in line for line in failure.trace)


def test_explore_three_siblings_need_three_workers() -> None:
    """Two workers leave two siblings at most; only a third shows what three do."""

    def two_at_most(moment: Moment) -> bool:
        return len(moment.states) <= 2

    asked: dict[str, Any] = {
        "start": [Begin(want=3)],
        "messages": [*TWO, Add("c")],
        "always": [two_at_most],
    }
    assert explore(Collect, **asked, workers=2).assert_ok().complete
    failure = explore(Collect, **asked, workers=3).failure
    assert failure is not None
    assert failure.kind == "invariant"
    assert any("beside 2 other" in line for line in failure.trace)


def test_explore_saga_without_a_merger_never_forks() -> None:
    """A serial saga is run again where somebody else was faster."""
    result = explore(
        Counts,
        start=START,
        messages=TWO,
        must_end=False,
        always=[lambda moment: len(moment.states) < 2],
        finally_=[lambda moment: moment.state.count == 2],
        outcome=lambda moment: moment.state.count,
    ).assert_ok()
    assert result.complete
    failure = explore(
        Counts, start=START, messages=TWO, must_end=False, finally_=[lambda moment: False], mode="random", runs=50
    ).failure
    assert failure is not None


def test_explore_tells_a_refused_commit() -> None:
    """The trace of a serial saga says who was faster."""
    key = SagaKey("Counts", "1")
    steps = [
        Loads(key, ("m1",)),
        Commits(key, ("m1",)),
        Loads(key, ("m2",)),
        Loads(key, ("m3",)),
        Commits(key, ("m3",)),
        Commits(key, ("m2",)),
    ]
    played = explore(Counts, start=START, messages=TWO, must_end=False, replay=token_of(steps)).assert_ok()
    said = "refused (it has to settle the saga, and somebody else was faster), so its messages are handled again"
    assert played.trace[5] == f"A commits: {said}"
    assert len(played.trace) == 8


# -- timers --------------------------------------------------------------------------------------------------------


def test_explore_timer_may_fire_at_any_time_from_when_it_is_set() -> None:
    """Before a word, after it, and not at all once it is cancelled or replaced."""

    def how(moment: Moment) -> tuple[int, int]:
        return moment.state.reminded, moment.state.words

    result = explore(
        Reminds, start=START, messages=[Add("a")], outcome=how, outcomes=[(1, 0), (0, 1), (1, 1)]
    ).assert_ok()
    assert result.complete
    assert (0, 1) in result.outcomes
    assert (1, 0) in result.outcomes
    replaced = explore(Reminds, start=START, messages=[Note("1", "x")], outcome=how, outcomes=[(1, 0)]).assert_ok()
    assert replaced.complete
    silent = explore(Reminds, start=START, messages=[Add("a")], timeouts=False, outcome=how, outcomes=[(0, 1)])
    assert silent.assert_ok().complete


@pytest.mark.parametrize("mishap", [{"duplicates": 1}, {"resends": 1}, {"rollbacks": 1}, {"batch": 2}])
def test_explore_timers_meet_every_mishap(mishap: dict[str, int]) -> None:
    """A timer is a message like any other; only its sender, the saga itself, never sends it again."""
    result = explore(Reminds, start=START, messages=[Add("a"), Note("1", "x")], **mishap, **ENDS).assert_ok()
    assert result.complete


# -- early, late, told, restarted -----------------------------------------------------------------------------------


def test_explore_early_message_waits_for_its_saga() -> None:
    """All messages are there from the beginning, the start among them; none is lost, and none handled before it."""
    result = explore(
        Collect, start=START, messages=TWO, always=[lambda moment: moment.started or not moment.keys[1:]]
    ).assert_ok()
    assert result.complete


def test_explore_late_message_is_what_the_saga_makes_of_it() -> None:
    """`on_late` may send; without it a late message is dropped in silence."""
    three = [*TWO, Add("c")]
    result = explore(
        Regrets,
        start=START,
        messages=three,
        outcome=lambda moment: len(moment.state.words) + len(moment.sent),
    ).assert_ok()
    assert result.complete
    assert list(result.outcomes) == [3]
    shown = explore(
        Regrets, start=START, messages=three, finally_=[lambda moment: not moment.sent], mode="exhaustive", **ENDS
    ).failure
    assert shown is not None
    assert any("late: the saga has completed, and stays as it is; sends Heard" in line for line in shown.trace)
    explore(Collect, start=START, messages=three, finally_=[lambda moment: not moment.sent], **ENDS).assert_ok()


def test_explore_saga_that_handles_merges_is_told_of_each() -> None:
    """What the handler of MergeSagaState sends leaves once a fork, and not without one."""
    result = explore(
        Announces, start=START, messages=TWO, outcome=lambda moment: len(moment.sent), outcomes=[0, 1]
    ).assert_ok()
    assert sorted(result.outcomes) == [0, 1]
    assert result.outcomes[0].schedules == 2


def test_explore_restartable_saga_has_a_life_for_every_start() -> None:
    """A start after the end begins anew, with a fresh state."""
    result = explore(
        Reopens,
        start=[Begin(), Begin(want=3)],
        outcome=lambda moment: moment.sent,
        outcomes=[(Heard("life with 1"), Heard("life with 1"))],
    ).assert_ok()
    assert result.complete
    again = explore(
        Reopens,
        start=[Begin()],
        resends=1,
        outcome=lambda moment: len(moment.sent),
        outcomes=[1, 2],
    ).assert_ok()
    assert sorted(again.outcomes) == [1, 2]


# -- a store that breaks its promises --------------------------------------------------------------------------------


def completes_again(record: Record | None, commit: Commit, **more: Any) -> tuple[Result, Record | None]:
    """Take a completed saga for a live one."""
    return apply_commit(evolve(record, completed=False) if record is not None else None, commit, **more)


def completes_unsettled(record: Record | None, commit: Commit, **more: Any) -> tuple[Result, Record | None]:
    """Complete a saga that has just forked."""
    result, after = apply_commit(record, commit, **more)
    forked = after is not None and len(after.versions.live) > 1
    return result, evolve(after, completed=True) if forked else after


def posts_no_merge(record: Record | None, commit: Commit, **more: Any) -> tuple[Result, Record | None]:
    """Leave siblings alone."""
    result, after = apply_commit(record, commit, **more)
    return evolve(result, posted_merge=False), after if after is None else evolve(after, pending_merge="")


class Two(Collect, key="order", merger=fieldwise(Words), sibling_limit=2):
    """Has two siblings at most."""


def forgets_the_limit(record: Record | None, commit: Commit, **more: Any) -> tuple[Result, Record | None]:
    """Let siblings be as many as there are."""
    return apply_commit(record, evolve(commit, limits=evolve(commit.limits, siblings=25)), **more)


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        (completes_again, "completed-twice"),
        (completes_unsettled, "unsettled"),
        (posts_no_merge, "unsettled"),
        (forgets_the_limit, "siblings"),
    ],
)
def test_explore_finds_what_a_store_may_not_do(rules: Any, kind: str) -> None:
    """The promises of the runtime itself are checked in every schedule."""
    asked = inquiry_of(Two, start=[Begin()], messages=[*TWO, Add("c")], workers=3, outcomes=[ANY])
    _, sound = asked.search(10_000)
    assert sound.failure is None
    _, search = evolve(asked, rules=rules).search(10_000)
    assert search.failure is not None
    assert search.failure.fault is not None
    assert search.failure.fault.kind == kind


def test_explore_tells_a_message_of_a_saga_that_was_sent_again() -> None:
    """Also what one saga sends another may come twice under two ids; the trace names it both times."""

    class Sends(Saga[Count], key="order"):
        @starts
        def begun(self, m: Begin) -> None:
            self.send(Note(m.order, "a"), to="Takes")
            self.complete()

    class Takes(Saga[Count], key="order"):
        @starts
        def taken(self, m: Note) -> None:
            self.state.count += 1

    failure = explore(
        [Sends, Takes],
        start=START,
        resends=1,
        must_end=False,
        finally_=[lambda moment: not moment.saga(Takes).started or moment.saga(Takes).state.count < 2],
    ).failure
    assert failure is not None
    assert failure.kind == "finally"
    assert sum("loads Takes/1" in line for line in failure.trace) == 2


@message("mishaps.knock")
class Knock:
    order: str
    who: str


@message("mishaps.ring")
class Ring:
    who: str
    nth: int


@define
class Rung:
    knocks: int = 0
    rings: list[str] = field(factory=list)


class Rings(Saga[Rung], key="order"):
    """Rings for each who knocks, and says as the how-manieth they came."""

    @starts
    def begun(self, m: Begin) -> None:
        """Nobody yet."""

    @handles
    def knocked(self, m: Knock) -> None:
        self.state.knocks += 1
        self.defer(Ring(m.who, self.state.knocks), after=timedelta(seconds=1), name=m.who)

    @handles
    def rung(self, m: Ring) -> None:
        self.state.rings.append(f"{m.who}{m.nth}")


@pytest.mark.parametrize("mishaps", [{}, {"duplicates": 1}], ids=["plain", "exact-ids"])
def test_timers_whose_body_depends_on_the_order_all_fire(mishaps: dict[str, Any]) -> None:
    """The id of a timer is that of its cause, whichever body it has: each of them comes."""
    seen: set[tuple[str, ...]] = set()

    def both_have_rung(moment: Moment) -> bool:
        seen.add(tuple(sorted(moment.state.rings)))
        return len(moment.state.rings) == 2

    result = explore(
        Rings,
        start=[Begin()],
        messages=[Knock("1", "ann"), Knock("1", "bob")],
        must_end=False,
        finally_=[both_have_rung],
        # As no outcome is named, one message after the other is played first, and names one body of each.
        outcome=lambda moment: "rung",
        **mishaps,
    ).assert_ok()
    assert result.complete
    assert seen == {("ann1", "bob2"), ("ann2", "bob1")}
