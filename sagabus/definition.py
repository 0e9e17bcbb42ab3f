"""What a saga class says, read once when it is defined; every mistake is found here, at import, with the mend."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from attrs import evolve, field, frozen

from sagabus.codec import StateCodec
from sagabus.envelope import MAX_BYTES, Incoming, check_saga_id
from sagabus.errors import CodecError, DefinitionError
from sagabus.hints import resolve_hints
from sagabus.messages import MergeSagaState, MessageType, annotated_types, registry
from sagabus.saga import HandlerMark, Saga
from sagabus.secrecy.seating import is_secret
from sagabus.secrecy.signing import Signing
from sagabus.state_class import state_codec, state_type_of

DAY_S: Final = 86_400.0
_OPTIONS: Final = {"key", "merger", "exclusive", "name", "version", "restartable", "sibling_limit", "history"}


@frozen
class Handler:
    """One method that takes one message type.

    Attributes:
        kind: the message type.
        method: the name of the method.
        starts: whether the message may start the saga.
        key: the field of the message that identifies the saga; None where only the header does.
    """

    kind: MessageType
    method: str
    starts: bool
    key: str | None


@frozen
class Limits:
    """Bounds on what one record keeps.

    Attributes:
        siblings: from how many siblings on a write is run again rather than forked; merges always go through.
        history: how many entries of history a record keeps.
        dedupe_window_s: how long a consumed message id is remembered.
        retention_s: how long a completed saga is remembered; at least the window.
        bounds: all of them as a store keeps to them: siblings, entries of history, ms, ms.
    """

    siblings: int = 25
    history: int = 64
    dedupe_window_s: float = 7 * DAY_S
    retention_s: float = 7 * DAY_S
    bounds: tuple[int, int, int, int] = field(init=False, eq=False, repr=False)

    @bounds.default
    def _rounded(self) -> tuple[int, int, int, int]:
        return self.siblings, self.history, round(self.dedupe_window_s * 1000), round(self.retention_s * 1000)


@frozen(eq=False)
class SagaDefinition:
    """A saga class as the runtime sees it.

    Attributes:
        name: what it is called in the store.
        cls: the class.
        codec: writes and reads its state.
        handlers: wire name -> handler.
        merger: folds siblings (dot order, at least two) into one state; None for a serial saga.
        ancestral: whether the merger is binary and wants the ancestor.
        restartable: whether a start message may begin a new life after completion.
        exclusive: whether a worker runs it only under its lease, a message at a time; such a saga is serial too.
        limits: what a record keeps.
        endpoint: whose queue its messages come from; set when the saga joins a bus.
        routes: wire name -> endpoint, for sends without `to=`; set when the saga joins a bus.
        max_bytes: the size limit of an outgoing envelope.
        signing: how outgoing messages are signed; None for not at all.
    """

    name: str
    cls: type[Saga[Any]]
    codec: StateCodec[Any]
    handlers: Mapping[str, Handler]
    merger: Callable[..., Any] | None
    ancestral: bool
    restartable: bool
    exclusive: bool
    limits: Limits
    endpoint: str = ""
    routes: Mapping[str, str] = field(factory=dict)
    max_bytes: int = MAX_BYTES
    signing: Signing | None = None

    def bound(
        self,
        endpoint: str,
        routes: Mapping[str, str],
        *,
        dedupe_window_s: float,
        retention_s: float,
        max_bytes: int,
        signing: Signing | None = None,
    ) -> SagaDefinition:
        """Return this definition as one bus runs it."""
        limits = evolve(self.limits, dedupe_window_s=dedupe_window_s, retention_s=retention_s)
        return evolve(self, endpoint=endpoint, routes=routes, limits=limits, max_bytes=max_bytes, signing=signing)

    @property
    def serial(self) -> bool:
        """Return whether every run must settle, for want of a merger."""
        return self.merger is None

    def locate(self, incoming: Incoming) -> str | None:
        """Return the id of the saga that *incoming* is for; None where neither header nor body says.

        Raises:
            CodecError: the body had to be read and cannot be, or its key field is null.
        """
        name, _, saga_id = incoming.envelope.saga.partition("/")
        if name == self.name:
            return saga_id
        handler = self.handlers[incoming.envelope.type]
        if handler.key is not None:
            value = getattr(incoming.message, handler.key)
            if value is None:
                raise CodecError(
                    f"{incoming.envelope.type}: the key field {handler.key!r} is null - at `$.{handler.key}`"
                )
            return check_saga_id(str(value), f"{incoming.envelope.type}: the key field {handler.key!r}")
        return incoming.id if handler.starts else None


def define_saga(cls: type[Saga[Any]], options: Mapping[str, Any], names: Mapping[str, Any]) -> SagaDefinition | None:
    """Return the definition of *cls*; None for a base class without handlers.

    Args:
        names: what is visible where the class is defined, for annotations.

    Raises:
        DefinitionError: with the class, the method, and the mend.
    """
    subject = f"{cls.__module__}.{cls.__qualname__}"
    key, merger, exclusive = options.get("key"), options.get("merger"), options.get("exclusive", False)
    unknown = set(options) - _OPTIONS
    if unknown:
        raise DefinitionError(
            subject, f"unknown option {', '.join(sorted(unknown))}", "See the class arguments of Saga"
        )
    if not isinstance(exclusive, bool):
        raise DefinitionError(subject, f"exclusive={exclusive!r} is no bool", "Write exclusive=True, or leave it out")
    if exclusive and merger is not None:
        raise DefinitionError(
            subject,
            "is exclusive, so it never has siblings, and has a merger for them",
            "Leave out merger= for one worker at a time, or exclusive= for replies that need not wait for each other",
        )
    handlers = _handlers(cls, subject, key, {**names, cls.__name__: cls})
    if not handlers:
        return None
    if not any(h.starts for h in handlers.values()):
        raise DefinitionError(
            subject, "no message starts this saga", "Mark the handler of its first message with @starts"
        )
    for hook in ("decide", "on_late"):
        _refuse_async(getattr(cls, hook), f"{subject}.{hook}")
    state_type = state_type_of(cls, subject)
    name = options.get("name") or cls.__name__
    codec = state_codec(state_type, options.get("version", 1), name, subject, names)
    limit, history = options.get("sibling_limit", 25), options.get("history", 64)
    if limit < 2 or history < 1:
        raise DefinitionError(
            subject, "sibling_limit is at least 2 and history at least 1", "Raise it, or leave it out"
        )
    if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise DefinitionError(
            subject, f"name {name!r} has other characters than letters, digits and . _ -", "Choose another name="
        )
    return SagaDefinition(
        name=name,
        cls=cls,
        codec=codec,
        handlers=handlers,
        merger=merger,
        ancestral=takes_ancestor(merger, state_type, subject, names),
        restartable=bool(options.get("restartable", False)),
        exclusive=exclusive,
        limits=Limits(siblings=limit, history=history),
    )


def _handlers(cls: type, subject: str, key: str | None, names: Mapping[str, Any]) -> dict[str, Handler]:
    found: dict[str, Handler] = {}
    for method in dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)):
        # An abstract base has a name, `__abstractmethods__`, that cannot be read from what is made of it yet.
        function: Any = getattr(cls, method, None)
        mark = getattr(function, "__sagabus__", None)
        if not isinstance(mark, HandlerMark):
            continue
        where = f"{subject}.{method}"
        _refuse_async(function, where)
        for message_type in mark.messages or _annotated(function, where, names):
            kind = registry.of(message_type)
            if kind is None:
                raise DefinitionError(where, f"{message_type!r} is not a message", "Decorate that class with @message")
            if mark.starts and kind.cls is MergeSagaState:
                raise DefinitionError(where, "MergeSagaState starts no saga", "Mark its handler with @handles")
            if kind.name in found:
                raise DefinitionError(
                    where,
                    f"{kind.name} is handled by {found[kind.name].method!r} already",
                    "Handle each message in one method",
                )
            found[kind.name] = Handler(kind, method, mark.starts, _key_field(kind, mark, key, where))
    return found


def _annotated(function: Callable[..., Any], where: str, names: Mapping[str, Any]) -> tuple[type, ...]:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2:
        raise DefinitionError(
            where, "a handler takes self and one message", f"Write def {function.__name__}(self, m: MessageType)"
        )
    annotation = parameters[1].annotation
    if annotation is inspect.Parameter.empty:
        raise DefinitionError(
            where,
            "the message it handles is not annotated",
            f"Write {parameters[1].name}: MessageType, or @handles(MessageType)",
        )
    try:
        options = annotated_types(function, parameters[1].name, names)
    except NameError as error:
        raise DefinitionError(
            where,
            f"its annotation cannot be resolved ({error})",
            "Import the message outside TYPE_CHECKING, or write @handles(MessageType)",
        ) from error
    if not all(isinstance(option, type) for option in options):
        shown = " | ".join(map(repr, options))
        raise DefinitionError(where, f"{shown} is no message class", "Annotate a class decorated with @message")
    return options


def _key_field(kind: MessageType, mark: HandlerMark, key: str | None, where: str) -> str | None:
    if kind.cls is MergeSagaState:
        return None
    wanted = mark.key or key
    fields = {a.name for a in attrs.fields(kind.cls)}
    if wanted is not None and wanted in fields:
        if is_secret(resolve_hints(kind.cls)[wanted]):
            raise DefinitionError(
                where,
                f"the key field {wanted!r} of {kind.name} is Encrypted, and keys of sagas can be read by all",
                "Key the saga by something that is no secret, such as a keyed hash that the sender makes of it",
            )
        return wanted
    if mark.key is not None or (mark.starts and key is not None):
        decorator = "starts" if mark.starts else "handles"
        mend = f"Add a field {wanted!r} to {kind.cls.__qualname__}, or name another: @{decorator}(key='...')"
        raise DefinitionError(where, f"message {kind.name} has no field {wanted!r} to find the saga by", mend)
    return None


def _refuse_async(function: Any, where: str) -> None:
    if inspect.isgeneratorfunction(function):
        raise DefinitionError(where, "has a yield, so calling it would not run it", "Make it a plain def without yield")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            where,
            "is async; saga handlers decide and do no I/O",
            "Make it a plain def, and do the I/O in a consumer that replies",
        )


def takes_ancestor(merger: Any, state_type: type, subject: str, names: Mapping[str, Any]) -> bool:
    """Return whether *merger* is binary, with an ancestor; False where there is none.

    Raises:
        DefinitionError: it cannot merge states of *state_type*.
    """
    if merger is None:
        return False
    where = f"{subject}, merger {getattr(merger, '__qualname__', merger)}"
    if not callable(merger):
        raise DefinitionError(where, "cannot be called", "Pass a function merge(siblings)")
    try:
        signature = inspect.signature(merger)
    except ValueError as error:
        raise DefinitionError(
            where, f"does not say what it takes ({error})", "Wrap it in a function merge(siblings)"
        ) from error
    parameters = [
        p
        for p in signature.parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(parameters) not in (1, 3):
        raise DefinitionError(
            where,
            f"takes {len(parameters)} arguments",
            "Write merge(siblings), or merge(a, b, ancestor) for what only a change can merge",
        )
    _refuse_async(merger, where)
    declared = getattr(merger, "state_type", None) or _merged_type(merger, parameters[0].name, names)
    if declared is not None and not (issubclass(state_type, declared) or issubclass(declared, state_type)):
        raise DefinitionError(
            where,
            f"merges {declared.__qualname__}, the state is {state_type.__qualname__}",
            f"Pass a merger of {state_type.__qualname__}",
        )
    return len(parameters) == 3


def _merged_type(merger: Any, parameter: str, names: Mapping[str, Any]) -> type | None:
    try:
        hint = typing.get_type_hints(merger, localns=dict(names)).get(parameter)
    except (NameError, TypeError):
        return None
    origin = typing.get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        hint = typing.get_args(hint)[0]
    return hint if isinstance(hint, type) and attrs.has(hint) else None


def definition_of(cls: type[Saga[Any]]) -> SagaDefinition:
    """Return the definition of a saga class.

    Raises:
        DefinitionError: it has no handlers, or is no saga.
    """
    definition: SagaDefinition | None = getattr(cls, "__saga__", None)
    if definition is None:
        raise DefinitionError(
            getattr(cls, "__qualname__", str(cls)), "is no saga with handlers", "Subclass Saga[State] and mark handlers"
        )
    return definition
