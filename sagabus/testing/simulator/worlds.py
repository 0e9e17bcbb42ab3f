"""What can happen in a world, and what comes of it: loads, commits, failovers, and messages on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from attrs import field, frozen

from sagabus.envelope import Incoming, SagaKey
from sagabus.errors import ConcurrencyError
from sagabus.testing.simulator.cells import Cells, Posting, Spent, Step
from sagabus.testing.simulator.departures import NOTHING, Departures
from sagabus.testing.simulator.errands import Ends, Errand, Errands, Raises, Strays, Turn
from sagabus.testing.simulator.mail import Mail, Sent, Sketch
from sagabus.testing.simulator.records import ABSENT, Kept
from sagabus.testing.simulator.runs import Fault, Loaded
from sagabus.testing.simulator.sagas import Move, SagaTables
from sagabus.testing.simulator.scene import Input
from sagabus.testing.simulator.tales import Tales
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import Budget, Cell, Commit, Crash, Event, Load, Operate, Settings, Tale, World

_new_world: Final = partial(tuple.__new__, World)


class _Act(NamedTuple):
    """The next operation of a consumer.

    Attributes:
        event: the operation.
        begun: whether it has performed others before.
        fault: what must not be; nothing else is said then.
        shelf: the number of what the documents are then.
        errand: the number of the errand then.
        posting: what the consumer sends, having returned; None where it goes on.
    """

    event: Operate
    begun: bool
    fault: Fault | None
    shelf: int
    errand: int
    posting: Posting | None = None


@frozen(eq=False)
class Worlds:
    """Says what can happen in a world, and what comes of it. Remembers what it has worked out; otherwise pure.

    Attributes:
        mail: the messages.
        settings: what may happen.
        open_table: makes the table of a saga.
        check_tale: looks at a settled saga: (its table, its record, its tale) -> what is wrong.
        cells: the sagas.
        departures: what has left.
    """

    mail: Mail
    settings: Settings
    open_table: Callable[[SagaKey], SagaTables]
    check_tale: Callable[[SagaTables, Kept, Tale], Fault | None]
    cells: Cells = field(init=False)
    departures: Departures = field(factory=Departures, init=False)
    _number_of: dict[SagaKey, int] = field(factory=dict, init=False)
    _steps: dict[tuple[int, Budget, int], list[Step]] = field(factory=dict, init=False)
    _delivered: dict[tuple[int, Sketch], int] = field(factory=dict, init=False)
    _acts: dict[tuple[int, int, bool], _Act] = field(factory=dict, init=False)
    _ended: dict[int, Posting] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        cells = Cells(self.mail, self.settings, Tales(self.mail, self.check_tale))
        object.__setattr__(self, "cells", cells)

    @property
    def tables(self) -> list[SagaTables]:
        """Return what was worked out for each saga."""
        return self.cells.tables

    # -- the beginning -------------------------------------------------------------------------------------------

    def opening(self, inputs: tuple[Input, ...], shelf: int = 0) -> World:
        """Return the world in which everything given is in the queues and nothing has been handled."""
        cells: list[int] = []
        errands: list[int] = []
        left: tuple[Sketch, ...] = ()
        for given in inputs:
            for number in self.mail.give(given):
                self._into(cells, number)
            sent = self.mail.consume(given.envelope)
            self._deliver(cells, errands, sent)
            left += sent.left
        gone = self.departures.add(NOTHING, self.departures.sums(left))
        return World(tuple(cells), gone, self.settings.budget, 0, tuple(sorted(errands)), shelf)

    # -- what can happen -----------------------------------------------------------------------------------------

    def events(self, world: World) -> list[tuple[Event, World | Fault]]:
        """Return all that can happen next, each with what comes of it."""
        found: list[tuple[Event, World | Fault]] = []
        cells, left, budget, clock_ms, errands, shelf = world
        # One saga alone is hardly ever met again as it is; several are, beside each other.
        again = len(cells) > 1 or bool(errands)
        for saga, now in enumerate(cells):
            steps: Iterable[Step] | None = self._steps.get((now, budget, clock_ms)) if again else None
            if steps is None:
                steps = self.cells.steps(now, budget, clock_ms)
                steps = self._remembered((now, budget, clock_ms), steps) if again else steps
            # What comes of one is worked out before the next is looked at, so that numbers are given in this order.
            for event, at, beside in steps:
                if beside is None:
                    changed = (at,) if len(cells) == 1 else (*cells[:saga], at, *cells[saga + 1 :])
                    found.append((event, _new_world((changed, left, budget, clock_ms, errands, shelf))))
                else:
                    found.append((event, self._after(world, saga, at, beside)))
        if world.errands:
            self._operations(world, found)
        return found

    def after(self, world: World, event: Event) -> World | Fault:
        """Return what comes of one event."""
        if isinstance(event, Operate):
            return self._operate(world, event)
        if isinstance(event, Crash):
            return self._crash(world, event.errand)
        saga = event.cell
        _, at, beside = self.cells.step(world.cells[saga], event, world.budget, world.clock_ms)
        return self._after(world, saga, at, beside)

    def cells_of(self, world: World) -> tuple[Cell, ...]:
        """Return the sagas of a world."""
        return tuple(self.cells[at] for at in world.cells)

    def records_of(self, world: World) -> tuple[int, ...]:
        """Return the numbers of the sagas' records."""
        return tuple([self.cells.record(at) for at in world.cells])

    def loaded(self, world: World, event: Load) -> Loaded:
        """Return what a worker has in hand after a load."""
        return self.cells.loaded(world.cells[event.cell], event, world.clock_ms)

    def move(self, world: World, event: Commit) -> Move:
        """Return what the store makes of a commit."""
        return self.cells.move(world.cells[event.cell], event.hold)

    def _after(self, world: World, saga: int, at: int, beside: Fault | Posting | Spent | None) -> World | Fault:
        cells, left, budget, clock_ms, errands, shelf = world
        cells = (*cells[:saga], at, *cells[saga + 1 :])
        if isinstance(beside, Posting):
            if beside.deliveries or beside.errands or not beside.sent:
                cells, errands = self._post(cells, errands, beside)
            left = beside.sums.after.get(left) or self.departures.add(left, beside.sums)
        elif isinstance(beside, Fault):
            return beside
        elif beside is not None:
            budget, clock_ms, resent = beside
            if resent is not None:
                cells = self._resend(cells, resent)
        after: World = _new_world((cells, left, budget, clock_ms, errands, shelf))
        return after

    def _remembered(self, known: tuple[int, Budget, int], steps: Iterable[Step]) -> Iterator[Step]:
        """Yield *steps*, and remember them when all were taken."""
        found: list[Step] = []
        for step in steps:
            found.append(step)
            yield step
        self._steps[known] = found

    def _resend(self, cells: tuple[int, ...], number: int) -> tuple[int, ...]:
        """Return *cells* after the sender of an item has sent the same body again, under a new id."""
        nth = self.mail.items[number].nth + 1
        while any(self._is_there(cells, *copy) for copy in self.mail.copies(number, nth)):
            nth += 1
        changed = list(cells)
        for copy, _ in self.mail.copies(number, nth):
            self._into(changed, copy)
        return tuple(changed)

    def _is_there(self, cells: tuple[int, ...], number: int, begins: bool) -> bool:
        saga = self.number(self.mail.items[number].key)
        if saga >= len(cells):
            return False
        cell = self.cells[cells[saga]]
        known = number in cell.queue or number in self.cells.held(saga, cell.holds)
        return known or (begins and cell.record != ABSENT)

    # -- consumers at work on documents --------------------------------------------------------------------------

    def _operations(self, world: World, found: list[tuple[Event, World | Fault]]) -> None:
        errands, budget = world.errands, world.budget
        for place, errand in enumerate(errands):
            if place and errands[place - 1] == errand:
                continue
            act = self._act(errand, world.shelf, budget)
            others = errands[:place] + errands[place + 1 :]
            found.append((act.event, self._acted(world, act, others, budget)))
            if act.begun:
                if budget.crashes:
                    found.append((Crash(errand), self._crash(world, errand)))
                continue
            if budget.duplicates:
                again = Operate(errand, kept=True)
                found.append((again, self._operate(world, again)))
            if budget.resends:
                twice = Operate(errand, resent=True)
                found.append((twice, self._operate(world, twice)))

    @property
    def errands(self) -> Errands:
        """Return the consumers at work."""
        assert self.mail.errands is not None, "there are no documents"
        return self.mail.errands

    def _operate(self, world: World, event: Operate) -> World | Fault:
        number, errands, budget = event.errand, _less(world.errands, event.errand), world.budget
        if event.kept:
            errands, budget = (*errands, number), budget._replace(duplicates=budget.duplicates - 1)
        if event.resent:
            nth = self.settings.budget.resends - budget.resends + 1
            errands = (*errands, self.errands.resent(number, nth))
            budget = budget._replace(resends=budget.resends - 1)
        return self._acted(world, self._act(number, world.shelf, world.budget), errands, budget)

    def _act(self, number: int, shelf: int, budget: Budget) -> _Act:
        """Return what comes of the next operation of a consumer."""
        known = number, shelf, budget.crashes > 0
        found = self._acts.get(known)
        if found is None:
            found = self._acts[known] = self._perform(*known)
        return found

    def _perform(self, number: int, shelf: int, crashes: bool) -> _Act:
        event, turn, begun = Operate(number), self.errands.turn(number), self.errands[number].fresh != number
        if not isinstance(turn, Ends):
            step = self.errands.step(number, shelf)
            fault = _misbehaved(self.errands[number], step.turn)
            number, turn, shelf = step.errand, step.turn, step.shelf
            if fault is not None or crashes or not isinstance(turn, Ends):
                return _Act(event, begun, fault, shelf, number)
        # It has returned, and is none of the errands any more.
        posting = self._ended.get(number)
        if posting is None:
            posting = self._ended[number] = Posting(self.mail.sent(turn.outgoing), by_consumer=True)
        return _Act(event, begun, None, shelf, number, posting)

    def _acted(self, world: World, act: _Act, errands: tuple[int, ...], budget: Budget) -> World | Fault:
        """Return the world after an operation, *errands* being all others."""
        _, _, fault, shelf, number, posting = act
        if fault is not None:
            return fault
        cells, left, _, clock_ms, _, _ = world
        if posting is None:
            errands = tuple(sorted((*errands, number)))
        else:
            cells, errands = self._post(cells, errands, posting)
            left = self.departures.add(left, posting.sums)
        after: World = _new_world((cells, left, budget, clock_ms, errands, shelf))
        return after

    def _crash(self, world: World, number: int) -> World:
        errands = tuple(sorted((*_less(world.errands, number), self.errands[number].fresh)))
        budget = world.budget._replace(crashes=world.budget.crashes - 1)
        return world._replace(errands=errands, budget=budget)

    # -- deliveries ----------------------------------------------------------------------------------------------

    def number(self, key: SagaKey) -> int:
        """Return the number of a saga."""
        number = self._number_of.get(key)
        if number is None:
            number = self._number_of[key] = len(self.tables)
            self.cells.open(self.open_table(key))
        return number

    def _into(self, cells: list[int], item: int) -> None:
        saga = self.number(self.mail.items[item].key)
        self._grow(cells, saga)
        cells[saga] = self.cells.with_item(cells[saga], item)

    def _post(
        self, cells: tuple[int, ...], errands: tuple[int, ...], posting: Posting
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Put what is sent into the queues, and in consumers' hands; return all of them."""
        changed, begun = list(cells), list(errands)
        if posting.sent:
            for saga, sketch in posting.deliveries:
                self._deliver_to(changed, saga, sketch)
            begun += posting.errands
        else:
            self._post_first(changed, begun, posting)
        return tuple(changed), tuple(sorted(begun))

    def _post_first(self, cells: list[int], errands: list[int], posting: Posting) -> None:
        facts, decision = posting.facts, posting.decision
        gone = self._send(cells, errands, facts)
        # A decision counts as one wherever it goes, and only as one; what consumers answer to it does not.
        answers = tuple(s for s in self._send(cells, errands, decision) if s not in decision)
        inside = () if posting.by_consumer else tuple(s for s in facts if s not in gone)
        all_sent = [self.mail.send(sketch) for sketch in (*facts, *decision)]
        posting.sums = self.departures.sums(gone + answers, decision, inside)
        posting.deliveries = tuple((self.number(key), sketch) for sent in all_sent for key, sketch in sent.items)
        posting.errands = tuple(errand for sent in all_sent for errand in sent.errands)
        posting.sent = True

    def _send(self, cells: list[int], errands: list[int], sketches: tuple[Sketch, ...]) -> tuple[Sketch, ...]:
        """Put what is sent into the queues, and in consumers' hands; return what nobody here takes."""
        left: tuple[Sketch, ...] = ()
        for sketch in sketches:
            sent = self.mail.send(sketch)
            self._deliver(cells, errands, sent)
            left += sent.left
        return left

    def _deliver(self, cells: list[int], errands: list[int], sent: Sent) -> None:
        errands += sent.errands
        for key, sketch in sent.items:
            self._deliver_to(cells, self.number(key), sketch)

    def _deliver_to(self, cells: list[int], saga: int, sketch: Sketch) -> None:
        self._grow(cells, saga)
        known = cells[saga], sketch
        found = self._delivered.get(known)
        if found is None:
            cell = self.cells[cells[saga]]
            taken = cell.queue, self.cells.held(saga, cell.holds)
            item = self.mail.fresh(self.tables[saga].key, sketch, taken)
            found = self._delivered[known] = self.cells.with_item(cells[saga], item)
        cells[saga] = found

    def _grow(self, cells: list[int], saga: int) -> None:
        while len(cells) <= saga:
            cells.append(self.cells.untouched(len(cells)))


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
