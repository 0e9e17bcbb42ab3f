"""What can happen to one saga: loads, commits and failovers, and what comes of each for that saga alone.

What it makes of the rest of a world, `Worlds` sees to. Searches spend their time here. What workers have in hand
differs most, and what comes of a load or a commit seldom depends on what others have in hand; so it is worked out once
for each ground that they can stand on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from attrs import define, field, frozen

from sagabus.commit import Outcome
from sagabus.testing.simulator.departures import Sums
from sagabus.testing.simulator.mail import Mail, Sketch
from sagabus.testing.simulator.records import ABSENT, Kept
from sagabus.testing.simulator.runs import Fault, Loaded
from sagabus.testing.simulator.sagas import Move, SagaTables
from sagabus.testing.simulator.tales import Tales
from sagabus.testing.simulator.world import Budget, Cell, Commit, Load, RollBack, Settings


@define(eq=False)
class Posting:
    """What is sent with one commit, or by one consumer.

    Attributes:
        facts: with the facts, or by the consumer.
        decision: with the decision.
        by_consumer: whether a consumer sends it: what goes to somebody here does not count as having left then.
        sent: whether it was sent before; the rest is known then.
        sums: of `Departures`: what has left before -> what has left afterwards, as far as it was asked for.
        deliveries: what sagas here get: the number of the saga, and what it says.
        errands: those of consumers who ask for documents about it.
    """

    facts: tuple[Sketch, ...]
    decision: tuple[Sketch, ...] = ()
    by_consumer: bool = False
    sent: bool = False
    sums: Sums = field(factory=Sums)
    deliveries: tuple[tuple[int, Sketch], ...] = ()
    errands: tuple[int, ...] = ()


class Spent(NamedTuple):
    """What an event makes of a world, beside its saga.

    Attributes:
        budget, clock_ms: what the world has of these afterwards.
        resent: the item whose sender sends it again; None for none.
    """

    budget: Budget
    clock_ms: int
    resent: int | None = None


Step: TypeAlias = tuple[Load | Commit | RollBack, int, Fault | Posting | Spent | None]
"""Something that can happen to a saga: the event, the number of its cell afterwards, and what else comes of it; where
that must not be, the number says nothing.
"""


class _Taking(NamedTuple):
    """A load, whatever others have in hand.

    Attributes:
        event: the load.
        fault: what must not be; nothing else is said then.
        hold: what the worker has in hand then.
        ground: the number of the ground afterwards.
        resent: the item whose sender sends it again; None for none.
    """

    event: Load
    fault: Fault | None
    hold: int
    ground: int
    resent: int | None


@define(eq=False)
class _Write:
    """A commit to one record, whatever is in the queue and in other workers' hands, unless they have timers.

    Attributes:
        event: the commit.
        move: what becomes of it.
        fault: what must not be.
        posting: what is sent; None for nothing.
        renamed: what others have in hand -> what that is afterwards, as far as it was asked for; None where that is the
            same.
        told: tale -> the tale afterwards, likewise.
        timers: the items of timers that come into the queue, unless they are there.
        back: the items that go back into the queue, and that of a MergeSagaState.
        after: the number of the record afterwards.
        awake, settled: of the record afterwards; see there. Nothing is settled where that is not looked at.
    """

    event: Commit
    move: Move
    fault: Fault | None
    posting: Posting | None
    renamed: dict[int, int] | None
    told: dict[int, int] | None
    timers: tuple[int, ...]
    back: tuple[int, ...]
    after: int
    awake: dict[tuple[int, ...], tuple[int, ...]]
    settled: dict[int, tuple[int, Fault | None]] | None


@define(eq=False)
class _Standing:
    """What was worked out for a saga of which one record is stored.

    Attributes:
        kept: the record.
        loads: items, and the time -> the load, and what a worker has in hand then.
        writes: tale, where failovers go back to it -> hold, and the timers that others have in hand, if any -> what
            comes of its commit.
        awake: queue -> the same without the messages that can make no difference any more.
        idle: item -> whether it is one of these.
        settled: tale -> the one that begins where nobody is at work on the saga, and what is wrong with its end.
    """

    kept: Kept
    loads: dict[tuple[tuple[int, ...], int], tuple[Load, Loaded]] = field(factory=dict)
    writes: dict[int, dict[Any, _Write]] = field(factory=dict)
    awake: dict[tuple[int, ...], tuple[int, ...]] = field(factory=dict)
    idle: dict[int, bool] = field(factory=dict)
    settled: dict[int, tuple[int, Fault | None]] = field(factory=dict)


@define(eq=False)
class _Ground:
    """All of a cell but what workers have in hand.

    Attributes:
        saga: the number of the saga.
        record, queue, story: as of a `Cell`.
        standing: of the record.
        writes: of that, for this tale.
        takings: what may be wasted, and the time where that matters -> what can be loaded.
        free: hold -> the ground after its commit where no others are at work.
        busy: likewise, where others are; and the timers that these have in hand, if any.
    """

    saga: int
    record: int
    queue: tuple[int, ...]
    story: int
    standing: _Standing
    writes: dict[Any, _Write]
    takings: dict[tuple[bool, bool, int], list[_Taking]] = field(factory=dict)
    free: dict[Any, int] = field(factory=dict)
    busy: dict[Any, int] = field(factory=dict)


@frozen(eq=False)
class Cells:
    """All cells that an exploration has met, each known by a small number, and what can happen in them.

    Attributes:
        mail: the messages.
        settings: what may happen.
        tales: what sagas have handled.
        tables: one a saga.
    """

    mail: Mail
    settings: Settings
    tales: Tales
    tables: list[SagaTables] = field(factory=list, init=False)
    _cells: list[tuple[int, tuple[int, ...]]] = field(factory=list, init=False)
    _number_of: dict[tuple[int, tuple[int, ...]], int] = field(factory=dict, init=False)
    _grounds: list[_Ground] = field(factory=list, init=False)
    _ground_of: dict[tuple[int, int, tuple[int, ...], int], int] = field(factory=dict, init=False)
    _standings: list[dict[int, _Standing]] = field(factory=list, init=False)
    _told: dict[tuple[int, int], dict[int, int]] = field(factory=dict, init=False)
    _timers: dict[tuple[int, int], tuple[int, ...]] = field(factory=dict, init=False)

    def __getitem__(self, number: int) -> Cell:
        place, holds = self._cells[number]
        ground = self._grounds[place]
        return Cell(ground.record, holds, ground.queue, ground.story)

    def record(self, number: int) -> int:
        """Return the number of the record of a cell."""
        return self._grounds[self._cells[number][0]].record

    def open(self, table: SagaTables) -> None:
        """Add a saga."""
        self.tables.append(table)
        self._standings.append({})

    def untouched(self, saga: int) -> int:
        """Return the number of the cell of a saga that nothing was ever sent to."""
        return self._number(self._ground(saga, ABSENT, (), 0), ())

    def _number(self, ground: int, holds: tuple[int, ...]) -> int:
        cell = ground, holds
        found = self._number_of.get(cell)
        if found is None:
            found = self._number_of[cell] = len(self._cells)
            self._cells.append(cell)
        return found

    def _ground(self, saga: int, record: int, queue: tuple[int, ...], story: int) -> int:
        known = saga, record, queue, story
        number = self._ground_of.get(known)
        if number is None:
            number = self._ground_of[known] = len(self._grounds)
            standing = self._standing(saga, record)
            writes = standing.writes.setdefault(story if self.settings.budget.rollbacks else 0, {})
            self._grounds.append(_Ground(saga, record, queue, story, standing, writes))
        return number

    # -- what can happen -----------------------------------------------------------------------------------------

    def steps(self, at: int, budget: Budget, clock_ms: int) -> Iterator[Step]:
        """Yield all that can happen with cell number *at*."""
        number, holds = self._cells[at]
        ground = self._grounds[number]
        for place, hold in enumerate(holds):
            if not place or holds[place - 1] != hold:
                yield self._commit(ground, holds, place)
        if ground.queue and len(holds) < self.settings.workers:
            wastes = budget.duplicates > 0, budget.resends > 0, clock_ms
            takings = ground.takings.get(wastes)
            for taking in self._takings(ground, *wastes) if takings is None else takings:
                yield self._take(taking, holds, budget, clock_ms)
        if budget.rollbacks and self.tables[ground.saga].records[ground.record].past:
            yield self._roll_back(ground, holds, budget, clock_ms)

    def step(self, at: int, event: Load | Commit | RollBack, budget: Budget, clock_ms: int) -> Step:
        """Return what comes of one event."""
        number, holds = self._cells[at]
        ground = self._grounds[number]
        if isinstance(event, Commit):
            return self._commit(ground, holds, holds.index(event.hold))
        if isinstance(event, RollBack):
            return self._roll_back(ground, holds, budget, clock_ms)
        return self._take(
            self._taking(ground, event, self._load(ground, event.items, clock_ms)[1]), holds, budget, clock_ms
        )

    def loaded(self, at: int, event: Load, clock_ms: int) -> Loaded:
        """Return what a worker has in hand after a load."""
        return self._load(self._grounds[self._cells[at][0]], event.items, clock_ms)[1]

    def move(self, at: int, hold: int) -> Move:
        """Return what the store makes of a commit."""
        number, holds = self._cells[at]
        ground = self._grounds[number]
        known = self._beside(ground, holds, holds.index(hold))
        return (ground.writes.get(known) or self._write(ground, known)).move

    def held(self, saga: int, holds: tuple[int, ...]) -> tuple[int, ...]:
        """Return the items that workers have in hand."""
        table = self.tables[saga]
        return tuple(item for hold in holds for item in table.items_of(hold))

    def with_item(self, at: int, item: int) -> int:
        """Return the cell that comes of one when an item comes into its queue."""
        number, holds = self._cells[at]
        ground = self._grounds[number]
        queue = self._awake(ground.saga, ground.record, tuple(sorted((*ground.queue, item))))
        return self._number(self._ground(ground.saga, ground.record, queue, ground.story), holds)

    def _standing(self, saga: int, record: int) -> _Standing:
        found = self._standings[saga].get(record)
        if found is None:
            found = self._standings[saga][record] = _Standing(self.tables[saga].records[record])
        return found

    def _awake(self, saga: int, record: int, queue: tuple[int, ...]) -> tuple[int, ...]:
        """Return *queue* without the messages that can make no difference any more."""
        standing = self._standing(saga, record)
        found = standing.awake.get(queue)
        if found is None:
            table, idle = self.tables[saga], standing.idle
            for item in queue:
                if item not in idle:
                    idle[item] = table.is_idle(record, item)
            found = standing.awake[queue] = tuple(item for item in queue if not idle[item])
        return found

    # -- loads ---------------------------------------------------------------------------------------------------

    def _takings(self, ground: _Ground, duplicates: bool, resends: bool, clock_ms: int) -> Iterator[_Taking]:
        """Yield all that can be loaded, and remember it: one is taken before the next is worked out."""
        found: list[_Taking] = []
        for items in self._loads(ground.queue):
            event, loaded = self._load(ground, items, clock_ms)
            if loaded.hold is None and loaded.fault is None:
                continue
            taking = self._taking(ground, event, loaded)
            found.append(taking)
            yield taking
            for which, item in enumerate(items, 1) if (duplicates or resends) and loaded.fault is None else ():
                if duplicates:
                    taking = self._taking(ground, event._replace(kept=which), loaded)
                    found.append(taking)
                    yield taking
                if resends and self._resendable(item):
                    taking = self._taking(ground, event._replace(resent=which), loaded)
                    found.append(taking)
                    yield taking
        ground.takings[duplicates, resends, clock_ms] = found

    def _loads(self, queue: tuple[int, ...]) -> list[tuple[int, ...]]:
        different = dict.fromkeys(queue)
        found: list[tuple[int, ...]] = [(item,) for item in different]
        return found + list(itertools.permutations(different, 2)) if self.settings.batch > 1 else found

    def _resendable(self, number: int) -> bool:
        item = self.mail.items[number]
        return not item.sketch.is_timer and not item.is_merge

    def _load(self, ground: _Ground, items: tuple[int, ...], clock_ms: int) -> tuple[Load, Loaded]:
        """Return the load for *items*, and what a worker has in hand then."""
        known = items, self._clock(items, clock_ms) if self.mail.clocked else 0
        found = ground.standing.loads.get(known)
        if found is None:
            loaded = self.tables[ground.saga].load(ground.record, *known)
            found = ground.standing.loads[known] = Load(ground.saga, items), loaded
        return found

    def _taking(self, ground: _Ground, event: Load, loaded: Loaded) -> _Taking:
        if loaded.fault is not None:
            return _Taking(event, loaded.fault, 0, 0, None)
        assert loaded.hold is not None, "where there is nothing to commit, nothing is loaded"
        queue = ground.queue
        for which, item in enumerate(event.items, 1):
            if which != event.kept:
                queue = _less(queue, item)
        after = self._ground(ground.saga, ground.record, queue, ground.story)
        return _Taking(event, None, loaded.hold, after, event.items[event.resent - 1] if event.resent else None)

    def _take(self, taking: _Taking, holds: tuple[int, ...], budget: Budget, clock_ms: int) -> Step:
        event, fault, hold, ground, resent = taking
        if fault is not None:
            return event, 0, fault
        at = self._number(ground, tuple(sorted((*holds, hold))) if holds else (hold,))
        if not (event.kept or event.resent or self.mail.clocked):
            return event, at, None
        if event.kept:
            budget = budget._replace(duplicates=budget.duplicates - 1)
        if event.resent:
            budget = budget._replace(resends=budget.resends - 1)
        return event, at, Spent(budget, self._clock(event.items, clock_ms), resent)

    def _clock(self, items: tuple[int, ...], clock_ms: int) -> int:
        if not self.mail.clocked:
            return 0
        return max(clock_ms, *(self.mail.items[item].sketch.delay_ms for item in items))

    # -- commits -------------------------------------------------------------------------------------------------

    def _commit(self, ground: _Ground, holds: tuple[int, ...], place: int) -> Step:
        known = self._beside(ground, holds, place) if self.mail.has_timers else holds[place]
        write = ground.writes.get(known)
        if write is None:
            write = self._write(ground, known)
        if write.fault is not None:
            return write.event, 0, write.fault
        others = holds[:place] + holds[place + 1 :]
        if others:
            renamed = write.renamed
            if renamed is not None:
                only = renamed.get(others[0]) if len(others) == 1 else None
                others = self._renamed(ground, write, others) if only is None else (only,)
            after = ground.busy.get(known)
            if after is None:
                after = ground.busy[known] = self._come_to(ground, write, settled=False)
        else:
            after = ground.free.get(known)
            if after is None:
                fault = self._end(ground, write)
                if fault is not None:
                    return write.event, 0, fault
                after = ground.free[known] = self._come_to(ground, write, settled=True)
        cell = after, others
        at = self._number_of.get(cell)
        if at is None:
            at = self._number(*cell)
        return write.event, at, write.posting

    def _beside(self, ground: _Ground, holds: tuple[int, ...], place: int) -> Any:
        """Return what a commit depends on: a hold, and the timers that others have in hand, if any."""
        timers: tuple[int, ...] = ()
        for other, hold in enumerate(holds):
            if other != place:
                timers += self._timers_of(ground.saga, hold)
        return (holds[place], timers) if timers else holds[place]

    def _timers_of(self, saga: int, hold: int) -> tuple[int, ...]:
        """Return the timers that a worker has in hand."""
        found = self._timers.get((saga, hold))
        if found is None:
            items = self.tables[saga].items_of(hold)
            found = self._timers[saga, hold] = tuple(item for item in items if self.mail.items[item].sketch.is_timer)
        return found

    def _renamed(self, ground: _Ground, write: _Write, others: tuple[int, ...]) -> tuple[int, ...]:
        """Return what others have in hand as it is after a commit."""
        found, renamed = [], write.renamed
        assert renamed is not None
        for hold in others:
            after = renamed.get(hold)
            if after is None:
                after = renamed[hold] = self.tables[ground.saga].rename(hold, write.move)
            found.append(after)
        if len(found) > 1:
            found.sort()
        return tuple(found)

    def _write(self, ground: _Ground, known: Any) -> _Write:
        """Return what comes of a commit that was not met before."""
        hold, timers = known if isinstance(known, tuple) else (known, ())
        saga, table = ground.saga, self.tables[ground.saga]
        move = table.commit(ground.record, hold, timers, ground.story)
        told = move.changed and move.outcome is not Outcome.LATE and self.settings.serial_merges
        back = table.items_of(hold) if move.outcome is Outcome.AGAIN else ()
        then = self._standing(saga, move.after)
        settles = move.changed and self.settings.serial_merges and (then.kept.single or then.kept.ended)
        found = ground.writes[known] = _Write(
            Commit(saga, hold),
            move,
            move.fault,
            Posting(move.facts, move.decision) if move.facts or move.decision else None,
            {} if move.changed else None,
            self._told.setdefault((saga, table.holds[hold].run), {}) if told else None,
            move.timers if self.settings.timeouts else (),
            back if move.merge is None else (*back, move.merge),
            move.after,
            then.awake,
            then.settled if settles else None,
        )
        return found

    def _come_to(self, ground: _Ground, write: _Write, *, settled: bool) -> int:
        """Return the number of the ground after a commit.

        Args:
            settled: whether nobody is at work then, so that a new tale begins where the saga is settled.
        """
        queue, story = ground.queue, ground.story
        if write.told is not None:
            found = write.told.get(story)
            story = self._tell(ground, write) if found is None else found
        if write.timers or write.back:
            timers = [timer for timer in dict.fromkeys(write.timers) if timer not in queue]
            queue = tuple(sorted((*queue, *timers, *write.back)))
        if settled and write.settled is not None:
            story, _ = write.settled[story]
        if queue:
            queue = write.awake.get(queue) or self._awake(ground.saga, write.after, queue)
        return self._ground(ground.saga, write.after, queue, story)

    def _tell(self, ground: _Ground, write: _Write) -> int:
        """Return the tale of a saga after a commit."""
        if write.told is None:
            return ground.story
        found = write.told.get(ground.story)
        if found is None:
            table = self.tables[ground.saga]
            run = table.runs[table.holds[write.event.hold].run]
            found = write.told[ground.story] = self.tales.told(ground.story, run)
        return found

    def _end(self, ground: _Ground, write: _Write) -> Fault | None:
        """Look at the tale that ends with a commit after which nobody is at work; return what is wrong with it."""
        if write.settled is None:
            return None
        story = self._tell(ground, write)
        found = write.settled.get(story)
        if found is None:
            table = self.tables[ground.saga]
            found = write.settled[story] = self.tales.settled(story, table, table.records[write.after])
        return found[1]

    def _roll_back(self, ground: _Ground, holds: tuple[int, ...], budget: Budget, clock_ms: int) -> Step:
        table = self.tables[ground.saga]
        move, lost = table.roll_back(ground.record)
        holds = tuple(sorted(table.rename(hold, move) for hold in holds))
        queue = self._awake(ground.saga, move.after, tuple(sorted(ground.queue + lost.items)))
        budget = budget._replace(rollbacks=budget.rollbacks - 1)
        at = self._number(self._ground(ground.saga, move.after, queue, lost.story), holds)
        return RollBack(ground.saga), at, Spent(budget, clock_ms)


def _less(holds: tuple[int, ...], hold: int) -> tuple[int, ...]:
    place = holds.index(hold)
    return holds[:place] + holds[place + 1 :]
