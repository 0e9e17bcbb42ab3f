"""What is expected of every schedule, and whether a world lives up to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import field, frozen

from sagabus.commit import Lifecycle
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError
from sagabus.testing.simulator.moment import Moment, moment_of
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import Load, World
from sagabus.testing.simulator.worlds import Worlds

Invariant = Callable[[Moment], object]
"""Says whether all is well: returns False or raises AssertionError where it is not."""

_DEAD: Final = {"early": "no-saga", "failed": "failed", "unmergeable": "unmergeable"}


@frozen
class Expectations:
    """What users expect.

    Attributes:
        always: hold after every commit.
        finally_: hold when nothing can happen any more.
        outcome: what a final moment amounts to.
        outcomes: the outcomes that are allowed; None: all schedules must end alike.
        must_end: whether every saga that started must have completed in the end.
        dead_letters: whether messages may be dead-lettered.
        timeouts: whether timers fire; a saga may wait for one that does not.
    """

    always: tuple[Invariant, ...] = ()
    finally_: tuple[Invariant, ...] = ()
    outcome: Callable[[Moment], Any] | None = None
    outcomes: tuple[Any, ...] | None = None
    must_end: bool = True
    dead_letters: bool = False
    timeouts: bool = True


@frozen(eq=False)
class Judge:
    """Judges worlds.

    Attributes:
        worlds: what the numbers of a world mean.
        expectations: what users expect.
        first: the saga that the first start began.
        baseline: the outcome of handling one message after the other, in the order given; empty where that goes wrong.
    """

    worlds: Worlds
    expectations: Expectations
    first: SagaKey | None
    baseline: list[Any] = field(factory=list)
    _seen: dict[Any, Fault | None] = field(factory=dict, init=False)

    def moment(self, world: World, *, final: bool = False) -> Moment:
        """Return what users see of *world*."""
        return moment_of(self.worlds, world, self.first, self._dead(world) if final else ())

    def now(self, world: World) -> Fault | None:
        """Return which invariant does not hold in *world*."""
        if not self.expectations.always:
            return None
        known = self.worlds.records_of(world), world.left, world.shelf
        if known not in self._seen:
            self._seen[known] = _first_broken("invariant", self.expectations.always, self.moment(world))
        return self._seen[known]

    def finally_(self, world: World) -> Fault | None:
        """Return what is wrong with *world*, in which nothing can happen any more."""
        dead = self._died(world)
        if dead is not None and not self.expectations.dead_letters:
            return dead
        stuck = self._stuck(world)
        if stuck is not None:
            return stuck
        if self.expectations.finally_:
            return _first_broken("finally", self.expectations.finally_, self.moment(world, final=True))
        return None

    def outcome(self, world: World) -> Any:
        """Return what a final world amounts to.

        Raises:
            ConfigurationError: the user's projection returns what cannot be a key.
        """
        moment = self.moment(world, final=True)
        if self.expectations.outcome is None:
            return moment.decisions
        outcome = self.expectations.outcome(moment)
        try:
            hash(outcome)
        except TypeError as error:
            raise ConfigurationError(
                f"outcome= returned {say(outcome)}, and an outcome is a value that can be hashed; "
                f"return a tuple, a frozenset or a text"
            ) from error
        return outcome

    def other_outcome(self, outcome: Any) -> Fault | None:
        """Return what is wrong with an outcome: it is not allowed, or, where none is named, not as without a race."""
        allowed = self.expectations.outcomes
        if allowed is not None:
            if any(outcome == other for other in allowed):
                return None
            known = " or ".join(say(other) for other in allowed)
            return Fault("outcome", f"this schedule ends with {say(outcome)}, and only {known} may be")
        if not self.baseline:
            self.baseline.append(outcome)
        if outcome == self.baseline[0]:
            return None
        return Fault(
            "outcome",
            f"this schedule ends with {say(outcome)}; handled one after the other, the messages end with "
            f"{say(self.baseline[0])}. If both may be, name them: outcomes=[...]",
        )

    # -- how a saga ends -----------------------------------------------------------------------------------------

    def _leftovers(self, world: World) -> list[tuple[SagaKey, int, str, BaseException | None]]:
        """Return the messages that stay in the queues for ever, each with the reason and what was raised."""
        found = []
        for number, cell in enumerate(self.worlds.cells_of(world)):
            # Copies of one message are one dead letter.
            for item in dict.fromkeys(cell.queue):
                loaded = self.worlds.loaded(world, Load(number, (item,)))
                if loaded.reason in _DEAD:
                    found.append((self.worlds.tables[number].key, item, loaded.reason, loaded.error))
        return found

    def _dead(self, world: World) -> tuple[tuple[Any, str], ...]:
        items = self.worlds.mail.items
        return tuple((items[item].sketch.message, _DEAD[reason]) for _, item, reason, _ in self._leftovers(world))

    def _died(self, world: World) -> Fault | None:
        for key, item, reason, error in self._leftovers(world):
            message = self.worlds.mail.items[item].sketch.message
            raised = f"{type(error).__name__}: {error}" if error is not None else ""
            if reason == "unmergeable":
                return Fault("unmergeable", f"the siblings of {key} cannot be merged: the merger raised {raised}")
            if reason == "failed":
                return Fault("dead-letter", f"{key} never takes {say(message)}: its handler raised {raised}")
            return Fault("dead-letter", f"{say(message)} came to {key}, which never starts; it ends as a dead letter")
        return None

    def _stuck(self, world: World) -> Fault | None:
        if not self.expectations.must_end:
            return None
        for cell, table in zip(self.worlds.cells_of(world), self.worlds.tables, strict=False):
            if table.records.lifecycle(cell.record) is not Lifecycle.LIVE:
                continue
            kept = table.records[cell.record]
            if kept.record is not None and kept.record.timers and not self.expectations.timeouts:
                continue
            states = [table.definition.codec.decode(state) for state in table.records.states(cell.record)]
            shown = say(states[0]) if len(states) == 1 else f"{len(states)} siblings"
            return Fault(
                "stuck",
                f"{table.key} never completes: nothing is on its way to it any more, and it stands at {shown}. "
                f"If it may wait for what is not part of this exploration, say must_end=False",
            )
        return None


def _first_broken(kind: str, invariants: Sequence[Invariant], moment: Moment) -> Fault | None:
    for invariant in invariants:
        said = ""
        try:
            held = invariant(moment)
        except AssertionError as error:
            held, said = False, f": {error}" if str(error) else ""
        if held is False:
            name = getattr(invariant, "__name__", None) or repr(invariant)
            return Fault(kind, f"{name} does not hold{said}")
    return None
