"""An inquiry: one scene, its messages and what is expected, ready to be searched, sampled, replayed and told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen

from sagabus.documents.documents import Documents, Key
from sagabus.documents.write import DocumentStore
from sagabus.envelope import SagaKey
from sagabus.store.memory import apply_commit
from sagabus.testing.session import Progress
from sagabus.testing.simulator.errands import Errands
from sagabus.testing.simulator.examiner import Examiner
from sagabus.testing.simulator.mail import Mail
from sagabus.testing.simulator.purity import ClockMattersError
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.sagas import Rules, SagaTables
from sagabus.testing.simulator.sampling import MAX_STEPS, Sampling
from sagabus.testing.simulator.scene import Scene
from sagabus.testing.simulator.schedule import LeavesOut, Schedule
from sagabus.testing.simulator.search import Found, Search
from sagabus.testing.simulator.serial import SerialOrders
from sagabus.testing.simulator.shelves import ShelfStore
from sagabus.testing.simulator.stage import Stage
from sagabus.testing.simulator.telling import Teller, Told, step_of
from sagabus.testing.simulator.verdict import Expectations, Judge
from sagabus.testing.simulator.world import Commit, Event, Settings, World, may_end
from sagabus.testing.simulator.worlds import Worlds

T = TypeVar("T")
_MOST_WORLDS: Final = 100_000


@frozen(eq=False)
class _Ready:
    worlds: Worlds
    judge: Judge
    opening: World


@frozen(eq=False)
class Inquiry:
    """What is asked.

    Attributes:
        scene: who takes part.
        start, messages: what is in the queues from the beginning.
        settings: what may happen.
        expectations: what must come of it.
        rules: what the store does with a commit.
        left_out: the names of those messages that are not there after all.
        clocked: whether it is known that time matters.
        examined: whether runs are examined for purity, and mergers for their laws.
        merger_laws: whether mergers are.
        documents: what stands under which key at the beginning; None where consumers have no documents.
    """

    scene: Scene
    start: tuple[Any, ...]
    messages: tuple[Any, ...]
    settings: Settings
    expectations: Expectations
    rules: Rules = apply_commit
    left_out: tuple[str, ...] = ()
    clocked: bool = False
    examined: bool = True
    merger_laws: bool = True
    documents: tuple[tuple[Key, Any], ...] | None = None
    _ready: list[_Ready] = field(factory=list, init=False)

    # -- asking --------------------------------------------------------------------------------------------------

    def search(self, max_states: int, progress: Progress | None = None) -> tuple[Inquiry, Search]:
        """Return what an exhaustive search finds, and the inquiry that was really made: time may turn out to matter."""

        def ask(inquiry: Inquiry) -> Search:
            ready = inquiry.ready()
            search = Search(ready.worlds, ready.judge)
            search.run(ready.opening, max_states, progress)
            return search

        return self._asked(ask)

    def sample(self, runs: int, seed: int, progress: Progress | None = None) -> tuple[Inquiry, Sampling]:
        """Return what *runs* random schedules find; likewise."""

        def ask(inquiry: Inquiry) -> Sampling:
            ready = inquiry.ready()
            sampling = Sampling(ready.worlds, ready.judge, seed)
            sampling.run(ready.opening, runs, progress)
            return sampling

        return self._asked(ask)

    def follow(self, schedule: Schedule, *, finish: bool = True) -> tuple[Inquiry, Found]:
        """Return what comes of *schedule*: steps that cannot be taken are passed over; likewise.

        Args:
            finish: whether to go on to the end where it ends before.
        """
        if schedule and isinstance(schedule[0], LeavesOut):
            return self.without(*schedule[0].messages).follow(schedule[1:], finish=finish)
        return self._asked(lambda inquiry: inquiry._follow(schedule, finish))

    def plain(self) -> tuple[Inquiry, Found]:
        """Return what comes of handling one message after the other, in the order in which they were given."""
        return self.follow(())

    def tell(self, events: Sequence[Event]) -> Told:
        """Return a schedule in words, having played it on a real store in memory."""
        ready = self.ready()
        stage = Stage.of(self.scene)
        self._lay_out(stage.store.documents)
        told = Teller(ready.worlds, self.scene, stage).tell(ready.opening, events)
        return evolve(told, schedule=(LeavesOut(self.left_out), *told.schedule)) if self.left_out else told

    def without(self, *names: str) -> Inquiry:
        """Return the same inquiry without some of its messages; the others keep their names."""
        return evolve(self, left_out=(*self.left_out, *names))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the messages, those that start sagas not among them."""
        numbers = range(len(self.start) + 1, len(self.start) + len(self.messages) + 1)
        return tuple(name for name in map("m{}".format, numbers) if name not in self.left_out)

    def ready(self) -> _Ready:
        """Return worlds, judge and opening; made once."""
        if not self._ready:
            self._ready.append(self._prepare())
        return self._ready[0]

    # -- how -----------------------------------------------------------------------------------------------------

    def _asked(self, ask: Callable[[Inquiry], T]) -> tuple[Inquiry, T]:
        try:
            return self, ask(self)
        except ClockMattersError:
            with_time = evolve(self, clocked=True)
            return with_time, ask(with_time)

    def _prepare(self) -> _Ready:
        settings, scene = self.settings, self.scene
        inputs = scene.inputs(self.start, self.messages, self.left_out)
        errands = None if self.documents is None else Errands(scene)
        exact = bool(settings.budget.duplicates or settings.budget.rollbacks) or errands is not None
        mail = Mail(scene, exact=exact, clocked=self.clocked, errands=errands)

        worlds = Worlds(mail, settings, self._tables(mail), SerialOrders().check)
        shelf = ShelfStore(errands.shelves) if errands is not None else None
        if shelf is not None:
            self._lay_out(shelf)
        opening = worlds.opening(inputs, shelf.number if shelf is not None else 0)
        first = next((key for given in inputs if given.starts for key in given.keys), None)
        if first is None and worlds.tables:
            first = worlds.tables[0].key
        judge = Judge(worlds, self.expectations, first)
        ready = _Ready(worlds, judge, opening)
        if self.expectations.outcomes is None:
            judge.baseline.extend(_plain_outcome(ready))
        return ready

    def _tables(self, mail: Mail) -> Callable[[SagaKey], SagaTables]:
        """Return what makes the table of a saga. It does not hold this inquiry, which holds what it makes."""
        scene, rules, rollbacks = self.scene, self.rules, self.settings.budget.rollbacks
        examined, clocked, merger_laws = self.examined, self.clocked, self.merger_laws
        examiners: dict[str, Examiner] = {}

        def table(key: SagaKey) -> SagaTables:
            definition = scene.definitions[key.name]
            if not examined:
                return SagaTables(key, definition, mail, rules, rollbacks=rollbacks)
            if key.name not in examiners:
                examiners[key.name] = Examiner(definition, clocked, merger_laws)
            # A fold with ancestors goes by size and dot, and only its binary steps are examined.
            dot_order = definition.ancestral or not merger_laws
            return SagaTables(key, definition, mail, rules, examiners[key.name], rollbacks, dot_order)

        return table

    def _lay_out(self, store: DocumentStore) -> None:
        """Write the documents that there are at the beginning."""
        for key, value in self.documents or ():
            Documents(lambda: store).create(key, value)

    def _follow(self, schedule: Schedule, finish: bool) -> Found:
        ready = self.ready()
        worlds, world = ready.worlds, ready.opening
        events: list[Event] = []
        passed = {world}
        for step in schedule:
            for event, after in worlds.events(world):
                if step_of(worlds, world, event) == step:
                    events.append(event)
                    fault = after if isinstance(after, Fault) else ready.judge.now(after)
                    if fault is not None or isinstance(after, Fault):
                        return Found(tuple(events), fault)
                    world = after
                    if world in passed and _never_ends(ready, world):
                        return Found(tuple(events), Fault("livelock", "it never ends: it goes round in circles"))
                    passed.add(world)
                    break
        more, end = _run_plain(ready, world) if finish else ((), world)
        events += more
        if isinstance(end, Fault):
            return Found(tuple(events), end)
        if not finish and not may_end(worlds.events(end)):
            return Found(tuple(events), None)
        fault = ready.judge.finally_(end) or ready.judge.other_outcome(ready.judge.outcome(end))
        return Found(tuple(events), fault)


def _run_plain(ready: _Ready, world: World) -> tuple[tuple[Event, ...], World | Fault]:
    """Go on from *world* without a race: commit what is in hand, then load the first message; to the end."""
    events: list[Event] = []
    while len(events) < MAX_STEPS:
        possible = ready.worlds.events(world)
        if may_end(possible):
            return tuple(events), world
        event, after = next((p for p in possible if isinstance(p[0], Commit)), possible[0])
        events.append(event)
        fault = after if isinstance(after, Fault) else ready.judge.now(after)
        if fault is not None or isinstance(after, Fault):
            assert fault is not None
            return tuple(events), fault
        world = after
    return tuple(events), Fault("livelock", f"after {MAX_STEPS} steps it still goes on")


def _never_ends(ready: _Ready, world: World) -> bool:
    """Return whether nothing that can come of *world* is an end; False where that is too much to look at."""
    found, todo = {world}, [world]
    while todo:
        possible = ready.worlds.events(todo.pop())
        if may_end(possible) or len(found) > _MOST_WORLDS:
            return False
        fresh = {after for _, after in possible if isinstance(after, World)} - found
        found |= fresh
        todo += fresh
    return True


def _plain_outcome(ready: _Ready) -> list[Any]:
    """Return the outcome of handling one message after the other; none where that goes wrong."""
    _, end = _run_plain(ready, ready.opening)
    return [] if isinstance(end, Fault) else [ready.judge.outcome(end)]
