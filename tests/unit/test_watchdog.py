"""The watchdog: an interrupt hits the handler that is overdue, once, and nothing that comes after it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sagabus.errors import HandlerTimedOutError
from sagabus.runtime.watchdog import HandlerCall, HandlerInterrupt, Watch, overdue
from tests.servers import until

LATER_S = 1e9
TIMEOUT_S = 0.05


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        pass


class Runner:
    """Runs functions under a watch in a thread of its own."""

    def __init__(self, *functions: Callable[[], Any], timeout_s: float | None = TIMEOUT_S) -> None:
        self.watch = Watch(timeout_s)
        self.answers: list[Any] = []
        self._functions = functions
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for function in self._functions:
            try:
                self.answers.append(self.watch.run(None, "handler", time.monotonic(), function))
            except BaseException as error:
                self.answers.append(error)

    def at_work(self) -> HandlerCall:
        until(lambda: self.watch.current is not None and not self.watch.current.done, "a call")
        assert self.watch.current is not None
        return self.watch.current

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def ended(self) -> list[Any]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.answers


def test_overdue_call_is_interrupted_and_the_next_is_not() -> None:
    """The error says how long it may take, and its traceback where it was."""
    runner = Runner(lambda: spin(threading.Event()), lambda: "next")
    runner.at_work()
    assert runner.watch.look(time.monotonic() + LATER_S) is None
    error, answer = runner.ended()
    assert answer == "next"
    assert isinstance(error, HandlerTimedOutError)
    assert (error.handler, error.timeout_s, error.reason) == ("handler", TIMEOUT_S, "timed-out")
    assert isinstance(error.__cause__, HandlerInterrupt)
    assert error.__cause__.__traceback__ is not None


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_call_that_is_not_overdue_is_left_alone(timeout_s: float | None) -> None:
    """A call without a limit never is."""
    stop = threading.Event()
    runner = Runner(lambda: spin(stop), timeout_s=timeout_s)
    runner.at_work()
    assert runner.watch.look(time.monotonic()) is None
    stop.set()
    assert runner.ended() == [None]


def test_error_of_a_call_that_is_not_overdue_comes_out_as_it_is() -> None:
    """Also what is no Exception."""
    errors = [ValueError("no"), SystemExit(3), StopIteration(7)]

    def raising(error: BaseException) -> Callable[[], None]:
        def function() -> None:
            raise error

        return function

    assert Runner(*map(raising, errors)).ended() == errors


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_call_that_swallows_its_interrupt_has_timed_out_all_the_same(how: str) -> None:
    """Whatever it answers in the end is dropped: its time was over."""

    def stubborn() -> str:
        try:
            spin(threading.Event())
        except BaseException as error:
            if how == "raises":
                raise ValueError("something else") from error
        return "done"

    runner = Runner(stubborn, lambda: "next")
    runner.at_work()
    runner.watch.look(time.monotonic() + LATER_S)
    error, answer = runner.ended()
    assert isinstance(error, HandlerTimedOutError)
    assert answer == "next"


def test_call_that_goes_on_after_its_interrupt_is_returned_once_the_grace_is_over() -> None:
    """What is blocked in C does not hear of it; then who watches must do without it."""
    stop = threading.Event()
    runner = Runner(lambda: stop.wait(30), lambda: "next")
    call = runner.at_work()
    now = time.monotonic() + LATER_S
    assert runner.watch.look(now) is None
    assert runner.watch.look(now + runner.watch.grace_s / 2) is None
    assert runner.watch.look(now + runner.watch.grace_s) is call
    stop.set()
    error, answer = runner.ended()
    assert isinstance(error, HandlerTimedOutError)
    assert answer == "next"


def test_interrupt_sent_as_calls_return_hits_none_of_what_comes_after() -> None:
    """However close they come: each call answers or has timed out, and nothing between them is interrupted."""
    rounds, interval_s = 10_000, sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        runner = Runner(*[lambda: sum(range(20))] * rounds)
        while runner.is_alive():
            runner.watch.look(time.monotonic() + LATER_S)
    finally:
        sys.setswitchinterval(interval_s)
    answers = runner.ended()
    assert len(answers) == rounds
    assert [a for a in answers if a != 190 and not isinstance(a, HandlerTimedOutError)] == []


_PROFILED = """
import sys, threading, time
from sagabus.runtime.watchdog import HandlerInterrupt, _raise_in

blocked = threading.Thread(target=time.sleep, args=(60.0,), daemon=True)
blocked.start()
_raise_in(blocked.ident, HandlerInterrupt)
sys.setprofile(lambda *_: None)
(lambda: None)()
sys.setprofile(None)
print("through")
"""


def test_thread_that_does_not_take_its_interrupt_stops_no_profiler() -> None:
    """Tracers, profilers and coverage go on while a handler is blocked in C; in a process, for it could hang whole."""
    done = subprocess.run([sys.executable, "-c", _PROFILED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "through\n", done.stderr


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_the_threads_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, collects: bool
) -> None:
    """In Python before 3.11.9 the whole process would stand still; afterwards all is as it was."""
    current_frames, seen = sys._current_frames, list[bool]()

    def look() -> Any:
        seen.append(gc.isenabled())
        return current_frames()

    monkeypatch.setattr(sys, "_current_frames", look)
    if not collects:
        gc.disable()
    try:
        error = overdue("Order.made", 1.0, threading.get_ident())
        assert gc.isenabled() is collects
    finally:
        gc.enable()
    assert seen == [False]
    assert "test_no_garbage_is_collected" in error.__notes__[0]
