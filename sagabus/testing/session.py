"""What explorations share within one pytest session: settings from the command line, a tally, a progress bar.

The plugin opens a session; outside of one there are no settings, nothing is counted and nothing is drawn. Loaded in
every pytest run of its environment, so it imports the standard library alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

Progress = Callable[[int, int], None]
"""Told of how many states an exploration is through with, and of how many it knows that still wait."""


class Defaults(NamedTuple):
    """What the command line says about explorations; None where it says nothing."""

    seed: int | None = None
    max_states: int | None = None


class Explored(Protocol):
    """What the tally wants to know of an exploration."""

    @property
    def mode(self) -> str:
        """Return `exhaustive` or `random`."""
        ...

    @property
    def seed(self) -> int | None:
        """Return the seed of its random choices."""
        ...

    @property
    def states(self) -> int:
        """Return how many different states it saw."""
        ...

    @property
    def schedules(self) -> float:
        """Return how many schedules these stand for; `inf` where there is no end of them."""
        ...


class Tally:
    """How much was explored.

    Attributes:
        explorations: how many explorations there were.
        states: how many states they saw.
        schedules: how many schedules these stand for, those of explorations without end left out.
        endless: whether there was one without end.
        seeds: of the random ones, each once.
    """

    def __init__(self) -> None:
        self.explorations = 0
        self.states = 0
        self.schedules = 0
        self.endless = False
        self.seeds: list[int] = []

    def add(self, result: Explored) -> None:
        """Count one exploration."""
        endless = result.schedules == math.inf  # isinf() cannot take an int of 400 digits
        seeds = [result.seed] if result.mode == "random" and result.seed is not None else []
        self.add_parts(1, result.states, 0 if endless else int(result.schedules), endless, seeds)

    def add_parts(self, explorations: int, states: int, schedules: int, endless: bool, seeds: list[int]) -> None:
        """Count what another tally has counted: its `parts`."""
        self.explorations += explorations
        self.states += states
        self.schedules += schedules
        self.endless = self.endless or endless
        self.seeds += [seed for seed in dict.fromkeys(seeds) if seed not in self.seeds]

    def parts(self) -> list[Any]:
        """Return it as plain values, for another process."""
        return [self.explorations, self.states, self.schedules, self.endless, self.seeds]

    def __str__(self) -> str:
        said = [
            _counted(self.explorations, "exploration"),
            _counted(self.states, "state"),
            _counted(self.schedules, "schedule") + (" and endless ones" if self.endless else ""),
        ]
        if self.seeds:
            said.append(f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds[:_SHOWN_SEEDS]))}")
        return ", ".join(said) + (" …" if len(self.seeds) > _SHOWN_SEEDS else "")


_SHOWN_SEEDS: Final = 5
_MANY: Final = 10**15


def _counted(count: int, noun: str) -> str:
    if count >= _MANY:
        return f"about 10^{round(math.log10(count))} {noun}s"
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Session:
    """One pytest session.

    Attributes:
        defaults: what the command line says.
        tally: what was explored so far.
        watch: opens a progress bar, or what stands for one.
    """

    def __init__(self, defaults: Defaults, watch: Callable[[], AbstractContextManager[Progress]]) -> None:
        self.defaults, self.watch = defaults, watch
        self.tally = Tally()


# A test calls explore() without naming its session, and sessions nest where a plugin is tested with pytester: the
# innermost one is meant. A context variable says which that is, and is put back when it ends.
_current: ContextVar[Session | None] = ContextVar("sagabus_pytest_session", default=None)


@contextmanager
def opened(session: Session) -> Iterator[Session]:
    """Make *session* the one that explorations find."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


def defaults() -> Defaults:
    """Return what the command line says about explorations; nothing outside pytest, or in a thread of a test's own."""
    session = _current.get()
    return session.defaults if session else Defaults()


def note(result: Explored) -> None:
    """Count an exploration in the summary of the session; does nothing outside pytest."""
    session = _current.get()
    if session:
        session.tally.add(result)


def progress() -> AbstractContextManager[Progress]:
    """Return a context whose value is to be told of the progress, every thousand states or so.

    It draws a bar when that takes more than two seconds and somebody watches at a terminal; else it does nothing.
    """
    session = _current.get()
    return session.watch() if session else nullcontext(unseen)


def unseen(states: int, waiting: int) -> None:
    """Take note of progress that nobody watches."""
