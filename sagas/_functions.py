"""What `@once` reads from a function that somebody decorates: the messages and arguments that it takes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from sagabus.errors import DefinitionError


def subject_of_function(function: Any) -> str:
    """Return how errors name *function*.

    Raises:
        DefinitionError: it is none with a name, so that what it sends could not be told apart.
    """
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise DefinitionError(repr(function), "is no function with a name", "Write it as a def, and decorate that")
    return f"{function.__module__}.{function.__qualname__}"


def arguments_of_action(action: Callable[..., Any], subject: str) -> int:
    """Return how many arguments *action* takes: 2, or 3 with the context.

    Raises:
        DefinitionError: it takes others, or would not run when it is called.
    """
    if inspect.isgeneratorfunction(action) or inspect.isasyncgenfunction(action):
        raise DefinitionError(
            subject, "has a yield, so calling it would not run it", "Make it a plain def or async def"
        )
    parameters = list(inspect.signature(action).parameters.values())
    positional = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if len(parameters) not in (2, 3) or not positional:
        raise DefinitionError(
            subject,
            "an action takes a message, an idempotency key and perhaps a Context",
            f"Write def {action.__name__}(m: Type, idempotency_key: str, context: Context)",
        )
    return len(parameters)


def messages_of(action: Callable[..., Any], subject: str, names: Mapping[str, Any]) -> tuple[type, ...]:
    """Return the message classes that the first argument is annotated with: one, or each of a union.

    Args:
        names: what is visible where it is defined.

    Raises:
        DefinitionError: there is no such annotation, or it names something else.
    """
    mend = "Write m: MessageType, or @once(endpoint, MessageType, ...)"
    first = next(iter(inspect.signature(action).parameters.values()), None)
    if first is None or first.annotation is inspect.Parameter.empty:
        raise DefinitionError(subject, "the message it takes is not annotated", mend)
    carrier = types.SimpleNamespace(__annotations__={"m": first.annotation})
    try:
        hint = typing.get_type_hints(carrier, getattr(action, "__globals__", {}), dict(names))["m"]
    except NameError as error:
        raise DefinitionError(subject, f"its annotation cannot be resolved ({error})", mend) from error
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    found: tuple[Any, ...] = typing.get_args(hint) if is_union else (hint,)
    if not all(isinstance(kind, type) for kind in found):
        raise DefinitionError(subject, f"it is annotated with {hint!r}, which is no message class", mend)
    return found


def check_field(kind: type, key: str, subject: str) -> None:
    """Make sure that messages of *kind* have a field or property called *key*.

    Raises:
        DefinitionError: they have none.
    """
    fields = [a.name for a in attrs.fields(kind)] if attrs.has(kind) else []
    if key not in fields and not hasattr(kind, key):
        raise DefinitionError(
            subject,
            f"{kind.__qualname__} has no field {key!r} to tell one key from another",
            f"Name one that it has ({', '.join(fields) or 'none'}), or give a function: key=lambda m: ...",
        )


def visible_names(frame: types.FrameType | None) -> dict[str, Any]:
    """Return the local names where *frame* runs, those of the functions around it in the same module included."""
    names: dict[str, Any] = {}
    home = frame.f_globals if frame is not None else None
    while frame is not None and frame.f_globals is home and frame.f_locals is not home:
        names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names
