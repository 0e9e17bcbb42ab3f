"""Sagas: what users subclass. A saga holds state and handlers; handlers ask for effects and never perform them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from sagabus import effects
from sagabus.errors import HandlerMisuseError
from sagabus.messages import MergeSagaState, enclosing_names

if TYPE_CHECKING:
    from sagabus.definition import SagaDefinition

S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])


class HandlerMark:
    """What `@starts` and `@handles` leave on a method, read when its class is complete."""

    __slots__ = ("key", "messages", "starts")

    def __init__(self, starts: bool, messages: tuple[type, ...], key: str | None) -> None:
        self.starts, self.messages, self.key = starts, messages, key


def _mark(starts: bool, args: tuple[Any, ...], key: str | None) -> Any:
    if len(args) == 1 and key is None and not isinstance(args[0], type):
        args[0].__sagabus__ = HandlerMark(starts, (), None)
        return args[0]

    def decorate(function: F) -> F:
        function.__sagabus__ = HandlerMark(starts, args, key)  # type: ignore[attr-defined]
        return function

    return decorate


@overload
def starts(message: type, /, *messages: type, key: str | None = None) -> Callable[[F], F]: ...
@overload
def starts(*, key: str | None = None) -> Callable[[F], F]: ...
@overload
def starts(function: F, /) -> F: ...
def starts(*args: Any, key: str | None = None) -> Any:
    """Mark a method as the handler of a message that may start the saga, and is handled like any other once it runs.

    Which message it takes is read from its annotation, or given: `@starts(CheckCredit)`.
    `key` names the field that identifies the saga where it is not the one that the class names.
    """
    return _mark(True, args, key)


@overload
def handles(message: type, /, *messages: type, key: str | None = None) -> Callable[[F], F]: ...
@overload
def handles(*, key: str | None = None) -> Callable[[F], F]: ...
@overload
def handles(function: F, /) -> F: ...
def handles(*args: Any, key: str | None = None) -> Any:
    """Mark a method as the handler of a message that continues the saga. Arguments as `starts`."""
    return _mark(False, args, key)


class _NoRun:
    """Stands for the run of a saga that nobody runs."""

    now_ms = 0
    starter_waits = False

    def add(self, effect: object) -> None:
        raise HandlerMisuseError(
            f"{type(effect).__name__.lower()} works only in a handler that the runtime calls; "
            f"from outside use bus.send or bus.publish"
        )

    def complete(self) -> None:
        raise HandlerMisuseError("complete() works only in a handler that the runtime calls")


class Saga(Generic[S]):
    """A long-running process over one state. Subclass it as `class CreditCheck(Saga[CreditState], key="customer")`.

    Handlers are plain methods marked with `@starts` or `@handles`. They change `self.state` and ask for effects;
    effects are performed after the state is stored, at least once, in one atomic write with it. They must depend on
    nothing but the state and the message: they are run again whenever another worker was faster, or one has died.

    Class arguments:
        key: the field of its messages that identifies the saga; without one a saga is named after the message that
            started it, and only replies find it.
        merger: folds siblings into one state; without one the saga is serial (optimistic concurrency).
        exclusive: for a serial saga whose handlers are not to be run in vain: a worker takes a lease on the saga first,
            one message at a time, and others wait for it. Its handlers are run again for a message only where they
            raised, where their worker died before the write, and where it lost the lease, having shown no sign of life
            for the claim time of the bus, or where the store did not answer for long enough.
        name: what it is called in the store; the class name by default. Changing it orphans what is stored.
        version: of the state class; older ones go through its static method `upcast(body, version)`.
        restartable: whether a start message for a completed saga begins a new life; otherwise it is late.
        sibling_limit: from how many siblings on a write is run again rather than forked.
        history: how many versions the record remembers, with their parents and messages.
    """

    __saga__: ClassVar[SagaDefinition | None] = None

    state: S
    id: str
    """What identifies this saga among those of its class: the key, or the id of the message that started it."""
    message: Any
    """The message being handled; None in `decide`."""
    now: datetime
    """The store's time when this run was loaded, UTC. Never read a clock in a handler: runs must be repeatable."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()
        from sagabus.definition import define_saga

        cls.__saga__ = define_saga(cls, options, enclosing_names(_where_defined(cls)))

    @property
    def key(self) -> str:
        """Return the value that identifies this saga, as text; the same as `id`."""
        return self.id

    @property
    def starter_waits(self) -> bool:
        """Return whether who started the saga can be answered: it was asked for, and not only told, to start."""
        return bool(self._run.starter_waits)

    # -- for users to override -----------------------------------------------------------------------------------

    def decide(self) -> None:
        """Decide, on what is believed to be the whole picture. Runs once a run, after all handlers.

        What it changes and asks for is kept only if the write settles the saga, and dropped whole otherwise: it then
            runs again after the merge. So put every verdict here, and `complete()` with it.
        """

    def on_late(self, message: Any) -> None:
        """React to a message for a saga that has completed, e.g. by sending a compensation. Cannot change the state."""

    # -- what handlers ask for -----------------------------------------------------------------------------------

    def send(self, message: Any, to: str | None = None) -> None:
        """Send a command to the endpoint *to*, or along the route of its type. A reply will find this saga."""
        self._run.add(effects.Send(message, to))

    def publish(self, message: Any) -> None:
        """Publish an event to every endpoint that subscribed to its type; none is no error."""
        self._run.add(effects.Publish(message))

    def reply(self, message: Any) -> None:
        """Answer the sender of the message being handled; only inside a message handler."""
        if self.message is None or isinstance(self.message, MergeSagaState):
            where = "decide() handles none" if self.message is None else "nobody sent MergeSagaState"
            raise HandlerMisuseError(
                f"reply() answers the message being handled, and {where}; use self.reply_to_starter(...)"
            )
        self._run.add(effects.Reply(message))

    def reply_to_starter(self, message: Any) -> None:
        """Answer who sent the message that started this saga; where nobody may wait, ask `starter_waits` first."""
        self._run.add(effects.ReplyToStarter(message))

    def defer(
        self, message: Any, *, after: timedelta | float | None = None, at: datetime | None = None, name: str = ""
    ) -> None:
        """Deliver *message* to this saga after a time (a timedelta, or seconds), or at one (UTC).

        A timer with a *name* replaces the one of that name. Timers end with the saga. Where two branches of a fork set
        the same name, the one stored later counts.
        """
        self._run.add(effects.Defer(message, effects.due_ms(self._run.now_ms, after, at), name))

    def cancel(self, name: str) -> None:
        """Cancel the timer called *name*; none of that name is no error."""
        self._run.add(effects.Cancel(name))

    def complete(self) -> None:
        """End the saga with this run: what it says leaves only from a settled saga.

        In `decide()` an unsettled completion is dropped with the decision, which is taken again after the merge. In a
        message handler the whole run is made again instead.
        """
        self._run.complete()

    _run: Any = _NoRun()


def _where_defined(cls: type) -> types.FrameType:
    """Return the frame in which *cls* is being made; a metaclass or the hook of a base may stand between."""
    nearest = frame = sys._getframe(2)
    while frame.f_globals.get("__name__") != cls.__module__:
        if frame.f_back is None:
            return nearest
        frame = frame.f_back
    return frame


@lru_cache(maxsize=64)
def utc(ms: int) -> datetime:
    """Return ms since 1970 as a UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)
