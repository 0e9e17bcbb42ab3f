"""Configurations of the model check of the commit rules: a saga, what may happen to it, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from attrs import field, frozen

from sagabus.saga import Saga
from sagabus.store.memory import apply_commit
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.moment import Moment
from sagabus.testing.simulator.sagas import Rules
from sagabus.testing.simulator.scene import Scene
from sagabus.testing.simulator.search import Search
from sagabus.testing.simulator.verdict import Expectations
from sagabus.testing.simulator.world import Budget, Settings
from tests.simulation.rules_saga import (
    Count,
    Noted,
    Nudge,
    Open,
    Quiet,
    Restarting,
    Returned,
    Underway,
    Verdict,
    Vote,
    name_of,
)

_MAX_STATES = 4_000_000


@frozen
class Case:
    """One configuration.

    A crash after a commit is a duplicate: the message comes again, and what it left is in its record. A crash before a
    commit puts the message back into its queue, which is the world before the load: there is nothing to explore.

    Attributes:
        saga: the class.
        votes: how many replies are on their way.
        duplicates: how many deliveries happen once more.
        patient: whether the first start sets a timer.
        opens: how many starts there are.
        batch: the most messages that one load takes.
        workers: how many may hold the saga at once.
        rollbacks: how many failovers lose the last commit.
        needs: how many votes make a verdict; 0 for two of three, or all of fewer.
        nudges: how many messages come that change nothing.
        forks: whether the saga may have siblings at all.
        serial: whether merges are compared with serial orders too; counts and notes say as much for a ballot.
    """

    saga: type[Saga[Any]] = Quiet
    votes: int = 2
    duplicates: int = 0
    patient: bool = False
    opens: int = 1
    batch: int = 1
    workers: int = 2
    rollbacks: int = 0
    needs: int = field(default=0)
    nudges: int = 0
    forks: bool = True
    serial: bool = True

    def __str__(self) -> str:
        parts = [f"{self.saga.__name__} {self.votes} votes"]
        parts += [f"needs {self.needs}"] if self.needs else []
        parts += ["timer"] if self.patient else []
        parts += [f"{self.opens} starts"] if self.opens > 1 else []
        parts += ["duplicate"] if self.duplicates else []
        parts += ["failover"] if self.rollbacks else []
        parts += [f"{self.nudges} nudges"] if self.nudges else []
        return ", ".join([*parts, f"batch {self.batch}", f"{self.workers} workers"])

    @property
    def enough(self) -> int:
        """Return how many votes make a verdict."""
        return self.needs or min(self.votes, 2)

    @property
    def messages(self) -> tuple[Any, ...]:
        """Return what is on its way besides the starts."""
        return (*(Vote(n + 1) for n in range(self.votes)), *(Nudge(n + 1) for n in range(self.nudges)))

    @property
    def start(self) -> tuple[Open, ...]:
        """Return the starts."""
        # Each life has to end, so the start of each sets a timer; else one timer will do.
        every = issubclass(self.saga, Restarting)
        return tuple(Open("7", n + 1, self.enough, self.patient and (every or n == 0)) for n in range(self.opens))

    def inquiry(self, rules: Rules = apply_commit) -> Inquiry:
        """Return what is asked of *rules*."""
        expected = _Expected(self)
        return Inquiry(
            Scene.of(self.saga),
            self.start,
            self.messages,
            Settings(self.workers, self.batch, Budget(self.duplicates, 0, self.rollbacks), serial_merges=self.serial),
            Expectations(
                always=(expected.nothing_is_done_twice, expected.siblings_only_where_they_may_be),
                finally_=(expected.each_message_is_handled_once, expected.each_life_ends_once),
                outcome=expected.outcome,
                outcomes=expected.outcomes(),
            ),
            rules,
        )

    def search(self, rules: Rules = apply_commit) -> Search:
        """Return what an exhaustive search finds."""
        _, search = self.inquiry(rules).search(_MAX_STATES)
        return search


@frozen
class _Expected:
    """What must hold in every schedule of a case."""

    case: Case

    @property
    def restarts(self) -> bool:
        return issubclass(self.case.saga, Restarting)

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield each name that messages are counted under, and how many messages that is."""
        if issubclass(self.case.saga, Count):
            yield from (("open", self.case.opens), ("vote", self.case.votes))
        else:
            yield from ((name_of(m), 1) for m in (*self.case.start, *self.case.messages) if not isinstance(m, Nudge))

    @staticmethod
    def heard(state: Any, name: str) -> int:
        """Return how often a state says that a message was handled."""
        if hasattr(state, "heard"):
            return int(state.heard.get(name, 0))
        return int(state.opens if name == "open" else state.votes)

    def nothing_is_done_twice(self, moment: Moment) -> None:
        for name, many in self.names():
            for state in moment.states:
                assert self.heard(state, name) <= many, f"{name} is in the state {self.heard(state, name)} times"
            if not self.case.rollbacks:
                noted = moment.sent.count(Noted(name)) + moment.sent.count(Returned(name))
                assert noted <= many, f"{name} had its effects {noted} times"
        if Returned in map(type, moment.sent) and not self.restarts:
            assert moment.completed, "a message was late for a saga that has not completed"

    def siblings_only_where_they_may_be(self, moment: Moment) -> None:
        assert self.case.forks or len(moment.states) <= 1, f"there are {len(moment.states)} siblings"

    def each_message_is_handled_once(self, moment: Moment) -> None:
        """Each message is in the state and had its effects, once; or it was late and was answered so, once."""
        for name, many in self.names():
            heard = self.heard(moment.state, name)
            noted, returned = moment.sent.count(Noted(name)), moment.sent.count(Returned(name))
            if self.case.rollbacks:
                # What a lost commit had sent cannot be recalled: only the state can say what was handled.
                assert heard <= many <= heard + returned or not self._answers_late, f"{name} was lost"
                continue
            if self.restarts:
                assert heard <= noted, f"{name} is in the state, and had no effects"
            else:
                assert heard == noted, f"{name} is in the state {heard} times, and had its effects {noted} times"
            if self._answers_late:
                assert noted + returned == many, f"{name} was handled {noted} times, and was late {returned} times"

    @property
    def _answers_late(self) -> bool:
        return not issubclass(self.case.saga, Quiet)

    def each_life_ends_once(self, moment: Moment) -> None:
        if self.case.rollbacks or self.restarts:
            return
        assert self.verdicts(moment) == 1, f"there were {self.verdicts(moment)} verdicts"
        underway = moment.decisions.count(Underway())
        announced = int(getattr(moment.state, "announced", False))
        assert underway == announced, f"it was announced {underway} times, and the state says {announced}"

    @staticmethod
    def verdicts(moment: Moment) -> int:
        return [type(m) for m in (*moment.decisions, *moment.sent)].count(Verdict)

    def outcome(self, moment: Moment) -> Any:
        """Return the verdicts; nothing where a saga may live twice, or a failover may take one back."""
        if self.restarts or self.case.rollbacks:
            return ()
        return tuple((m.votes, m.timed_out) for m in (*moment.decisions, *moment.sent) if isinstance(m, Verdict))

    def outcomes(self) -> tuple[Any, ...]:
        """Return the verdicts that may be: on enough votes, or on any when the patience has ended."""
        case = self.case
        if self.restarts or case.rollbacks:
            return ((),)
        all_votes = [c for n in range(case.votes + 1) for c in combinations(range(1, case.votes + 1), n)]
        if issubclass(case.saga, Count):
            all_votes = [(n,) for n in range(case.votes + 1)]
        counts = issubclass(case.saga, Count)
        on_enough = [((v, False),) for v in all_votes if (v[0] if counts else len(v)) >= case.enough]
        return (*on_enough, *(((v, True),) for v in all_votes if case.patient))
