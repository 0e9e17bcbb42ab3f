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
        awake: of the record afterwards; see there.
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


@define(eq=False)
class _Course:
    """A commit on one ground.

    Attributes:
        write: the commit to its record.
        busy: the number of the ground afterwards, where others are at work; None until it was asked for.
        free: likewise, where nobody is.
        fault: what must not be, where nobody is.
    """

    write: _Write
    busy: int | None = None
    free: int | None = None
    fault: Fault | None = None


@define(eq=False)
class _Standing:
    """What was worked out for a saga of which one record is stored.

    Attributes:
        kept: the record.
        writes: hold, and what else matters -> its commit.
        awake: queue -> the same without the messages that can make no difference any more.
        idle: item -> whether it is one of these.
        settled: tale -> the one that begins where nobody is at work on the saga, and what is wrong with its end.
    """

    kept: Kept
    writes: dict[Any, _Write] = field(factory=dict)
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
        takings: what may be wasted, and the time where that matters -> what can be loaded.
        courses: hold, and the timers that others have in hand, if any -> what comes of its commit.
    """

    saga: int
    record: int
    queue: tuple[int, ...]
    story: int
    standing: _Standing
    takings: dict[tuple[bool, bool, int], list[_Taking]] = field(factory=dict)
    courses: dict[Any, _Course] = field(factory=dict)


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

    def __getitem__(self, number: int) -> Cell:
        place, holds = self._cells[number]
        ground = self._grounds[place]
        return Cell(ground.record, holds, ground.queue, ground.story)

    def open(self, table: SagaTables) -> None:
        """Add a saga."""
        self.tables.append(table)
        self._standings.append({})

    def untouched(self, saga: int) -> int:
        """Return the number of the cell of a saga that nothing was ever sent to."""
        return self._number(self._ground(saga, ABSENT, (), 0), ())

    def _number(self, ground: int, holds: tuple[int, ...]) -> int:
        number = self._number_of.setdefault((ground, holds), len(self._cells))
        if number == len(self._cells):
            self._cells.append((ground, holds))
        return number

    def _ground(self, saga: int, record: int, queue: tuple[int, ...], story: int) -> int:
        known = saga, record, queue, story
        number = self._ground_of.get(known)
        if number is None:
            number = self._ground_of[known] = len(self._grounds)
            self._grounds.append(_Ground(saga, record, queue, story, self._standing(saga, record)))
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
        return self._take(self._taking(ground, event, self._loaded(ground, event, clock_ms)), holds, budget, clock_ms)

    def loaded(self, at: int, event: Load, clock_ms: int) -> Loaded:
        """Return what a worker has in hand after a load."""
        return self._loaded(self._grounds[self._cells[at][0]], event, clock_ms)

    def move(self, at: int, hold: int) -> Move:
        """Return what the store makes of a commit."""
        number, holds = self._cells[at]
        return self._course(self._grounds[number], holds, holds.index(hold)).write.move

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
            event = Load(ground.saga, items)
            loaded = self._loaded(ground, event, clock_ms)
            events = [event]
            if loaded.fault is None:
                if loaded.hold is None:
                    continue
                for which, item in enumerate(items, 1):
                    if duplicates:
                        events.append(event._replace(kept=which))
                    if resends and self._resendable(item):
                        events.append(event._replace(resent=which))
            for each in events:
                taking = self._taking(ground, each, loaded)
                found.append(taking)
                yield taking
        ground.takings[duplicates, resends, clock_ms] = found

    def _loads(self, queue: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        different = tuple(dict.fromkeys(queue))
        yield from ((item,) for item in different)
        if self.settings.batch > 1:
            yield from itertools.permutations(different, 2)

    def _resendable(self, number: int) -> bool:
        item = self.mail.items[number]
        return not item.sketch.is_timer and not item.is_merge

    def _loaded(self, ground: _Ground, event: Load, clock_ms: int) -> Loaded:
        return self.tables[ground.saga].load(ground.record, event.items, self._clock(event.items, clock_ms))

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
        cell = ground, tuple(sorted((*holds, hold))) if holds else (hold,)
        at = self._number_of.get(cell)
        if at is None:
            at = self._number(*cell)
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
        hold, workers = holds[place], len(holds)
        course = ground.courses.get(hold) if workers == 1 or not self.mail.has_timers else None
        if course is None:
            course = self._course(ground, holds, place)
        write = course.write
        if write.fault is not None:
            return write.event, 0, write.fault
        after: int | None
        others: tuple[int, ...]
        if workers == 1:
            others, after = (), course.free
            if after is None:
                after = self._free(ground, course)
            if course.fault is not None:
                return write.event, 0, course.fault
        else:
            others = holds[:place] + holds[place + 1 :]
            renamed = write.renamed
            if renamed is not None:
                try:
                    others = (
                        (renamed[others[0]],) if workers == 2 else tuple(sorted([renamed[each] for each in others]))
                    )
                except KeyError:
                    others = self._renamed(ground, write, others)
            after = course.busy
            if after is None:
                after = course.busy = self._come_to(ground, write, self._tell(ground, write))
        cell = after, others
        at = self._number_of.get(cell)
        if at is None:
            at = self._number(*cell)
        return write.event, at, write.posting

    def _course(self, ground: _Ground, holds: tuple[int, ...], place: int) -> _Course:
        hold, timers = holds[place], tuple[int, ...]()
        if self.mail.has_timers and len(holds) > 1:
            others = self.held(ground.saga, holds[:place] + holds[place + 1 :])
            timers = tuple(item for item in others if self.mail.items[item].sketch.is_timer)
        known = (hold, timers) if timers else hold
        found = ground.courses.get(known)
        if found is None:
            found = ground.courses[known] = _Course(self._write(ground, hold, timers))
        return found

    def _write(self, ground: _Ground, hold: int, timers: tuple[int, ...]) -> _Write:
        exactly = timers or self.settings.budget.rollbacks
        known: Any = (hold, timers, ground.story if self.settings.budget.rollbacks else 0) if exactly else hold
        found = ground.standing.writes.get(known)
        if found is None:
            found = ground.standing.writes[known] = self._work_out(ground, hold, timers)
        return found

    def _work_out(self, ground: _Ground, hold: int, timers: tuple[int, ...]) -> _Write:
        saga, table = ground.saga, self.tables[ground.saga]
        move = table.commit(ground.record, hold, timers, ground.story)
        tells = move.changed and move.outcome is not Outcome.LATE and self.settings.serial_merges
        back = table.items_of(hold) if move.outcome is Outcome.AGAIN else ()
        return _Write(
            Commit(saga, hold),
            move,
            move.fault,
            Posting(move.facts, move.decision) if move.facts or move.decision else None,
            {} if move.changed else None,
            self._told.setdefault((saga, table.holds[hold].run), {}) if tells else None,
            move.timers if self.settings.timeouts else (),
            back if move.merge is None else (*back, move.merge),
            move.after,
            self._standing(saga, move.after).awake,
        )

    def _renamed(self, ground: _Ground, write: _Write, holds: tuple[int, ...]) -> tuple[int, ...]:
        """Return what others have in hand as it is after a commit."""
        renamed = write.renamed
        assert renamed is not None
        for hold in holds:
            if hold not in renamed:
                renamed[hold] = self.tables[ground.saga].rename(hold, write.move)
        return tuple(sorted([renamed[hold] for hold in holds]))

    def _free(self, ground: _Ground, course: _Course) -> int:
        """Return the ground after a commit where nobody is at work then, having looked at the tale that ends."""
        write = course.write
        story, kept = self._tell(ground, write), self._standing(ground.saga, write.after).kept
        if write.move.changed and self.settings.serial_merges and (kept.single or kept.ended):
            story, course.fault = self._settle(ground.saga, write.after, story)
        if course.fault is None:
            course.free = self._come_to(ground, write, story)
        return course.free or 0

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

    def _settle(self, saga: int, record: int, story: int) -> tuple[int, Fault | None]:
        """Return the tale that begins now that nobody is at work on a saga, having looked at the one that ends."""
        standing = self._standing(saga, record)
        found = standing.settled.get(story)
        if found is None:
            found = standing.settled[story] = self.tales.settled(story, self.tables[saga], standing.kept)
        return found

    def _come_to(self, ground: _Ground, write: _Write, story: int) -> int:
        """Return the ground after a commit, where the tale is this."""
        queue = ground.queue
        if write.timers or write.back:
            timers = [timer for timer in dict.fromkeys(write.timers) if timer not in queue]
            queue = tuple(sorted((*queue, *timers, *write.back)))
        if queue:
            queue = write.awake.get(queue) or self._awake(ground.saga, write.after, queue)
        return self._ground(ground.saga, write.after, queue, story)

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
