"""Cancelling a saga, having one merged now, and the trail of who did: on either store, through a bus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagabus import Bus
from sagabus.commit import Commit, Lifecycle, Outcome, Result
from sagabus.ending import CANCEL, Cancellation, read_cancellation
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError, NothingToMergeError, SagaNotFoundError, UnmergeableStateError
from sagabus.index.part import index_of
from sagabus.index.query import SagaQuery
from sagabus.observe.graph import draw
from sagabus.observe.record import record
from sagabus.observe.rerun import rerun
from sagabus.operations import audit
from sagabus.operations.cancel import BusySagaError, SagaEndedError, UnmergedSiblingsError, cancel
from sagabus.operations.merge import MergerRefusesError, foresee, request_merge
from sagabus.outgoing import merge_id
from sagabus.store.protocol import Bookkeeping, Scheduled, Store
from tests.changes import evolve
from tests.sagas_for_tests import (
    CreditCheck,
    CreditState,
    End,
    Hand,
    Note,
    Remind,
    Tally,
    all_scores,
    incoming,
    score,
)

KEY = SagaKey("CreditCheck", "42")


class Refusing:
    """A merger that is broken until it is mended."""

    mended = False

    def __call__(self, siblings: Sequence[CreditState], /) -> CreditState:
        if not self.mended:
            raise UnmergeableStateError("who is right?")
        return all_scores(siblings)


REFUSING = Refusing()


class Stubborn(CreditCheck, key="customer", merger=REFUSING):
    pass


@pytest.fixture
def bus(either_store: Store) -> Iterator[Bus]:
    """Yield a bus on either store, on which nobody works."""
    REFUSING.mended = False
    with Bus(store=either_store, transport="memory:") as bus:
        bus.endpoint("credit", CreditCheck, Stubborn, Tally)
        yield bus


def hand(bus: Bus, name: str = "CreditCheck") -> Hand:
    """Return a hand on a saga that has started, and whose messages have left."""
    definition = bus.saga(name)
    assert definition is not None
    hand = Hand(bus.store, definition)
    hand.start()
    hand.dispatch("start")
    return hand


def forked(bus: Bus, name: str = "CreditCheck") -> Hand:
    """Return a hand on a saga with two siblings."""
    driver = hand(bus, name)
    driver.fork(score("a", 1), score("b", 2))
    return driver


def trail(bus: Bus) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [(line.what, line.by, line.saga, dict(line.details)) for line in audit.trail(bus)]


# -- cancel ------------------------------------------------------------------------------------------------------


def test_cancel_ends_a_saga_with_a_tombstone_that_says_who_and_why(bus: Bus) -> None:
    """Its state stays, its life is over, and its history has the cancellation."""
    driver = hand(bus)
    driver.handle(score("a", 1))
    done = cancel(bus, KEY, why="it hangs", by="ops@night")
    after = driver.load()
    assert (after.lifecycle, len(after.versions)) == (Lifecycle.COMPLETED, 1)
    assert done.state["scores"] == {"a": 1}
    entry = bus.store.history(KEY)[-1]
    (said,) = entry.messages
    assert (entry.by, entry.completed, entry.outcome) == ("ops@night", True, Outcome.STORED)
    assert (said.type, said.id, read_cancellation(said)) == (CANCEL, done.id, Cancellation("ops@night", "it hangs"))
    assert "CancelSaga" in draw(bus.store.history(KEY)).splitlines()[-1]


def test_cancel_releases_nothing_and_what_still_comes_is_late(bus: Bus) -> None:
    """No decision and no answer; a reply is answered by on_late, as after any end."""
    driver = hand(bus)
    done = cancel(bus, KEY, why="it hangs")
    assert driver.sent(done.id) == []
    _, result = driver.handle(score("c", 3))
    assert result.outcome is Outcome.LATE
    assert driver.bodies("c") == [Note("late c")]


def test_cancel_ends_timers(bus: Bus) -> None:
    """In the record, and what is scheduled for them."""
    driver = hand(bus)
    commit, _ = driver.handle(incoming(Remind(600.0, "nudge"), "r", saga=str(KEY)))
    (timer,) = commit.facts.outgoing["r"]
    bus.store.note(Bookkeeping((Scheduled(timer.id, "credit", timer.body, timer.due_ms),), dispatched={KEY: ("r",)}))
    assert cancel(bus, KEY, why="x").timers == ("nudge",)
    assert driver.load().timers == {}
    assert bus.store.waiting.get(timer.id) is None


def test_cancel_of_siblings_merges_them_first(bus: Bus) -> None:
    """What any of them knew is in the last state; nobody has to merge it any more."""
    driver = forked(bus)
    done = cancel(bus, KEY, why="x")
    after = driver.load()
    assert len(done.merged) == 2
    assert done.state["scores"] == {"a": 1, "b": 2}
    assert (len(after.versions), after.pending_merge) == (1, "")
    entry = bus.store.history(KEY)[-1]
    assert [str(dot) for dot in entry.parents] == list(done.merged)
    assert done.state["merges"] == 0  # its code was not asked


def test_cancel_of_siblings_that_the_merger_refuses_asks_which_to_keep(bus: Bus) -> None:
    """Nothing is written until one is named; then its state stays."""
    driver = forked(bus, "Stubborn")
    before = driver.load()
    with pytest.raises(UnmergedSiblingsError, match="who is right") as refused:
        cancel(bus, driver.key, why="x")
    assert refused.value.versions == tuple(str(version.dot) for version in before.versions)
    assert evolve(driver.load(), now_ms=0) == evolve(before, now_ms=0)
    with pytest.raises(UnmergedSiblingsError, match="is none of its live versions"):
        cancel(bus, driver.key, why="x", keep="nobody:1")
    done = cancel(bus, driver.key, why="x", keep=refused.value.versions[1])
    assert (done.kept, done.state["scores"]) == (refused.value.versions[1], {"b": 2})
    assert driver.load().lifecycle is Lifecycle.COMPLETED
    assert read_cancellation(bus.store.history(driver.key)[-1].messages[0]).keep == done.kept


def test_cancel_twice_under_one_id_is_done_once(bus: Bus) -> None:
    """Who asks again after a crash gets the same; under another id there is nothing left to end."""
    hand(bus)
    first = cancel(bus, KEY, why="x", id="one")
    again = cancel(bus, KEY, why="x", id="one")
    assert (again.id, again.state) == (first.id, first.state)
    assert len([entry for entry in bus.store.history(KEY) if entry.completed]) == 1
    assert len(trail(bus)) == 1
    with pytest.raises(SagaEndedError, match="has completed already"):
        cancel(bus, KEY, why="x")


def test_cancel_of_what_is_not_there_is_refused(bus: Bus) -> None:
    """And leaves no trace."""
    with pytest.raises(SagaNotFoundError):
        cancel(bus, KEY, why="x")
    assert trail(bus) == []


def test_cancel_for_a_reason_without_end_is_refused(bus: Bus) -> None:
    """History and trail keep it, so it has a bound."""
    hand(bus)
    with pytest.raises(ConfigurationError, match="1001 characters"):
        cancel(bus, KEY, why="x" * 1001)
    assert cancel(bus, KEY, why="é" * 1000).id


class Undecided(CreditCheck, key="customer", merger=all_scores):
    def decide(self) -> None: ...


class Rival:
    """A store to which somebody else writes right before each commit of the one who cancels, some times."""

    def __init__(self, driver: Hand, times: int) -> None:
        self._driver, self._left = driver, times
        self.by: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver.store, name)

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        if self._left:
            self._left -= 1
            self._driver.handle(score(f"rival-{self._left}", self._left))
        return self._driver.store.commit(commits, by=by)


@pytest.mark.parametrize(("times", "through"), [(3, True), (1000, False)])
def test_cancel_beside_somebody_who_writes_is_tried_again(bus: Bus, times: int, through: bool) -> None:
    """It never ends a saga with a version in it that nobody has looked at; and it does not try for ever."""
    driver = hand(bus)
    definition = evolve(driver.definition, cls=Undecided)
    rival = Rival(Hand(bus.store, definition), times)
    bus._footing._store = rival  # type: ignore[assignment, attr-defined]
    if through:
        assert set(cancel(bus, KEY, why="x").state["scores"]) == {"rival-0", "rival-1", "rival-2"}
    else:
        with pytest.raises(BusySagaError):
            cancel(bus, KEY, why="x")
        assert driver.load().lifecycle is Lifecycle.LIVE


def test_cancel_lets_a_restartable_saga_begin_a_new_life(bus: Bus) -> None:
    """As completion does."""
    definition = bus.saga("Tally")
    assert definition is not None
    driver = Hand(bus.store, definition)
    driver.handle(incoming(Note("one"), "1", saga=str(driver.key)))
    cancel(bus, driver.key, why="x")
    driver.handle(incoming(Note("two"), "2", saga=str(driver.key)))
    assert (driver.load().life, driver.states()[0].notes) == (2, ["two"])


def test_cancelled_saga_is_replayed_as_the_same(bus: Bus) -> None:
    """With siblings merged, and with one kept: history says all that it takes."""
    driver = forked(bus)
    cancel(bus, KEY, why="x")
    assert rerun(driver.definition, record(bus.store, KEY, "")).verdict == "same"
    stubborn = forked(bus, "Stubborn")
    cancel(bus, stubborn.key, why="x", keep=str(stubborn.load().versions[0].dot))
    comparison = rerun(stubborn.definition, record(bus.store, stubborn.key, ""))
    assert (comparison.verdict, comparison.end) == ("same", ())


def test_cancel_is_on_the_trail(bus: Bus) -> None:
    """Who, what, and why."""
    forked(bus)
    done = cancel(bus, KEY, why="it hangs", by="ops@night")
    assert trail(bus) == [
        ("cancel", "ops@night", str(KEY), {"why": "it hangs", "life": 1, "merged": list(done.merged)})
    ]


# -- merge -------------------------------------------------------------------------------------------------------


def test_merge_sends_the_pending_message_under_its_own_id(bus: Bus) -> None:
    """So whichever copy comes second is a duplicate, and there is never a second merge pending."""
    driver = forked(bus)
    pending = driver.load().pending_merge
    asked = request_merge(bus, KEY, by="ops@night")
    assert (asked.id, asked.endpoint) == (pending, "credit") == (merge_id(KEY, 1, "b"), "credit")
    assert [queue.depth for queue in bus.transport.queues()] == [1]
    assert trail(bus) == [("merge", "ops@night", str(KEY), {"siblings": list(asked.siblings)})]


def test_merge_is_done_by_a_worker_once_the_merger_is_mended(bus: Bus) -> None:
    """The first copy is parked; the second merges at once, and the first then does nothing."""
    driver = forked(bus, "Stubborn")
    with pytest.raises(MergerRefusesError, match="who is right"):
        request_merge(bus, driver.key)
    REFUSING.mended = True
    request_merge(bus, driver.key)
    request_merge(bus, driver.key)
    bus.worker().run_until_idle()
    assert driver.states()[0].scores == {"a": 1, "b": 2}
    assert [len(entry.parents) for entry in bus.store.history(driver.key)].count(2) == 1


def test_merge_of_what_has_no_siblings_is_refused(bus: Bus) -> None:
    """Nothing is sent; the error says what is there instead."""
    with pytest.raises(SagaNotFoundError):
        request_merge(bus, KEY)
    driver = hand(bus)
    with pytest.raises(NothingToMergeError, match="one version"):
        request_merge(bus, KEY)
    driver.handle(incoming(End(), "end", saga=str(KEY)))
    with pytest.raises(NothingToMergeError, match="completed"):
        foresee(bus, KEY)
    assert trail(bus) == []


def test_merge_where_the_history_is_trimmed_still_has_the_pending_id(bus: Bus) -> None:
    """Only what caused it is not known any more."""
    definition = bus.saga("CreditCheck")
    assert definition is not None
    short = evolve(definition, limits=evolve(definition.limits, history=1))
    driver = Hand(bus.store, short)
    driver.start()
    driver.fork(score("a"), score("b"))
    snapshot = driver.load()
    first = evolve(snapshot, versions=snapshot.versions[:1], clock=snapshot.versions[0].context)
    assert driver.put(driver.run(first, score("x"))).outcome is Outcome.FORKED
    assert not any(message.id == "b" for entry in bus.store.history(KEY) for message in entry.messages)
    asked = request_merge(bus, KEY)
    assert asked.id == driver.load().pending_merge


# -- the trail, and who has forked -------------------------------------------------------------------------------


def test_trail_is_filtered(bus: Bus) -> None:
    """By what, who, saga, endpoint, message and time; no longer than asked."""
    for number, (what, by, saga) in enumerate(
        [("pause", "ann@x", ""), ("cancel", "bob@y", "A/1"), ("merge", "ann@y", "B/1")]
    ):
        audit.note(bus, what, by=by, saga=saga, endpoint=f"e{number}", id=f"id{number}")
    assert sorted(line.what for line in audit.trail(bus)) == ["cancel", "merge", "pause"]
    assert sorted(line.what for line in audit.trail(bus, by="ann")) == ["merge", "pause"]
    assert [line.what for line in audit.trail(bus, by="ann@x")] == ["pause"]
    assert [line.what for line in audit.trail(bus, saga="A")] == ["cancel"]
    assert [line.what for line in audit.trail(bus, saga="A/1", endpoint="e1", id="id")] == ["cancel"]
    assert audit.trail(bus, limit=1) == audit.trail(bus)[:1]
    now = datetime.now(UTC)
    assert audit.trail(bus, since=now + timedelta(hours=1)) == audit.trail(bus, until=now - timedelta(hours=1)) == []


def test_trail_does_not_note_one_action_twice(bus: Bus) -> None:
    """A key tells it from all others."""
    for _ in range(2):
        audit.note(bus, "pause", by="ann", endpoint="e", key="pause/e/7")
    assert len(audit.trail(bus)) == 1


def test_index_knows_what_a_person_has_ended(bus: Bus) -> None:
    """A cancelled saga is found as completed, and no more among those that have siblings."""
    forked(bus)
    index = index_of(bus.store)
    assert [row.key for row in index.find(SagaQuery(forked=True)).rows] == [KEY]
    cancel(bus, KEY, why="x")
    assert index.find(SagaQuery(forked=True)).rows == ()
    assert [row.key for row in index.find(SagaQuery(lifecycle=Lifecycle.COMPLETED)).rows] == [KEY]
