"""Telling a schedule: plays it on the stage beside the world it was found in, and puts each step into words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field, frozen

from sagabus.commit import Commit as SagaCommit
from sagabus.commit import HistoryEntry, Lifecycle, Outcome
from sagabus.envelope import Envelope, Incoming, SagaKey
from sagabus.messages import MERGE
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.testing.simulator.desks import DeskError, Desks
from sagabus.testing.simulator.errands import Errand
from sagabus.testing.simulator.mail import Sketch
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.scene import START_MS, Scene, envelope_of
from sagabus.testing.simulator.schedule import Commits, Crashes, Loads, Operates, RollsBack, Schedule, Step
from sagabus.testing.simulator.stage import Committed, Held, Stage, deliveries, renamed
from sagabus.testing.simulator.wording import say
from sagabus.testing.simulator.world import Commit, Crash, Event, Load, Operate, RollBack, World
from sagabus.testing.simulator.worlds import Worlds

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class SimulatorError(AssertionError):
    """The canonical world and the store disagree: a fault of the simulator, never of the saga."""

    def __init__(self, step: int, found: str, played: str) -> None:
        super().__init__(
            f"step {step} came out as {found} in the search and as {played} on the store; "
            f"this is a bug of sagabus: please report it with the saga"
        )


@frozen
class Told:
    """A schedule in words.

    Attributes:
        schedule: as it can be written down.
        lines: what happened, a line a step.
        histories: what the records of the sagas remember.
        committed: what became of each commit, in order.
    """

    schedule: Schedule
    lines: tuple[str, ...]
    histories: tuple[tuple[SagaKey, tuple[HistoryEntry, ...]], ...]
    committed: tuple[Committed, ...]


@define
class _InHand:
    """One worker at work: its letter, its hold in the world, and what it holds on the stage."""

    letter: str
    cell: int
    hold: int
    held: Held


@define
class Teller:
    """Plays one schedule.

    Attributes:
        worlds: the worlds it was found in.
        scene: who takes part.
        stage: where it is played.
    """

    worlds: Worlds
    scene: Scene
    stage: Stage
    _bound: dict[int, Envelope] = field(factory=dict)
    _at_work: list[_InHand] = field(factory=list)
    _lines: list[str] = field(factory=list)
    _committed: list[Committed] = field(factory=list)
    _consumers: Desks | None = None

    def tell(self, opening: World, events: Sequence[Event]) -> Told:
        """Return *events*, a schedule that begins with *opening*, in words.

        Raises:
            SimulatorError: the stage does not agree.
        """
        world = opening
        for number, event in enumerate(events, 1):
            after = self.worlds.after(world, event)
            self.stage.clock.now_ms = START_MS + (
                after.clock_ms if self.worlds.mail.clocked and isinstance(after, World) else number
            )
            match event:
                case Load():
                    self._load(world, event)
                case Commit():
                    self._commit(world, event, after)
                case RollBack(cell):
                    self._roll_back(world, cell)
                case Operate():
                    self._operate(world, event)
                case Crash(errand):
                    self._lines.append(self._desks().crash(errand))
            if isinstance(after, Fault):
                break
            world = after
        keys = [table.key for table in self.worlds.tables]
        histories = tuple((key, tuple(self.stage.history(key))) for key in keys)
        schedule = write_down(self.worlds, opening, events)
        return Told(schedule, tuple(self._lines), histories, tuple(self._committed))

    # -- steps ---------------------------------------------------------------------------------------------------

    def _load(self, world: World, event: Load) -> None:
        table = self.worlds.tables[event.cell]
        items = [self.worlds.mail.items[number] for number in event.items]
        letter = next(letter for letter in _LETTERS if all(w.letter != letter for w in self._at_work))
        held = self.stage.load(table.key, [self._envelope(number) for number in event.items])
        hold = self.worlds.loaded(world, event).hold
        if hold is not None:
            self._at_work.append(_InHand(letter, event.cell, hold, held))
        said = " and ".join(say(item.sketch.message) for item in items)
        line = f"{letter} loads {table.key} ({self._standing(held)}) for {said}"
        if held.commit.merged:
            line += f"; {self._merged(held)}"
        if event.kept:
            again = "it" if len(items) == 1 else say(items[event.kept - 1].sketch.message)
            line += f"; {again} is delivered once more later"
        if event.resent:
            again = "it" if len(items) == 1 else say(items[event.resent - 1].sketch.message)
            line += f"; its sender sends {again} again under a new id"
        self._lines.append(line)

    def _commit(self, world: World, event: Commit, after: World | Fault) -> None:
        table = self.worlds.tables[event.cell]
        worker = next(w for w in self._at_work if w.cell == event.cell and w.hold == event.hold)
        self._at_work.remove(worker)
        done = self.stage.commit(worker.held, worker.letter)
        self._committed.append(done)
        move = self.worlds.move(world, event)
        if (done.result.outcome, done.result.reason) != (move.outcome, move.reason):
            raise SimulatorError(
                len(self._lines) + 1,
                f"{move.outcome.value} {move.reason}",
                f"{done.result.outcome.value} {done.result.reason}",
            )
        if move.changed:
            for other in self._at_work:
                if other.cell == event.cell:
                    other.hold = table.rename(other.hold, move)
        if isinstance(after, World):
            self._bind(done, world, after)
        self._lines.append(f"{worker.letter} commits: {self._came_of(table.key, done)}")

    def _roll_back(self, world: World, cell: int) -> None:
        table = self.worlds.tables[cell]
        move, lost = table.roll_back(self.worlds.cells_of(world)[cell].record)
        for other in self._at_work:
            if other.cell == cell:
                other.hold = table.rename(other.hold, move)
        self.stage.fail_over(table.key)
        names = " and ".join(say(self.worlds.mail.items[number].sketch.message) for number in lost.items)
        self._lines.append(f"the store fails over and loses the last commit of {table.key}; {names} comes again")

    def _operate(self, world: World, event: Operate) -> None:
        try:
            ends = not world.budget.crashes
            played = self._desks().operate(event.errand, world.shelf, ends_at_once=ends)
        except DeskError as error:
            raise SimulatorError(len(self._lines) + 1, error.found, error.played) from error
        line = played.line + (f", and sends {_sent(played.ended)}" if played.ended else "")
        line += "; it is delivered once more" if event.kept else ""
        self._lines.append(line + ("; its sender sends it again under a new id" if event.resent else ""))

    def _desks(self) -> Desks:
        if self._consumers is None:
            self._consumers = Desks(self.scene, self.worlds.errands, self.stage.store.documents)
        return self._consumers

    # -- which message is which ----------------------------------------------------------------------------------

    def _envelope(self, number: int) -> Envelope:
        found = self._bound.get(number)
        if found is None:
            item = self.worlds.mail.items[number]
            if item.given or item.nth == 0:  # the latter from a consumer at work on documents, whose ids are exact
                found = item.incoming.envelope
            else:
                # A twin: the same body as one that came before.
                first = next(e for n, e in self._bound.items() if self.worlds.mail.items[n].sketch is item.sketch)
                found = renamed(first, f"{first.id}.{item.nth}")
            self._bound[number] = found
        return found

    def _bind(self, done: Committed, before: World, after: World) -> None:
        """Note which item of the world is which message on the stage, for all that has just been sent."""
        own, taken = done.held.commit.key, set[int]()
        for outgoing in (*done.facts, *done.decision):
            sketch = self.worlds.mail.sketch(outgoing, done.held.snapshot.now_ms)
            if outgoing.kind is OutgoingKind.TIMER:
                pairs = [((own, sketch), (own, envelope_of(outgoing)))]
            else:
                pairs = list(zip(self.worlds.mail.send(sketch).items, deliveries(self.scene, outgoing), strict=True))
            for (key, says), (_, envelope) in pairs:
                number = self._new(key, says, before, after, taken)
                if number is not None:
                    self._bound[number] = envelope
                    taken.add(number)

    def _new(self, key: SagaKey, says: Sketch, before: World, after: World, taken: set[int]) -> int | None:
        """Return the item that has come into the queue of a saga and says *says*; None where it is idle there."""
        cell = self.worlds.number(key)
        if cell >= len(after.cells):
            return None
        waited = self.worlds.cells[before.cells[cell]].queue if cell < len(before.cells) and not says.is_timer else ()
        for number in self.worlds.cells[after.cells[cell]].queue:
            if self.worlds.mail.items[number].sketch is says and number not in taken and number not in waited:
                return number
        return None

    # -- words ---------------------------------------------------------------------------------------------------

    def _standing(self, held: Held) -> str:
        snapshot = held.snapshot
        if snapshot.lifecycle is Lifecycle.ABSENT:
            return "not started"
        where = " + ".join(str(version.dot) for version in snapshot.versions)
        return f"completed, {where}" if snapshot.lifecycle is Lifecycle.COMPLETED else f"at {where}"

    def _merged(self, held: Held) -> str:
        """Return what the merger makes of the siblings."""
        definition = self.stage.definitions[held.commit.key.name]
        if definition.ancestral or definition.merger is None:
            return "its siblings are folded"
        siblings = [definition.codec.decode(version.state) for version in held.snapshot.versions]
        return f"the merger makes {say(definition.merger(siblings))}"

    def _came_of(self, key: SagaKey, done: Committed) -> str:
        result, commit = done.result, done.held.commit
        if result.outcome is Outcome.AGAIN:
            return f"refused ({_WHY.get(result.reason, result.reason)}), so its messages are handled again"
        if result.outcome is Outcome.DUPLICATE:
            return "its messages were handled already, so nothing changes"
        parts = [self._written(key, done)]
        dropped = result.outcome is Outcome.FORKED and commit.decision is not None
        if dropped:
            said = [m for messages in commit.decision.outgoing.values() for m in messages] if commit.decision else []
            parts.append("the decision is dropped" + (f": {_sent(said)}" if said else ""))
        left = [m for m in done.facts if envelope_of(m).type != MERGE]
        if left:
            parts.append(f"sends {_sent(left)}")
        if done.decision:
            parts.append(f"decides {_sent(done.decision)}")
        if result.posted_merge:
            parts.append("MergeSagaState is posted")
        if result.outcome is Outcome.STORED and commit.completes:
            parts.append("completed")
        return "; ".join(parts)

    def _written(self, key: SagaKey, done: Committed) -> str:
        result, commit = done.result, done.held.commit
        if result.outcome is Outcome.LATE:
            return "late: the saga has completed, and stays as it is"
        if result.dot is None:
            return "nothing changes"
        state = _state_of(commit, result.outcome)
        shown = say(self.stage.definitions[key.name].codec.decode(state)) if state is not None else ""
        beside = f" beside {result.live - 1} other" if result.outcome is Outcome.FORKED and result.live > 1 else ""
        return f"{result.outcome.value} {result.dot}{beside} = {shown}"


def write_down(worlds: Worlds, opening: World, events: Sequence[Event]) -> Schedule:
    """Return *events*, a schedule that begins with *opening*, by the names of sagas and messages."""
    steps: list[Step] = []
    world: World | Fault = opening
    for event in events:
        assert isinstance(world, World), "nothing can come after a fault"
        steps.append(step_of(worlds, world, event))
        world = worlds.after(world, event)
    return tuple(steps)


def step_of(worlds: Worlds, world: World, event: Event) -> Step:
    """Return one event in *world* by the names of saga and messages."""
    if isinstance(event, Operate | Crash):
        return _errand_step(worlds, world, event)
    table, items = worlds.tables[event.cell], worlds.mail.items
    if isinstance(event, Load):
        return Loads(table.key, tuple(items[number].name for number in event.items), event.kept, event.resent)
    if isinstance(event, Commit):
        mine = table.items_of(event.hold)
        alike = sorted(
            {h for h in worlds.cells_of(world)[event.cell].holds if table.items_of(h) == mine}, key=table.order_of
        )
        return Commits(table.key, tuple(items[number].name for number in mine), alike.index(event.hold))
    return RollsBack(table.key)


def _errand_step(worlds: Worlds, world: World, event: Operate | Crash) -> Step:
    errand = worlds.errands[event.errand]
    others = [worlds.errands[number] for number in set(world.errands)]
    alike = sorted(other.order for other in others if _stands(other) == _stands(errand))
    where = *_stands(errand), alike.index(errand.order)
    return Operates(*where, event.kept, event.resent) if isinstance(event, Operate) else Crashes(*where)


def _stands(errand: Errand) -> tuple[str, str, str, int]:
    """Return which consumer is how far with which message."""
    return errand.endpoint, errand.consumer.name, errand.envelope.id, len(errand.past)


_WHY: Final = {
    "consumed": "somebody else has handled one of them",
    "completed": "the saga has completed meanwhile",
    "life": "it is another life of the saga",
    "clock": "it has seen what the failover lost",
    "merged": "somebody else has merged the siblings",
    "settle": "it has to settle the saga, and somebody else was faster",
    "siblings": "the saga has as many siblings as it may have",
}


def _state_of(commit: SagaCommit, outcome: Outcome) -> bytes | None:
    if outcome is Outcome.STORED and commit.decision is not None and commit.decision.state is not None:
        return commit.decision.state
    return commit.facts.state


def _sent(outgoing: Sequence[Outgoing]) -> str:
    return ", ".join(_each(outgoing))


def _each(outgoing: Sequence[Outgoing]) -> Iterator[str]:
    for message in outgoing:
        said = say(Incoming(envelope_of(message)).message)
        if message.kind is OutgoingKind.COMMAND:
            yield f"{said} to {message.to}"
        elif message.kind is OutgoingKind.TIMER:
            yield f"{said} by timer"
        else:
            yield said
