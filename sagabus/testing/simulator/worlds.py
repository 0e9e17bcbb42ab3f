"""What can happen in a world, and what comes of it: loads, commits, failovers, and messages on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import field, frozen

from sagabus.commit import Outcome
from sagabus.envelope import Incoming, SagaKey
from sagabus.errors import ConcurrencyError
from sagabus.testing.simulator.departures import NOTHING, Departures
from sagabus.testing.simulator.errands import Ends, Errand, Errands, Raises, Strays, Turn
from sagabus.testing.simulator.mail import Mail, Sent, Sketch
from sagabus.testing.simulator.records import ABSENT, Kept
from sagabus.testing.simulator.sagas import Fault, Loaded, Move, Run, SagaTables
from sagabus.testing.simulator.scene import Input
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import (
    Cell,
    Commit,
    Crash,
    Event,
    Load,
    Operate,
    RollBack,
    Settings,
    Tale,
    World,
)

_MOST_HANDLED: Final = 7
"""A tale with more messages than so many is not compared with their serial orders any more."""
_UNTOUCHED: Final = Cell(ABSENT, (), (), 0)


@frozen(eq=False)
class Worlds:
    """Says what can happen in a world, and what comes of it. Remembers what it has worked out; otherwise pure.

    Attributes:
        mail: the messages.
        settings: what may happen.
        open_table: makes the table of a saga.
        check_tale: looks at a settled saga: (its table, its record, its tale) -> what is wrong.
        departures: what has left.
    """

    mail: Mail
    settings: Settings
    open_table: Callable[[SagaKey], SagaTables]
    check_tale: Callable[[SagaTables, Kept, Tale], Fault | None]
    tables: list[SagaTables] = field(factory=list, init=False)
    departures: Departures = field(factory=Departures, init=False)
    _cell_of: dict[SagaKey, int] = field(factory=dict, init=False)
    _tales: list[Tale] = field(factory=lambda: [Tale()], init=False)
    _tale_of: dict[Tale, int] = field(factory=lambda: {Tale(): 0}, init=False)
    _settled: dict[Any, tuple[int, Fault | None]] = field(factory=dict, init=False)
    _idle: dict[Any, bool] = field(factory=dict, init=False)
    _awake: dict[Any, tuple[int, ...]] = field(factory=dict, init=False)
    _told_before: dict[tuple[int, int, int], int] = field(factory=dict, init=False)

    # -- the beginning -------------------------------------------------------------------------------------------

    def opening(self, inputs: tuple[Input, ...], shelf: int = 0) -> World:
        """Return the world in which everything given is in the queues and nothing has been handled."""
        cells: list[Cell] = []
        errands: list[int] = []
        left: tuple[Sketch, ...] = ()
        for given in inputs:
            for number in self.mail.give(given):
                self._into(cells, number)
            sent = self.mail.consume(given.envelope)
            self._deliver(cells, errands, sent)
            left += sent.left
        return World(
            tuple(cells), self.departures.add(NOTHING, left), self.settings.budget, 0, tuple(sorted(errands)), shelf
        )

    # -- what can happen -----------------------------------------------------------------------------------------

    def events(self, world: World) -> list[tuple[Event, World | Fault]]:
        """Return all that can happen next, each with what comes of it."""
        found: list[tuple[Event, World | Fault]] = []
        for number, cell in enumerate(world.cells):
            holds = cell.holds
            for place, hold in enumerate(holds):
                if not place or holds[place - 1] != hold:
                    found.append((Commit(number, hold), self._commit(world, number, cell, hold)))
            if len(holds) < self.settings.workers and cell.queue:
                self._loads(world, number, cell, found)
            if world.budget.rollbacks and self.tables[number].records[cell.record].past:
                found.append((RollBack(number), self._roll_back(world, number, cell)))
        if world.errands:
            self._operations(world, found)
        return found

    def after(self, world: World, event: Event) -> World | Fault:
        """Return what comes of one event."""
        if isinstance(event, Operate):
            return self._operate(world, event)
        if isinstance(event, Crash):
            return self._crash(world, event.errand)
        cell = world.cells[event.cell]
        if isinstance(event, Commit):
            return self._commit(world, event.cell, cell, event.hold)
        if isinstance(event, RollBack):
            return self._roll_back(world, event.cell, cell)
        loaded = self.loaded(world, event)
        return loaded.fault or self._take(world, cell, event, loaded)

    def loaded(self, world: World, event: Load) -> Loaded:
        """Return what a worker has in hand after a load."""
        table = self.tables[event.cell]
        return table.load(world.cells[event.cell].record, event.items, self._clock(world, event.items))

    def move(self, world: World, event: Commit) -> Move:
        """Return what the store makes of a commit."""
        cell = world.cells[event.cell]
        return self._move(self.tables[event.cell], cell, event.hold)

    # -- loads ---------------------------------------------------------------------------------------------------

    def _loads(self, world: World, number: int, cell: Cell, found: list[tuple[Event, World | Fault]]) -> None:
        queue = cell.queue
        for place, item in enumerate(queue):
            if not place or queue[place - 1] != item:
                self._load(world, cell, Load(number, (item,)), found)
        if self.settings.batch > 1:
            different = tuple(dict.fromkeys(queue))
            for first in different:
                for second in different:
                    if first != second:
                        self._load(world, cell, Load(number, (first, second)), found)

    def _load(self, world: World, cell: Cell, event: Load, found: list[tuple[Event, World | Fault]]) -> None:
        loaded = self.loaded(world, event)
        if loaded.fault is not None:
            found.append((event, loaded.fault))
        elif loaded.hold is not None:
            found.append((event, self._take(world, cell, event, loaded)))
            for which, item in enumerate(event.items, 1):
                if world.budget.duplicates:
                    again = event._replace(kept=which)
                    found.append((again, self._take(world, cell, again, loaded)))
                if world.budget.resends and self._resendable(item):
                    twice = event._replace(resent=which)
                    found.append((twice, self._take(world, cell, twice, loaded)))

    def _resendable(self, number: int) -> bool:
        sketch = self.mail.items[number].sketch
        return not sketch.is_timer and not self.mail.items[number].is_merge

    def _take(self, world: World, cell: Cell, event: Load, loaded: Loaded) -> World:
        assert loaded.hold is not None
        holds = tuple(sorted((*cell.holds, loaded.hold))) if cell.holds else (loaded.hold,)
        queue, budget = cell.queue, world.budget
        if event.kept:
            budget = budget._replace(duplicates=budget.duplicates - 1)
        for which, item in enumerate(event.items, 1):
            if which != event.kept:
                place = queue.index(item)
                queue = queue[:place] + queue[place + 1 :]
        cells = _with(world.cells, event.cell, Cell(cell.record, holds, queue, cell.story))
        if event.resent:
            budget = budget._replace(resends=budget.resends - 1)
            cells = self._resend(cells, event.items[event.resent - 1])
        return World(cells, world.left, budget, self._clock(world, event.items), world.errands, world.shelf)

    def _resend(self, cells: tuple[Cell, ...], number: int) -> tuple[Cell, ...]:
        """Return *cells* after the sender of an item has sent the same body again, under a new id."""
        nth = self.mail.items[number].nth + 1
        while any(self._is_there(cells, *copy) for copy in self.mail.copies(number, nth)):
            nth += 1
        changed = list(cells)
        for copy, _ in self.mail.copies(number, nth):
            self._into(changed, copy)
        return tuple(changed)

    def _is_there(self, cells: tuple[Cell, ...], number: int, begins: bool) -> bool:
        place = self.cell(self.mail.items[number].key)
        if place >= len(cells):
            return False
        cell = cells[place]
        known = number in cell.queue or number in self._held(self.tables[place], cell.holds)
        return known or (begins and cell.record != ABSENT)

    def _clock(self, world: World, items: tuple[int, ...]) -> int:
        if not self.mail.clocked:
            return 0
        due = (self.mail.items[item].sketch.delay_ms for item in items)
        return max(world.clock_ms, *due)

    # -- commits -------------------------------------------------------------------------------------------------

    def _move(self, table: SagaTables, cell: Cell, hold: int) -> Move:
        timers: tuple[int, ...] = ()
        if self.mail.has_timers and len(cell.holds) > 1:
            others = self._held(table, _less(cell.holds, hold))
            timers = tuple(item for item in others if self.mail.items[item].sketch.is_timer)
        return table.commit(cell.record, hold, timers, cell.story)

    def _held(self, table: SagaTables, holds: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(item for hold in holds for item in table.items_of(hold))

    def _commit(self, world: World, number: int, cell: Cell, hold: int) -> World | Fault:
        table = self.tables[number]
        move = self._move(table, cell, hold)
        if move.fault is not None:
            return move.fault
        queue, story, left = cell.queue, cell.story, world.left
        holds = _less(cell.holds, hold)
        if move.changed:
            if holds:
                renamed = [table.rename(other, move) for other in holds]
                holds = tuple(sorted(renamed) if len(renamed) > 1 else renamed)
            if move.outcome is not Outcome.LATE and self.settings.serial_merges:
                story = self._told(number, table, story, table.holds[hold].run)
            for timer in move.timers if self.settings.timeouts else ():
                if timer not in queue:
                    queue = tuple(sorted((*queue, timer)))
            if not holds and self.settings.serial_merges:
                story, fault = self._settle(number, table, move.after, story)
                if fault is not None:
                    return fault
        elif move.outcome is Outcome.AGAIN:
            queue = tuple(sorted(queue + table.items_of(hold)))
        if move.merge is not None:
            queue = tuple(sorted((*queue, move.merge)))
        if queue:
            queue = self._without_idle(table, number, move.after, queue)
        cells, errands = _with(world.cells, number, Cell(move.after, holds, queue, story)), world.errands
        if move.facts or move.decision:
            changed, begun = list(cells), list(errands)
            gone = self._post(changed, begun, move.facts)
            # A decision counts as one wherever it goes, and only as one; what consumers answer to it does not.
            answers = tuple(s for s in self._post(changed, begun, move.decision) if s not in move.decision)
            inside = tuple(s for s in move.facts if s not in gone)
            left = self.departures.add(left, gone + answers, move.decision, inside)
            cells, errands = tuple(changed), tuple(sorted(begun))
        return World(cells, left, world.budget, world.clock_ms, errands, world.shelf)

    def _told(self, cell: int, table: SagaTables, story: int, run: int) -> int:
        """Return the tale of a saga after a run was stored."""
        known = cell, story, run
        found = self._told_before.get(known)
        if found is None:
            found = self._told_before[known] = self._tell(table, self._tales[story], table.runs[run])
        return found

    def _tell(self, table: SagaTables, tale: Tale, run: Run) -> int:
        if run.commit.life != tale.life:
            tale = Tale(life=run.commit.life)
        handled = [item for item in run.items if not self.mail.items[item].is_merge]
        if self.mail.exact:
            handled = [item for item in handled if item not in tale.handled]
        together = tuple(sorted((*tale.handled, *handled)))
        if tale.told or run.told or len(together) > _MOST_HANDLED:
            return self._tale(Tale(told=True, life=tale.life))
        return self._tale(tale._replace(handled=together))

    def _tale(self, tale: Tale) -> int:
        number = self._tale_of.get(tale)
        if number is None:
            number = self._tale_of[tale] = len(self._tales)
            self._tales.append(tale)
        return number

    def _settle(self, cell: int, table: SagaTables, record: int, story: int) -> tuple[int, Fault | None]:
        """Return the tale that begins now that nobody is at work on a saga, having looked at the one that ends."""
        kept = table.records[record]
        if not (kept.single or kept.ended):
            return story, None
        known = cell, record, story
        found = self._settled.get(known)
        if found is None:
            tale = self._tales[story]
            fault = self.check_tale(table, kept, tale)
            assert kept.record is not None
            life = kept.record.life
            opening = Tale() if kept.ended else Tale(table.records.states(record)[0], kept.record.starter, life=life)
            found = self._settled[known] = self._tale(opening), fault
        return found

    def _without_idle(self, table: SagaTables, number: int, record: int, queue: tuple[int, ...]) -> tuple[int, ...]:
        """Return *queue* without the messages that can make no difference any more."""
        known = number, record, queue
        found = self._awake.get(known)
        if found is None:
            found = tuple(item for item in queue if not self._is_idle(table, number, record, item))
            self._awake[known] = found
        return found

    def _is_idle(self, table: SagaTables, number: int, record: int, item: int) -> bool:
        known = number, record, item
        found = self._idle.get(known)
        if found is None:
            found = self._idle[known] = table.is_idle(record, item)
        return found

    # -- consumers at work on documents --------------------------------------------------------------------------

    def _operations(self, world: World, found: list[tuple[Event, World | Fault]]) -> None:
        for errand in dict.fromkeys(world.errands):
            event = Operate(errand)
            found.append((event, self._operate(world, event)))
            begun = self.errands[errand].fresh != errand
            if world.budget.duplicates and not begun:
                again = Operate(errand, kept=True)
                found.append((again, self._operate(world, again)))
            if world.budget.resends and not begun:
                twice = Operate(errand, resent=True)
                found.append((twice, self._operate(world, twice)))
            if world.budget.crashes and begun:
                found.append((Crash(errand), self._crash(world, errand)))

    @property
    def errands(self) -> Errands:
        """Return the consumers at work."""
        assert self.mail.errands is not None, "there are no documents"
        return self.mail.errands

    def _operate(self, world: World, event: Operate) -> World | Fault:
        number, turn = event.errand, self.errands.turn(event.errand)
        errands, budget = _less(world.errands, number), world.budget
        if event.kept:
            errands, budget = (*errands, number), budget._replace(duplicates=budget.duplicates - 1)
        if event.resent:
            nth = self.settings.budget.resends - budget.resends + 1
            errands = (*errands, self.errands.resent(number, nth))
            budget = budget._replace(resends=budget.resends - 1)
        world = world._replace(errands=errands, budget=budget)
        if isinstance(turn, Ends):
            return self._ended(world, turn)
        step = self.errands.step(number, world.shelf)
        fault = _misbehaved(self.errands[number], step.turn)
        if fault is not None:
            return fault
        world = world._replace(shelf=step.shelf)
        if isinstance(step.turn, Ends) and not budget.crashes:
            return self._ended(world, step.turn)
        return world._replace(errands=tuple(sorted((*errands, step.errand))))

    def _ended(self, world: World, turn: Ends) -> World:
        """Return the world once a consumer, which is none of its errands any more, has returned."""
        cells, errands = list(world.cells), list(world.errands)
        said = self.mail.sent(turn.outgoing)
        left = self.departures.add(world.left, self._post(cells, errands, said))
        return world._replace(cells=tuple(cells), errands=tuple(sorted(errands)), left=left)

    def _crash(self, world: World, number: int) -> World:
        errands = tuple(sorted((*_less(world.errands, number), self.errands[number].fresh)))
        budget = world.budget._replace(crashes=world.budget.crashes - 1)
        return world._replace(errands=errands, budget=budget)

    # -- deliveries ----------------------------------------------------------------------------------------------

    def cell(self, key: SagaKey) -> int:
        """Return the number of a saga."""
        number = self._cell_of.get(key)
        if number is None:
            number = self._cell_of[key] = len(self.tables)
            self.tables.append(self.open_table(key))
        return number

    def _into(self, cells: list[Cell], item: int) -> None:
        number = self.cell(self.mail.items[item].key)
        while len(cells) <= number:
            cells.append(_UNTOUCHED)
        cell = cells[number]
        queue = tuple(sorted((*cell.queue, item)))
        cells[number] = cell._replace(queue=self._without_idle(self.tables[number], number, cell.record, queue))

    def _post(self, cells: list[Cell], errands: list[int], sketches: tuple[Sketch, ...]) -> tuple[Sketch, ...]:
        """Put what is sent into the queues, and in consumers' hands; return what nobody here takes."""
        left: tuple[Sketch, ...] = ()
        for sketch in sketches:
            sent = self.mail.send(sketch)
            self._deliver(cells, errands, sent)
            left += sent.left
        return left

    def _deliver(self, cells: list[Cell], errands: list[int], sent: Sent) -> None:
        errands += sent.errands
        for key, sketch in sent.items:
            number = self.cell(key)
            while len(cells) <= number:
                cells.append(_UNTOUCHED)
            cell = cells[number]
            taken = (cell.queue, self._held(self.tables[number], cell.holds))
            self._into(cells, self.mail.fresh(key, sketch, taken))

    # -- failovers -----------------------------------------------------------------------------------------------

    def _roll_back(self, world: World, number: int, cell: Cell) -> World:
        table = self.tables[number]
        move, lost = table.roll_back(cell.record)
        holds = tuple(sorted(table.rename(hold, move) for hold in cell.holds))
        queue = tuple(sorted(cell.queue + lost.items))
        queue = self._without_idle(table, number, move.after, queue)
        budget = world.budget._replace(rollbacks=world.budget.rollbacks - 1)
        cells = _with(world.cells, number, Cell(move.after, holds, queue, lost.story))
        return World(cells, world.left, budget, world.clock_ms, world.errands, world.shelf)


def _less(holds: tuple[int, ...], hold: int) -> tuple[int, ...]:
    place = holds.index(hold)
    return holds[:place] + holds[place + 1 :]


def _misbehaved(errand: Errand, turn: Turn) -> Fault | None:
    """Return what is wrong with a consumer that does this next; where others were faster, all is well."""
    if isinstance(turn, Raises) and not isinstance(turn.error, ConcurrencyError):
        raised = f"{type(turn.error).__name__}: {turn.error}"
        message = say(Incoming(errand.envelope).message)
        return Fault("dead-letter", f"consumer {errand.title} never takes {message}: it raised {raised}")
    if isinstance(turn, Strays):
        message = say(Incoming(errand.envelope).message)
        return Fault(
            "impure",
            f"consumer {errand.title}, run again for {message} with the same answers, asks for {turn.now} and not for "
            f"{turn.before} as before; a consumer that is explored depends on its message and its documents alone",
        )
    return None


def _with(cells: tuple[Cell, ...], number: int, cell: Cell) -> tuple[Cell, ...]:
    if len(cells) == 1:
        return (cell,)
    return (*cells[:number], cell, *cells[number + 1 :])
