"""The end that a person makes of a saga is model-checked: whenever it comes, beside workers that race.

Every schedule of small sagas is searched in which somebody cancels while starts, votes, timers and merges are under
way. The cancellation is one more message here, which `ended` handles in place of `advance`; a commit that is to run
again is loaded anew, as whoever cancels does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import msgspec
import pytest
from attrs import frozen

from sagabus import advance as core
from sagabus import handles, message
from sagabus.commit import Commit, Half, Lifecycle, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.ending import CANCEL, Cancellation, ended
from sagabus.envelope import Envelope, Incoming
from sagabus.saga import Saga
from sagabus.store.memory import apply_commit
from sagabus.testing.simulator import runs
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.moment import Moment
from sagabus.testing.simulator.scene import Scene
from sagabus.testing.simulator.search import Search
from sagabus.testing.simulator.verdict import Expectations
from sagabus.testing.simulator.world import Budget, Settings
from tests.changes import evolve
from tests.simulation.rules_laws import Watched
from tests.simulation.rules_saga import (
    Ballot,
    Count,
    CountState,
    Folding,
    Noted,
    Open,
    Prompt,
    Returned,
    Serial,
    Verdict,
    Vote,
    added,
    united,
)

MAX_STATES = 1_000_000


@message("rules.cancel")
class Cancel:
    """Stands for what a person asks; no handler ever sees it."""

    ballot: str


class CancelledBallot(Ballot, key="ballot", merger=united):
    @handles
    def cancelled(self, m: Cancel) -> None:
        raise AssertionError("a saga is not asked")


class CancelledFolding(Folding, key="ballot", merger=united):
    @handles
    def cancelled(self, m: Cancel) -> None:
        raise AssertionError("a saga is not asked")


class CancelledPrompt(Prompt, key="ballot", merger=united):
    @handles
    def cancelled(self, m: Cancel) -> None:
        raise AssertionError("a saga is not asked")


class CancelledSerial(Serial, key="ballot"):
    @handles
    def cancelled(self, m: Cancel) -> None:
        raise AssertionError("a saga is not asked")


class CancelledCount(Count, key="ballot", merger=added):
    @handles
    def cancelled(self, m: Cancel) -> None:
        raise AssertionError("a saga is not asked")


def advance_or_end(definition: SagaDefinition, snapshot: Snapshot, incoming: Sequence[Incoming]) -> Commit:
    """Return what a worker's run asks for, or whoever cancels."""
    if incoming[0].envelope.type != "rules.cancel":
        return core.advance(definition, snapshot, incoming)
    asked = incoming[0].envelope
    if asked.id in snapshot.consumed or snapshot.lifecycle is Lifecycle.COMPLETED:
        return Commit(key=snapshot.key, stale=tuple(incoming))
    if snapshot.lifecycle is Lifecycle.ABSENT:
        return Commit(key=snapshot.key, early=tuple(incoming))
    said = msgspec.Raw(msgspec.json.encode(Cancellation("ops@night", "it hangs")))
    return ended(definition, snapshot, msgspec.structs.replace(asked, type=CANCEL, data=said, sagalife=snapshot.life))


@frozen
class Case:
    saga: type[Saga[Any]]
    votes: int
    patient: bool
    opens: int
    workers: int
    duplicates: int

    def __str__(self) -> str:
        parts = [self.saga.__name__, f"{self.votes} votes", *(["timer"] if self.patient else [])]
        parts += [f"{self.opens} starts"] if self.opens > 1 else []
        return ", ".join([*parts, *(["duplicate"] if self.duplicates else []), f"{self.workers} workers"])

    def search(self) -> Search:
        start = tuple(Open("7", n + 1, self.votes, self.patient) for n in range(self.opens))
        inquiry = Inquiry(
            Scene.of(self.saga),
            start,
            (*(Vote(n + 1) for n in range(self.votes)), Cancel("7")),
            Settings(self.workers, 1, Budget(self.duplicates, 0, 0), serial_merges=False),
            Expectations(
                always=(self.nothing_is_done_twice,),
                finally_=(self.each_message_is_handled_once,),
                outcome=self.outcome,
                outcomes=("verdict", "cancelled"),
            ),
            Watched(apply_commit),
            examined=False,
        )
        _, search = inquiry.search(MAX_STATES)
        return search

    def names(self) -> dict[str, int]:
        if issubclass(self.saga, Count):
            return {"open": self.opens, "vote": self.votes}
        return {f"open {n + 1}": 1 for n in range(self.opens)} | {f"vote {n + 1}": 1 for n in range(self.votes)}

    def nothing_is_done_twice(self, moment: Moment) -> None:
        for name, many in self.names().items():
            assert moment.sent.count(Noted(name)) + moment.sent.count(Returned(name)) <= many, name
        assert self.verdicts(moment) <= 1

    def each_message_is_handled_once(self, moment: Moment) -> None:
        """What was stored before the end is in the tombstone, from all siblings; what came after it was late."""
        for name, many in self.names().items():
            noted, returned = moment.sent.count(Noted(name)), moment.sent.count(Returned(name))
            state = moment.state
            if isinstance(state, CountState):
                heard = state.opens if name == "open" else state.votes
            else:
                heard = state.heard.get(name, 0)
            assert heard == noted, f"{name} is in the state {heard} times, and had its effects {noted} times"
            assert noted + returned == many, f"{name} was handled {noted} times, and was late {returned} times"

    @staticmethod
    def verdicts(moment: Moment) -> int:
        return sum(isinstance(m, Verdict) for m in (*moment.decisions, *moment.sent))

    def outcome(self, moment: Moment) -> str:
        return "verdict" if self.verdicts(moment) else "cancelled"


SAGAS: tuple[type[Saga[Any]], ...] = (
    CancelledBallot,
    CancelledFolding,
    CancelledPrompt,
    CancelledSerial,
    CancelledCount,
)
CASES = [
    Case(*case)
    for case in product(SAGAS, (1, 2), (False, True), (1, 2), (2, 3), (0, 1))
    if case[1] + case[2] + 2 * (case[3] - 1) + (case[4] - 2) + case[5] <= 4
]


@pytest.fixture(autouse=True)
def somebody_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "advance", advance_or_end)
    # Whoever cancels merges too, and is to be seen with every set of siblings, not only with all that they merge to.
    monkeypatch.setattr(runs.Runs, "_merge", lambda *_: None)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cancel_whenever_it_comes_ends_the_saga_once_and_loses_nothing(case: Case) -> None:
    """One end, by verdict or by person; every message is in the last state or was late; no timer, no merge is left."""
    search = case.search()
    print(f"{case}: {search.states:,} states")
    assert search.failure is None, search.failure and search.failure.fault
    assert search.complete
    assert {ending.outcome for ending in search.endings} == {"verdict", "cancelled"}


real_end = ended


def forgetful(definition: SagaDefinition, snapshot: Snapshot, envelope: Envelope) -> Commit:
    """End a saga with the state of one sibling alone."""
    commit = real_end(definition, snapshot, envelope)
    return evolve(commit, facts=Half(snapshot.versions[0].state)) if commit.merged else commit


def hasty(definition: SagaDefinition, snapshot: Snapshot, envelope: Envelope) -> Commit:
    """Say that a saga was ended also where it was not: its siblings' end forks."""
    commit = real_end(definition, snapshot, envelope)
    return evolve(commit, must_settle=False, completes=False) if commit.merged else commit


@pytest.mark.parametrize("mutant", [forgetful, hasty])
def test_cancel_that_is_broken_is_caught(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check has teeth: an end that forgets a sibling, or that does not end, is found."""
    monkeypatch.setitem(globals(), "ended", mutant)
    search = Case(CancelledBallot, 2, False, 1, 2, 0).search()
    assert search.failure is not None
