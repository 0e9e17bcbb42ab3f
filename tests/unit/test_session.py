"""What explorations share within a pytest session: settings, the tally, and the progress bar on a terminal."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import frozen

from sagabus.testing import plugin, session
from sagabus.testing.bar import Bar
from sagabus.testing.session import Defaults, Session, Tally, opened


@frozen
class Explored:
    """Stands for the result of an exploration."""

    states: int = 6368
    schedules: float = 152_000
    mode: str = "exhaustive"
    seed: int | None = None


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def tally(*results: Explored) -> Tally:
    """Return the tally of *results*."""
    counted = Tally()
    for result in results:
        counted.add(result)
    return counted


def test_session_that_is_open_is_found_and_the_innermost_counts() -> None:
    """What runs inside of a session sees its settings and adds to its tally; when it ends, the outer one is back."""
    outer, inner = (Session(Defaults(seed=n), lambda: nullcontext(session.unseen)) for n in (1, 2))
    with opened(outer):
        with opened(inner):
            session.note(Explored())
            assert session.defaults() == Defaults(seed=2, max_states=None)
        assert session.defaults().seed == 1
    assert (inner.tally.explorations, outer.tally.explorations) == (1, 0)


def test_session_outside_pytest_is_none_and_nothing_happens() -> None:
    """Explorations run anywhere; where there is no session they have no settings, no tally and no bar."""
    seen: list[object] = []

    def explore() -> None:
        seen.append(session.defaults())
        session.note(Explored())
        with session.progress() as progress:
            progress(1, 2)
        seen.append("done")

    thread = threading.Thread(target=explore)  # a thread begins with an empty context
    thread.start()
    thread.join()
    assert seen == [Defaults(None, None), "done"]


def test_tally_reads_as_a_sentence() -> None:
    """Counts in words that fit one and many; the seed only of what was random."""
    assert str(tally(Explored(1, 1))) == "1 exploration, 1 state, 1 schedule"
    assert str(tally(Explored(), Explored(10, 20, "random", 7), Explored(seed=9))) == (
        "3 explorations, 12,746 states, 304,020 schedules, seed 7"
    )


def test_tally_of_endless_and_huge_numbers_stays_readable() -> None:
    """Schedules may have no end, or more digits than anybody reads."""
    assert str(tally(Explored(1, math.inf), Explored(1, 10**400))) == (
        "2 explorations, 2 states, about 10^400 schedules and endless ones"
    )


def test_tally_of_many_seeds_shows_the_first() -> None:
    """Each failure prints its own seed; the summary is one line."""
    counted = tally(*(Explored(1, 1, "random", seed) for seed in (3, 3, 1, 4, 1, 5, 9, 2)))
    assert str(counted).endswith(", seeds 3, 1, 4, 5, 9 …")


def test_tally_of_another_process_is_added() -> None:
    """A worker of pytest-xdist sends plain values; its controller adds them up. A worker that crashed sends none."""
    worker: Any = SimpleNamespace(stash={plugin._SESSION: SimpleNamespace(tally=tally(Explored(1, 2, "random", 7)))})
    worker.workeroutput = {}
    plugin.pytest_sessionfinish(SimpleNamespace(config=worker))
    controller = SimpleNamespace(stash={plugin._SESSION: SimpleNamespace(tally=tally(Explored(1, 2, "random", 7)))})
    for node in (
        SimpleNamespace(config=controller, workeroutput=worker.workeroutput),
        SimpleNamespace(config=controller),
        SimpleNamespace(config=controller, workeroutput={}),
    ):
        plugin.pytest_testnodedown(node)
    total = controller.stash[plugin._SESSION].tally
    assert str(total) == "2 explorations, 2 states, 4 schedules, seed 7"


def test_watch_of_a_worker_process_draws_nothing() -> None:
    """A worker of pytest-xdist may inherit the terminal, but does not have it for itself."""
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(hasplugin=lambda name: True), workerinput={})
    with plugin._watch(config) as progress:
        assert progress is session.unseen


# -- the bar -------------------------------------------------------------------------------------------------------


@frozen
class Watch:
    """A clock for the bar, the terminal it may draw on, and how often it asked for that."""

    bar: Bar
    terminal: io.StringIO
    time: list[float]
    asked: list[int]

    def at(self, time_s: float, states: int, waiting: int) -> str:
        """Tell the bar of its progress and return what it draws."""
        self.time[0] = time_s
        self.terminal.truncate(0)
        self.terminal.seek(0)
        self.bar.update(states, waiting)
        return self.terminal.getvalue()


def watch(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Watch:
    time, asked = [0.0], [0]
    monkeypatch.setenv("TERM", "xterm")

    @contextmanager
    def uncaptured() -> Iterator[None]:
        asked[0] += 1
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", terminal)
            yield

    return Watch(Bar(uncaptured, clock=lambda: time[0]), terminal, time, asked)


def test_bar_of_a_short_exploration_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before two seconds have passed, not even the capturing of output is interrupted."""
    shown = watch(Terminal(), monkeypatch)
    assert shown.at(1.9, 10, 5) == ""
    shown.bar.end()
    assert shown.asked == [0]


def test_bar_of_a_long_exploration_is_drawn_now_and_then_and_wiped_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few times a second, in a line of its own; at the end it is erased."""
    shown = watch(Terminal(), monkeypatch)
    first = shown.at(2.0, 36_101, 1_204)
    assert first.startswith("\n")
    assert "36,101 of 37,305 states found so far" in first
    assert shown.at(2.1, 36_200, 1_204) == ""
    assert "37,000 of 37,000 states" in shown.at(2.2, 37_000, 0)
    shown.at(2.3, 0, 0)
    shown.bar.end()
    assert "\x1b[2K" in shown.terminal.getvalue()


def test_bar_without_a_terminal_is_not_drawn_and_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody watches, nothing is written, and capturing is interrupted a single time."""
    shown = watch(io.StringIO(), monkeypatch)
    assert shown.at(2.0, 1, 1) == shown.at(9.0, 2, 2) == ""
    shown.bar.end()
    assert shown.asked == [1]
