"""Purity: a run must depend on nothing but the state and the messages. Each new run is made again, and watched."""

from __future__ import annotations

import datetime
import gc
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

from attrs import evolve, field, frozen
from msgspec.structs import replace

from sagabus.advance import advance
from sagabus.commit import Commit, Half, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, Incoming
from sagabus.saga import Saga
from sagabus.testing.simulator.runs import Fault
from sagabus.testing.simulator.scene import envelope_of
from sagabus.testing.simulator.wording import say

_LATER_MS: Final = 400 * 86_400_000 + 40_271_311
"""No whole number of years, weeks, days or hours."""
_CLOCKS: Final[frozenset[Callable[..., Any]]] = frozenset(
    {
        time.time,
        time.time_ns,
        time.monotonic,
        time.monotonic_ns,
        time.perf_counter,
        time.perf_counter_ns,
        time.process_time,
        time.localtime,
        time.gmtime,
        time.ctime,
        time.strftime,
        os.urandom,
    }
)
_NOW: Final = frozenset({"now", "utcnow", "today"})
_SUSPICIOUS: Final = frozenset({*(clock.__name__ for clock in _CLOCKS), *_NOW, "random", "getrandbits"})
_LOGGING: Final = ("logging", "structlog", "rich", "warnings")
_CHANGEABLE: Final = (list, dict, set, bytearray)
_BETWEEN: Final = ("random", "uuid", "secrets", "datetime")


class ClockMattersError(Exception):
    """A run comes out differently at another time, so that time has to be part of what is explored."""


@frozen(eq=False)
class Purity:
    """Examines the runs of one saga class.

    Attributes:
        definition: the class.
        clocked: whether it is known that time matters.
    """

    definition: SagaDefinition
    clocked: bool
    _watched: _Watched = field(init=False)
    _fresh: bytes = field(init=False)
    _shared: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_watched", _Watched(self.definition))
        object.__setattr__(self, "_fresh", self._fresh_state())
        object.__setattr__(self, "_shared", repr(list(_shared_values(self.definition.cls))))

    def examine(self, snapshot: Snapshot, incoming: Sequence[Incoming], commit: Commit) -> Fault | None:
        """Return in which way a run is impure; None where it is not seen to be.

        Raises:
            ClockMattersError: it depends on the time, in a way that is allowed.
        """
        ran = commit.late or commit.facts.state is not None
        if not (ran or commit.failures or commit.unmergeable):
            # Nothing of the user's has run.
            return None
        name = self.definition.name
        # Made again at another time: where that comes out alike, it is pure, and time makes no difference.
        later = snapshot if self.clocked else replace(snapshot, now_ms=snapshot.now_ms + _LATER_MS)
        again = self._advance(later, incoming, self._watched.definition)
        calls = self._watched.heard()
        if calls:
            return Fault("impure", f"{calls[0]}. A run must give the same again: use self.now, or put it in a message")
        if self._fresh_state() != self._fresh:
            state = self.definition.codec.state_type
            return Fault(
                "impure",
                f"a default of {state.__qualname__} is shared by all sagas: after {_names(incoming)}, a new one begins "
                f"as {say(state())}. Use field(factory=...)",
            )
        if repr(list(_shared_values(self.definition.cls))) != self._shared:
            handled = _names(incoming)
            return Fault("impure", f"{name} keeps something on its class while it handles {handled}; use the state")
        if _essence(again, later) == _essence(commit, snapshot):
            return None
        if not self.clocked:
            again = self._advance(snapshot, incoming, self.definition)
            if _essence(again, snapshot) == _essence(commit, snapshot):
                raise ClockMattersError
        return Fault(
            "impure",
            f"{name} handled {_names(incoming)} twice on the same state, and it came out differently: "
            f"{_difference(commit, again, self.definition)}. "
            f"A run must depend on nothing but the state and the message",
        )

    @staticmethod
    def _advance(snapshot: Snapshot, incoming: Sequence[Incoming], definition: SagaDefinition) -> Commit:
        return advance(definition, snapshot, [Incoming(message.envelope) for message in incoming])

    def _fresh_state(self) -> bytes:
        codec = self.definition.codec
        return codec.encode(codec.state_type())


# -- what came out ---------------------------------------------------------------------------------------------------


def _essence(commit: Commit, snapshot: Snapshot) -> tuple[Any, ...]:
    """Return what a run amounts to, with times counted from that of its snapshot."""
    return (
        commit.ids,
        _half(commit.facts, snapshot.now_ms),
        None if commit.decision is None else _half(commit.decision, snapshot.now_ms),
        commit.completes,
        tuple(type(failure.error) for failure in commit.failures),
        type(commit.unmergeable),
    )


def _half(half: Half, now_ms: int) -> tuple[Any, ...]:
    sent = tuple(
        (m.kind, m.to, m.id, m.due_ms and m.due_ms - now_ms, _says(envelope_of(m)))
        for messages in half.outgoing.values()
        for m in messages
    )
    return half.state, sent, tuple(half.timers.items()), half.cancelled


def _says(envelope: Envelope) -> tuple[Any, ...]:
    return envelope.type, bytes(envelope.data), envelope.saga, envelope.replyto, envelope.replysaga


def _difference(first: Commit, second: Commit, definition: SagaDefinition) -> str:
    for a, b in ((first.decision, second.decision), (first.facts, second.facts)):
        if a is not None and b is not None and a.state is not None and b.state is not None and a.state != b.state:
            return f"first {say(definition.codec.decode(a.state))}, then {say(definition.codec.decode(b.state))}"
    sent = [[Incoming(envelope_of(m)).message for m in _all_sent(commit)] for commit in (first, second)]
    if sent[0] != sent[1]:
        return f"first it sent {say(sent[0])}, then {say(sent[1])}"
    return "once it decided or raised something else"


def _all_sent(commit: Commit) -> Iterator[Any]:
    for half in (commit.facts, commit.decision):
        if half is not None:
            for messages in half.outgoing.values():
                yield from messages


def _names(incoming: Sequence[Incoming]) -> str:
    return " and ".join(say(message.message) for message in incoming)


def _shared_values(cls: type[Saga[Any]]) -> Iterator[tuple[str, object]]:
    """Yield what is kept on a saga class and can be changed."""
    for base in cls.__mro__:
        if base is Saga:
            return
        for name, value in vars(base).items():
            if isinstance(value, _CHANGEABLE) and not name.startswith("__"):
                yield name, value


# -- what is called --------------------------------------------------------------------------------------------------


class _Watched:
    """A definition whose methods and merger note whom they ask: a clock or a source of chance, but for log lines."""

    def __init__(self, definition: SagaDefinition) -> None:
        self._cls = definition.cls
        own = {name for name in ("decide", "on_late") if getattr(self._cls, name) is not getattr(Saga, name)}
        self._methods = {handler.method for handler in definition.handlers.values()} | own
        self._calls: list[str] = []
        self._made: list[Saga[Any]] = []
        merger = definition.merger and self._listening(definition.merger)
        # What is called and looked at like the class is as good as the class.
        as_class: Any = self
        self.definition = evolve(definition, cls=as_class, merger=merger)

    def __call__(self) -> Saga[Any]:
        saga = self._cls()
        for name in self._methods:
            saga.__dict__[name] = self._listening(getattr(saga, name))
        self._made.append(saga)
        return saga

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cls, name)

    def heard(self) -> list[str]:
        """Return who has asked whom since the last time. Sagas made until now are not listened to any more."""
        calls, self._calls = self._calls, []
        for saga in self._made:
            # They hold their methods, and these hold them.
            for name in self._methods:
                saga.__dict__.pop(name, None)
        self._made.clear()
        return calls

    def _listening(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def listening(*args: Any) -> Any:
            if sys.getprofile() is not None:
                # A profiler is at work, and there is room for one. That each run is made twice still shows most of it.
                return method(*args)
            # Collections may call back anybody, in the middle of the run: Hypothesis measures them, by a clock.
            collects = gc.isenabled()
            gc.disable()
            sys.setprofile(self._listen)
            try:
                return method(*args)
            finally:
                sys.setprofile(None)
                if collects:
                    gc.enable()

        return listening

    def _listen(self, frame: FrameType, event: str, called: Any) -> None:
        # Called for whatever the run calls, so the name is looked at before anything else.
        if event == "c_call" and called.__name__ in _SUSPICIOUS and _is_impure(called):
            who = _asker(frame)
            if who is not None:
                self._calls.append(f"{who} calls {_name_of(called)}()")


def _is_impure(called: Any) -> bool:
    if called in _CLOCKS:
        return True
    owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
    if isinstance(owner, type) and issubclass(owner, datetime.date):
        return name in _NOW
    return isinstance(owner, random.Random) and owner is _common_random() and name in ("random", "getrandbits")


def _common_random() -> object:
    """Return the generator behind `random.random()`; one that a handler has seeded itself is as good as any value."""
    bound: Callable[[], float] = random.random
    return getattr(bound, "__self__", None)


def _name_of(called: Any) -> str:
    owner = getattr(called, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__name__}.{called.__name__}"
    if isinstance(owner, random.Random):
        return f"random.{called.__name__}"
    return f"{called.__module__}.{called.__name__}"


def _asker(frame: FrameType | None) -> str | None:
    """Return the function of the user's that has asked; None for a logger."""
    asker: FrameType | None = None
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in _LOGGING:
            return None
        if asker is None and module not in _BETWEEN:
            asker = frame
        frame = frame.f_back
    return f"{asker.f_code.co_qualname} (line {asker.f_lineno})" if asker is not None else None
