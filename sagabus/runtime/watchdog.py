"""The watchdog: ends a handler that takes longer than it may, wherever in Python that is, and nothing but it."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from msgspec import field

from sagabus.errors import HandlerTimedOutError
from sagabus.records import Entry

_MIN_GRACE_S: Final = 1.0
_MAX_GRACE_S: Final = 5.0


class HandlerInterrupt(BaseException):
    """Raised in the thread of a handler whose time is over.

    No `Exception`, so that an `except Exception` of the handler's own does not keep it.
    """


class Decision(Entry):
    """Which of two threads says how something ends: the first to take it."""

    # list.pop() is atomic.
    token: list[None] = field(default_factory=lambda: [None])

    def take(self) -> bool:
        """Return whether nobody has taken it before."""
        try:
            self.token.pop()
        except IndexError:
            return False
        return True


class HandlerCall(Entry):
    """One call of a handler.

    Attributes:
        subject: what it handles, for who looks at a call that hangs.
        name: of the handler.
        deadline_at: when its time is over, on the monotonic clock; infinite where it has all the time there is.
        thread: the ident of the thread that it runs in.
        began_at: when it began, on the monotonic clock.
        interrupted_at: when its time was found to be over; None as long as it was not.
        sent: whether the interrupt was handed to the thread.
        done: whether the call is over.
        end: taken by the thread that leaves the call, or by the one that interrupts it.
    """

    subject: Any
    name: str
    deadline_at: float
    thread: int
    began_at: float
    interrupted_at: float | None = None
    sent: bool = False
    done: bool = False
    end: Decision = field(default_factory=Decision)


_NOBODYS: Final = Decision()
_NEVER: Final = float("inf")


class Watch:
    """What one thread runs of handlers, one at a time, and for how long it may.

    `run` is for that thread, `look` for one other. An interrupt is raised while a handler runs and never outside: a
    call that is about to return when it is sent waits for it.

    Args:
        timeout_s: how long one call may take; None for as long as it wants.

    Attributes:
        current: the call that runs, or the last one that did.
        left_at: when the last call ended, on the monotonic clock.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.grace_s = min(max(timeout_s or 0.0, _MIN_GRACE_S), _MAX_GRACE_S)
        self.current: HandlerCall | None = None
        self.left_at = float("-inf")

    def run(self, subject: Any, name: str, began_at: float, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function* and return its answer.

        Args:
            subject: what it handles.
            name: of the handler.
            began_at: since when its time runs, on the monotonic clock.

        Raises:
            HandlerTimedOutError: it was interrupted, or ended only after its time was found to be over.
        """
        if self.timeout_s is None:
            return self.freely(subject, function, *args)
        call = HandlerCall(subject, name, began_at + self.timeout_s, threading.get_ident(), time.monotonic())
        # The interrupt may come between any two steps below, so each of them leaves the call as one that is over.
        try:
            try:
                self.current = call
                answer = function(*args)
            finally:
                call.done = True
                _leave(call)
        except BaseException as error:
            call.done = True
            self.left_at = time.monotonic()
            if call.interrupted_at is None:
                raise
            raise self._timed_out(call) from error
        self.left_at = time.monotonic()
        if call.interrupted_at is not None:
            raise self._timed_out(call)
        return answer

    def freely(self, _message: object, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function*, for as long as it takes; a `Guard`."""
        call = self.current = HandlerCall(None, name_of(function), _NEVER, 0, time.monotonic(), end=_NOBODYS)
        try:
            return function(*args)
        finally:
            call.done = True
            self.left_at = time.monotonic()

    def look(self, now: float) -> HandlerCall | None:
        """Interrupt the call whose time is over; return it where it goes on in spite of that for longer than the grace.

        Args:
            now: on the monotonic clock.
        """
        call = self.current
        if call is None or call.done:
            return None
        if call.interrupted_at is not None:
            return call if call.sent and now >= call.interrupted_at + self.grace_s else None
        if now >= call.deadline_at and call.end.take():
            call.interrupted_at = now
            try:
                _raise_in(call.thread, HandlerInterrupt)
            finally:
                call.sent = True
        return None

    def _timed_out(self, call: HandlerCall) -> HandlerTimedOutError:
        assert self.timeout_s is not None
        return HandlerTimedOutError(call.name, self.timeout_s)


def overdue(name: str, timeout_s: float, thread: int | None) -> HandlerTimedOutError:
    """Return the error of a handler that goes on; where its *thread* is just now stands in the error's traceback."""
    error = HandlerTimedOutError(name, timeout_s)
    frame = _frames().get(thread) if thread is not None else None
    if frame is not None:
        error.add_note("It was here:\n" + "".join(traceback.format_stack(frame)))
    return error


def _frames() -> dict[int, FrameType]:
    """Return where each thread is.

    Without a garbage collection meanwhile: until Python 3.11.9 one that begins in there, and lets another thread run,
    has the whole process stand still (https://github.com/python/cpython/issues/106883).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collects:
            gc.enable()


def name_of(function: Callable[..., Any]) -> str:
    """Return what users call *function*."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _leave(call: HandlerCall) -> None:
    """Make sure that no interrupt is on its way to this thread any more."""
    if call.end.take():
        return
    while not call.sent:
        time.sleep(0.0005)
    _raise_in(call.thread, None)


class _Settled(BaseException):
    """Raised by a thread in itself, at once."""


_set_error: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have *thread* raise *error* between two of its next steps; None takes back what it has not raised yet.

    CPython 3.11 notes for the whole interpreter that some thread has an error to raise, until one has raised it. With
    that note every call under a tracer or a profiler goes round for ever, if the thread is blocked or has nothing to
    raise any more. So this thread takes the note away, by an error of its own; the other looks for its error whenever
    it is asked for the interpreter lock. No Python function may be called in between.
    """
    target, own = ctypes.c_ulong(thread), ctypes.c_ulong(threading.get_ident())
    raised = ctypes.py_object(error) if error is not None else None
    settled = ctypes.py_object(_Settled)
    try:
        _set_error(target, raised)
        _set_error(own, settled)
        while True:
            pass
    except _Settled:
        return
