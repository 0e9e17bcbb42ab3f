"""Shrinking: from a schedule that fails to the smallest case that fails alike."""

from __future__ import annotations

from typing import Final

from attrs import define, evolve

from sagabus.testing.session import Progress
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.search import Found, Search
from sagabus.testing.simulator.telling import write_down

_SEARCH_STATES: Final = 20_000
_ALL_STATES: Final = 60_000
_ALL_STEPS: Final = 50_000
_SHOWN_STEPS: Final = 60


@define
class Shrinker:
    """Makes one failing schedule small, within bounds.

    Attributes:
        limit: how many states one search may find.
        progress: told as a search is.
        states: how many states all its searches may still find.
        steps: how many steps may still be played.
    """

    limit: int
    progress: Progress | None = None
    states: int = _ALL_STATES
    steps: int = _ALL_STEPS

    def shrink(self, inquiry: Inquiry, found: Found, *, shortest: bool) -> tuple[Inquiry, Found]:
        """Return the smallest case that fails as *found* does: with fewer messages, by the shortest schedule.

        A message is left out only where the others still do well without a race, so that what is shown is the race.

        Args:
            shortest: whether *found* is the shortest schedule for the messages there are.
        """
        if not shortest:
            asked, search = self._search(inquiry)
            if search.failure is not None:
                inquiry, found, shortest = asked, search.failure, True
        for name in inquiry.names if inquiry.plain()[1].fault is None else ():
            smaller = inquiry.without(name)
            if smaller.plain()[1].fault is not None or self.states < 1:
                continue
            asked, search = self._search(smaller)
            if search.failure is not None and _alike(search.failure, found):
                inquiry, found, shortest = asked, search.failure, True
        if not shortest:
            found = self._shorter(inquiry, found)
        return inquiry, found

    def _search(self, inquiry: Inquiry) -> tuple[Inquiry, Search]:
        asked, search = inquiry.search(max(1, min(self.limit, self.states, _SEARCH_STATES)), self.progress)
        self.states -= search.states
        return asked, search

    def _shorter(self, inquiry: Inquiry, found: Found) -> Found:
        """Return a schedule that fails alike, from which no single step can be left out; at least a shorter one."""
        if found.fault is not None and found.fault.kind == "livelock":
            # It goes on whatever it began with; the beginning shows how.
            return evolve(found, events=found.events[:_SHOWN_STEPS])
        ready = inquiry.ready()
        steps = list(write_down(ready.worlds, ready.opening, found.events))
        place = len(steps) - 1
        while place >= 0 and self.steps > 0:
            self.steps -= len(steps)
            _, other = inquiry.follow(tuple(steps[:place] + steps[place + 1 :]), finish=False)
            if _alike(other, found) and len(other.events) < len(found.events):
                found = other
                steps = list(write_down(ready.worlds, ready.opening, found.events))
                place = min(place, len(steps))
            place -= 1
        return found


def _alike(a: Found, b: Found) -> bool:
    return a.fault is not None and b.fault is not None and a.fault.kind == b.fault.kind
