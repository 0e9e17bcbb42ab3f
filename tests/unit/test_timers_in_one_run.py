"""Timers that meet, in one run, the message that cancels or replaces them."""

from __future__ import annotations

import pytest
from attrs import define, field

from sagabus.advance import advance
from sagabus.commit import Lifecycle, Snapshot, StoredVersion
from sagabus.envelope import Incoming, SagaKey
from sagabus.messages import MergeSagaState, message
from sagabus.saga import Saga, handles, starts
from sagabus.versions import Dot
from tests.changes import evolve
from tests.sagas_for_tests import NOW_MS, bound, incoming, merge_message


@message("one-run.begin")
class Begin:
    key: str


@message("one-run.ring")
class Ring:
    which: str = ""


@message("one-run.change")
class Change:
    how: str = ""


@define
class Rung:
    rung: list[str] = field(factory=list)


def longest(siblings: list[Rung]) -> Rung:
    return max(siblings, key=lambda sibling: sibling.rung)


class Clock(Saga[Rung], key="key", merger=longest):
    @starts
    def begun(self, m: Begin) -> None: ...

    @handles
    def ring(self, m: Ring) -> None:
        self.state.rung.append(m.which)

    @handles
    def changed(self, m: Change) -> None:
        self.cancel("bell") if m.how == "cancel" else self.defer(Ring("new"), after=60.0, name="bell")

    @handles
    def merged(self, m: MergeSagaState) -> None:
        self.cancel("bell")


KEY = SagaKey("Clock", "42")
CLOCK = bound(Clock)
BELL = incoming(Ring("old"), "bell-1", saga=str(KEY), sagalife=1, timer="bell")


def live(*states: Rung) -> Snapshot:
    """Return a live saga with the timer *BELL* set."""
    versions = tuple(StoredVersion(Dot("a", n + 1), {}, CLOCK.codec.encode(state)) for n, state in enumerate(states))
    return Snapshot(KEY, NOW_MS, Lifecycle.LIVE, 1, {"a": len(states)}, versions, timers={"bell": "bell-1"})


def rung(snapshot: Snapshot, batch: list[Incoming]) -> tuple[tuple[str, ...], list[str]]:
    """Return which ids a run of *batch* consumes, and what had rung when it ended."""
    commit = advance(CLOCK, snapshot, batch)
    assert commit.facts.state is not None
    return commit.ids, CLOCK.codec.decode(commit.facts.state).rung


@pytest.mark.parametrize("how", ["cancel", "replace"])
def test_timer_behind_the_message_that_calls_it_off_is_consumed_unhandled(how: str) -> None:
    """One run or two: what is cancelled or replaced does not ring any more, however messages come in batches."""
    change = incoming(Change(how), "change", saga=str(KEY))
    assert rung(live(Rung()), [change, BELL]) == (("change", "bell-1"), [])
    one_by_one = evolve(live(Rung()), timers={} if how == "cancel" else {"bell": "bell-2"})
    assert advance(CLOCK, one_by_one, [BELL]).stale == (BELL,)


@pytest.mark.parametrize("how", ["cancel", "replace"])
def test_timer_before_the_message_that_calls_it_off_has_rung(how: str) -> None:
    """It was set when its turn came."""
    change = incoming(Change(how), "change", saga=str(KEY))
    assert rung(live(Rung()), [BELL, change]) == (("bell-1", "change"), ["old"])


def test_timer_with_another_name_is_not_called_off() -> None:
    """What is cancelled is cancelled by name."""
    change = incoming(Change("cancel"), "change", saga=str(KEY))
    other = incoming(Ring("other"), "other-1", saga=str(KEY), sagalife=1, timer="other")
    snapshot = evolve(live(Rung()), timers={"bell": "bell-1", "other": "other-1"})
    assert rung(snapshot, [change, BELL, other]) == (("change", "bell-1", "other-1"), ["other"])


def test_timer_that_the_merge_calls_off_does_not_ring_in_its_run() -> None:
    """The handler of MergeSagaState comes first where a saga has siblings, and what it cancels is cancelled."""
    siblings = live(Rung(["a"]), Rung(["b"]))
    assert rung(siblings, [BELL]) == (("bell-1",), ["b"])
    merge = merge_message(siblings, "x")
    assert rung(evolve(siblings, pending_merge=merge.id), [merge, BELL]) == ((merge.id, "bell-1"), ["b"])
