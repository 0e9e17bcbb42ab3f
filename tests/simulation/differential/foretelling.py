"""Schedules drawn from the simulator, and what it says becomes of each commit: from its tables, without any store."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Final

from attrs import define, field, frozen

from sagabus.envelope import SagaKey
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.records import Kept
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.telling import write_down
from sagabus.testing.simulator.world import Commit, Event, Load, World
from sagabus.testing.simulator.worlds import Worlds
from tests.changes import evolve
from tests.simulation.differential.accounts import Sent, Step, travels

_LONGEST: Final = 400


@frozen(eq=False)
class Walk:
    """One schedule through the simulator.

    Attributes:
        inquiry: what it was drawn from.
        worlds: what the numbers of its worlds mean.
        opening: where it begins.
        steps: each event, and the world after it.
    """

    inquiry: Inquiry
    worlds: Worlds
    opening: World
    steps: tuple[tuple[Event, World], ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """Return its events."""
        return tuple(event for event, _ in self.steps)

    @property
    def keys(self) -> list[SagaKey]:
        """Return the sagas that it has met."""
        return [table.key for table in self.worlds.tables]

    @property
    def end(self) -> World:
        """Return the world in which nothing can happen any more."""
        return self.steps[-1][1] if self.steps else self.opening

    def __str__(self) -> str:
        return "\n".join(map(str, write_down(self.worlds, self.opening, self.events)))


def draw(inquiry: Inquiry, seed: int) -> Walk:
    """Return the random schedule that follows from *seed*, to its end.

    Every other seed is slow to commit, so that more workers hold the saga at once than by even chances.
    """
    chance, ready = random.Random(seed), inquiry.ready()
    world, steps = ready.opening, list[tuple[Event, World]]()
    while possible := list(ready.worlds.events(world)):
        loads = [each for each in possible if isinstance(each[0], Load)]
        if seed % 2 and loads and chance.random() < 0.7:
            possible = loads
        event, after = chance.choice(possible)
        assert not isinstance(after, Fault), f"the saga of this case is not sound: {after}"
        steps.append((event, after))
        world = after
        assert len(steps) < _LONGEST, "the schedule has no end"
    return Walk(inquiry, ready.worlds, ready.opening, tuple(steps))


@frozen
class Foretold:
    """What the simulator says of one commit: of a `Step`, what it knows too.

    Attributes:
        sent: facts and decision, but for timers and MergeSagaState; with ids where the simulator keeps them.
        states: of the live versions, sorted: the simulator may forget in which order siblings came.
        timers: the names of timers; "" for one without a name.
    """

    key: SagaKey
    outcome: str
    reason: str
    posted_merge: bool
    sent: tuple[Sent, ...]
    decided: tuple[Sent, ...]
    lifecycle: str
    life: int
    states: tuple[bytes, ...]
    timers: tuple[str, ...]
    merge_is_pending: bool

    @classmethod
    def of(cls, step: Step, exact: bool) -> Foretold:
        """Return what could have been foretold of *step*.

        Args:
            exact: whether the simulator keeps message ids.
        """
        standing = step.standing
        return cls(
            step.key,
            step.outcome,
            step.reason,
            step.posted_merge,
            _kept(step.sent, exact),
            _kept(step.decided, exact),
            standing.lifecycle,
            standing.life,
            tuple(sorted(standing.states)),
            tuple(sorted("" if name == id_ else name for name, id_ in standing.timers.items())),
            bool(standing.pending_merge),
        )


def foretell(walk: Walk) -> list[Foretold]:
    """Return what the simulator says of each commit of a schedule."""
    world, found = walk.opening, []
    for event, after in walk.steps:
        if isinstance(event, Commit):
            found.append(_foretold(walk.worlds, world, event, after))
        world = after
    return found


@define
class Expecting:
    """Notes steps, and fails at the first that comes out otherwise than foretold.

    Attributes:
        exact: whether the simulator keeps message ids.
        foretold: what the simulator says, in order.
        steps: what came.
    """

    exact: bool
    foretold: list[Foretold]
    steps: list[Step] = field(factory=list)

    @classmethod
    def of(cls, walk: Walk) -> Expecting:
        """Expect what the simulator says of a schedule; steps behind its end are noted as they come."""
        return cls(walk.worlds.mail.exact, foretell(walk))

    def __call__(self, step: Step) -> None:
        """Note one step."""
        self.steps.append(step)
        if len(self.steps) <= len(self.foretold):
            seen = Foretold.of(step, self.exact)
            assert seen == self.foretold[len(self.steps) - 1], f"commit {len(self.steps)} of the schedule"


def foretell_decisions(walk: Walk) -> Counter[tuple[str, bytes]]:
    """Return the decisions that the simulator says have been released in the end, as type and body."""
    _, decisions, _ = walk.worlds.departures[walk.end.left]
    envelopes = [walk.worlds.mail.sketches[number].envelope for number in decisions]
    return Counter((envelope.type, bytes(envelope.data)) for envelope in envelopes)


def _foretold(worlds: Worlds, world: World, event: Commit, after: World) -> Foretold:
    table, move, exact = worlds.tables[event.cell], worlds.move(world, event), worlds.mail.exact
    assert move.after == worlds.cells_of(after)[event.cell].record
    kept = table.records[move.after]
    facts, decision = (
        [Sent.of(sketch.outgoing, 0) for sketch in half if sketch.outgoing is not None]
        for half in (move.facts, move.decision)
    )
    return Foretold(
        table.key,
        move.outcome.value,
        move.reason,
        move.merge is not None,
        _kept([*facts, *decision], exact),
        _kept(decision, exact),
        table.records.lifecycle(move.after).value,
        kept.record.life if kept.record else 0,
        tuple(sorted(table.records.states(move.after))),
        _timers(kept),
        bool(kept.record and kept.record.pending_merge),
    )


def _timers(kept: Kept) -> tuple[str, ...]:
    timers = kept.record.timers if kept.record else {}
    return tuple(sorted("" if name == id_ else name for name, id_ in timers.items()))


def _kept(sent: Iterable[Sent], exact: bool) -> tuple[Sent, ...]:
    still = [each for each in sent if travels(each)]
    return tuple(sorted(still if exact else [evolve(each, id="") for each in still]))
