"""The random search, for what is too large to be looked at whole: half of its schedules uniform, half after PCT.

PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte: "A Randomized Scheduler with Probabilistic Guarantees of Finding
Bugs", ASPLOS 2010) gives every task a priority and lowers that of the running one at d - 1 random steps; a race that
takes d ordered steps is found with a probability that does not vanish as schedules grow. A task is here what a worker
does about one load: the load, and its commit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from sagabus.testing.session import Progress
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.search import Ending, Found
from sagabus.testing.simulator.verdict import Judge
from sagabus.testing.simulator.world import Commit, Event, Load, Operate, World, may_end
from sagabus.testing.simulator.worlds import Worlds

MAX_STEPS: Final = 5_000
_DEPTHS: Final = (2, 3, 4, 5)
_REPORT_EVERY: Final = 64

Choose = Callable[[list[tuple[Event, World | Fault]]], int]
"""Returns which of the possible steps is taken."""


@define
class Sampling:
    """A random search and what it has found; attributes as of `Search`.

    Attributes:
        seed: schedule number i follows from it and i alone.
        longest: how many steps the longest schedule had so far.
    """

    worlds: Worlds
    judge: Judge
    seed: int
    failure: Found | None = None
    endings: list[Ending] = field(factory=list)
    transitions: int = 0
    schedules: int = 0
    longest: int = 20
    _seen: set[World] = field(factory=set)

    @property
    def states(self) -> int:
        """Return how many different worlds were passed."""
        return len(self._seen)

    def run(self, opening: World, runs: int, progress: Progress | None = None) -> None:
        """Try *runs* schedules, or until something is wrong."""
        for number in range(runs):
            chance = random.Random(f"{self.seed}/{number}")
            choose = _uniform(chance) if number % 2 == 0 else self._pct(chance, number // 2)
            self.schedules += 1
            if not self._follow(opening, choose):
                return
            if progress is not None and number % _REPORT_EVERY == 0:
                progress(number, runs - number)

    def _follow(self, world: World, choose: Choose) -> bool:
        """Take one schedule to its end; return whether to go on."""
        events: list[Event] = []
        while True:
            possible = self.worlds.events(world)
            if not possible:
                break
            if may_end(possible) and not self._end(world, tuple(events)):
                return False
            event, after = possible[choose(possible)]
            events.append(event)
            self.transitions += 1
            fault = after if isinstance(after, Fault) else self.judge.now(after)
            if fault is None and len(events) >= MAX_STEPS:
                fault = Fault("livelock", f"after {MAX_STEPS} steps it still goes on")
            if fault is not None:
                self.failure = Found(tuple(events), fault)
                return False
            assert not isinstance(after, Fault)
            world = after
            self._seen.add(world)
        self.longest = max(self.longest, len(events))
        return self._end(world, tuple(events))

    def _pct(self, chance: random.Random, number: int) -> Choose:
        return _pct(self.worlds, chance, _DEPTHS[number % len(_DEPTHS)], self.longest)

    def _end(self, world: World, events: tuple[Event, ...]) -> bool:
        fault = self.judge.finally_(world)
        if fault is None:
            outcome = self.judge.outcome(world)
            fault = self._note(outcome, events)
        if fault is not None:
            self.failure = Found(events, fault)
        return fault is None

    def _note(self, outcome: Any, events: tuple[Event, ...]) -> Fault | None:
        for place, ending in enumerate(self.endings):
            if ending.outcome == outcome:
                shorter = min(ending.example, events, key=len)
                self.endings[place] = Ending(ending.outcome, ending.schedules + 1, shorter)
                return None
        self.endings.append(Ending(outcome, 1, events))
        return self.judge.other_outcome(outcome)


def _uniform(chance: random.Random) -> Choose:
    return lambda possible: chance.randrange(len(possible))


def _pct(worlds: Worlds, chance: random.Random, depth: int, length: int) -> Choose:
    changes = set(chance.sample(range(1, max(length, depth) + 1), depth - 1))
    priorities: dict[Any, float] = {}
    step = 0

    def choose(possible: list[tuple[Event, World | Fault]]) -> int:
        nonlocal step
        step += 1
        tasks = [_task(worlds, event) for event, _ in possible]
        for task in tasks:
            if task not in priorities:
                priorities[task] = 1 + chance.random()
        best = max(range(len(possible)), key=lambda place: (priorities[tasks[place]], -place))
        if step in changes:
            priorities[tasks[best]] = -float(step)
        return best

    return choose


def _task(worlds: Worlds, event: Event) -> Any:
    """Return what a step belongs to: a load and its commit to each other, a consumer's operations likewise."""
    if isinstance(event, Load):
        return event.cell, event.items, event.kept, event.resent
    if isinstance(event, Commit):
        table = worlds.tables[event.cell]
        return event.cell, table.holds[event.hold].run
    if isinstance(event, Operate):
        return worlds.errands[event.errand].fresh
    return event
