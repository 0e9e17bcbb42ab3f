"""The exhaustive search: breadth first, so that the first failure is found by the shortest schedule."""

from __future__ import annotations

import gc
import math
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from attrs import define, field, frozen

from sagabus.testing.session import Progress
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.verdict import Judge
from sagabus.testing.simulator.world import Event, World, may_end
from sagabus.testing.simulator.worlds import Worlds

_REPORT_EVERY: Final = 4096


@frozen
class Found:
    """A schedule that ends in something worth telling.

    Attributes:
        events: the schedule.
        fault: what is wrong; None for an example.
    """

    events: tuple[Event, ...]
    fault: Fault | None


@frozen
class Ending:
    """One way in which schedules end.

    Attributes:
        outcome: what they amount to.
        schedules: how many there are; infinite where one can go round in circles.
        example: the shortest of them.
    """

    outcome: Any
    schedules: float
    example: tuple[Event, ...]


@define
class Search:
    """An exhaustive search and what it has found.

    Attributes:
        failure: the shortest schedule that breaks something.
        endings: the ways in which schedules end.
        states: how many worlds were looked at.
        schedules: how many schedules there are; infinite where one can go round in circles.
        complete: whether all worlds were looked at.
    """

    worlds: Worlds
    judge: Judge
    failure: Found | None = None
    endings: list[Ending] = field(factory=list)
    states: int = 0
    schedules: float = 0
    complete: bool = False
    _found: list[World] = field(factory=list)
    _before: array[int] = field(factory=lambda: array("q"))
    _by: list[Event | None] = field(factory=list)
    _targets: array[int] = field(factory=lambda: array("q"))
    _firsts: array[int] = field(factory=lambda: array("q"))
    _failing: bool = False
    _ends: list[tuple[int, int]] = field(factory=list)
    _outcomes: dict[Any, int] = field(factory=dict)

    @property
    def transitions(self) -> int:
        """Return how many steps between worlds were looked at, the one that breaks something among them."""
        return len(self._targets) + self._failing

    def run(self, opening: World, max_states: int, progress: Progress | None = None) -> None:
        """Look at every world that can be reached, up to *max_states* of them, or until something is wrong."""
        with no_collections():
            self._run(opening, max_states, progress)
            if self.complete:
                circular = self._count()
                if circular and self.failure is None:
                    self._look_for_circles()

    def _run(self, opening: World, max_states: int, progress: Progress | None) -> None:
        numbers: dict[World, int] = {opening: 0}
        found, by, before, targets = self._found, self._by, self._before, self._targets
        found.append(opening)
        by.append(None)
        before.append(-1)
        events = self.worlds.events
        watches = bool(self.judge.expectations.always)
        # This is passed once for each step that there is.
        at = 0
        while at < len(found):
            self._firsts.append(len(targets))
            possible = events(found[at])
            for event, after in possible:
                if isinstance(after, Fault):
                    self._fail(at, event, after)
                    return
                number = numbers.setdefault(after, len(found))
                if number == len(found):
                    found.append(after)
                    before.append(at)
                    by.append(event)
                    fault = self.judge.now(after) if watches else None
                    if fault is not None:
                        self._fail(at, event, fault)
                        return
                targets.append(number)
            if may_end(possible) and not self._end(at):
                return
            at += 1
            if at % _REPORT_EVERY == 0 and progress is not None:
                progress(len(found), len(found) - at)
            if len(found) > max_states:
                self.states = at
                return
        self.states = at
        self.complete = True

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(self, at: int) -> bool:
        """Judge a world in which nothing needs to happen any more; return whether to go on."""
        world = self._found[at]
        fault = self.judge.finally_(world)
        if fault is not None:
            self._fail(at, None, fault)
            return False
        outcome, many = self.judge.outcome(world), len(self._outcomes)
        number = self._outcomes.setdefault(outcome, many)
        self._ends.append((at, number))
        if self.failure is None and number == many:
            fault = self.judge.other_outcome(outcome)
            if fault is not None:
                self.failure = Found(self.path(at), fault)
        return True

    def _fail(self, at: int, event: Event | None, fault: Fault) -> None:
        self.states = at
        self._failing = event is not None
        events = self.path(at)
        self.failure = Found(events if event is None else (*events, event), fault)

    def path(self, at: int) -> tuple[Event, ...]:
        """Return the shortest schedule that leads to a world."""
        events: list[Event] = []
        while True:
            event = self._by[at]
            if event is None:
                return tuple(reversed(events))
            events.append(event)
            at = self._before[at]

    def examples(self) -> Iterator[tuple[Any, tuple[Event, ...]]]:
        """Yield each outcome with the shortest schedule that has it."""
        first = {number: at for at, number in reversed(self._ends)}
        for outcome, number in self._outcomes.items():
            yield outcome, self.path(first[number])

    # -- circles and counts --------------------------------------------------------------------------------------

    def _look_for_circles(self) -> None:
        """Fail where a world is reached from which no schedule ever ends."""
        into: list[list[int]] = [[] for _ in self._found]
        firsts = [*self._firsts, len(self._targets)]
        for source in range(len(self._found)):
            for target in self._targets[firsts[source] : firsts[source + 1]]:
                into[target].append(source)
        ends = deque(at for at, _ in self._ends)
        reaches = bytearray(len(self._found))
        for at in ends:
            reaches[at] = 1
        while ends:
            for source in into[ends.popleft()]:
                if not reaches[source]:
                    reaches[source] = 1
                    ends.append(source)
        hopeless = reaches.find(0)
        if hopeless >= 0:
            lead, circle = self._circle(hopeless)
            said = f"it never ends: from here on nothing leads to an end, and the last {len(circle)} steps can repeat"
            self.failure = Found((*self.path(hopeless), *lead, *circle), Fault("livelock", said))

    def _circle(self, at: int) -> tuple[list[Event], list[Event]]:
        """Return steps that lead from a world, of which nothing ends, into a circle, and those of the circle."""
        passed: dict[World, int] = {}
        events: list[Event] = []
        world = self._found[at]
        while world not in passed:
            passed[world] = len(events)
            event, after = self.worlds.events(world)[0]
            assert isinstance(after, World)
            events.append(event)
            world = after
        return events[: passed[world]], events[passed[world] :]

    def _count(self) -> bool:
        """Count the schedules that lead to each end: the sum over the ways in, in an order that respects them.

        Return whether there is no such order, because some go round in circles.
        """
        targets = self._targets
        missing = array("q", bytes(8 * len(self._found)))
        for target in targets:
            missing[target] += 1
        # Where the steps from each world begin, and end.
        firsts = [*self._firsts, len(targets)]
        ways: list[float] = [0] * len(self._found)
        ways[0] = 1
        ready = [0] if not missing[0] else []
        done = 0
        while ready:
            at = ready.pop()
            done += 1
            more = ways[at]
            for target in targets[firsts[at] : firsts[at + 1]]:
                ways[target] += more
                missing[target] -= 1
                if not missing[target]:
                    ready.append(target)
        circular = done < len(self._found)
        if circular:
            ways = [math.inf] * len(self._found)
        counts: list[float] = [0] * len(self._outcomes)
        for at, number in self._ends:
            counts[number] += ways[at]
        for count, (outcome, example) in zip(counts, self.examples(), strict=True):
            self.endings.append(Ending(outcome, count, example))
        self.schedules = sum(ending.schedules for ending in self.endings)
        return circular


@contextmanager
def no_collections() -> Iterator[None]:
    """Keep the collector from walking what a search piles up, none of which is garbage, also right afterwards."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():
                # So all there is counts as old, as it does to a collector that has just looked at it.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
