"""What ready-made sagas do while somebody subclasses them: read the type arguments, and mark handlers for them."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from sagabus.errors import DefinitionError


class Unsaid(enum.Enum):
    """Its one value stands for a class argument that was not given, where None says something."""

    UNSAID = enum.auto()


UNSAID: Final = Unsaid.UNSAID


def subject_of(cls: type) -> str:
    """Return how errors name *cls*."""
    return f"{cls.__module__}.{cls.__qualname__}"


def arguments_of(cls: type, generic: type) -> tuple[Any, ...]:
    """Return what stands in *cls* for the type variables of *generic*, one of its bases; open ones as they are."""
    own: tuple[Any, ...] = getattr(generic, "__parameters__", ())
    return own if cls is generic else _resolved(cls, generic, {}) or own


def _resolved(cls: type, generic: type, given: Mapping[Any, Any]) -> tuple[Any, ...]:
    """Return the arguments that *cls* gives to *generic*; none where it is named without.

    Args:
        given: type variable of *cls* -> what its subclass put in its place.
    """
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, generic)):
            continue
        arguments = tuple(given.get(a, a) if isinstance(a, TypeVar) else a for a in typing.get_args(base))
        if origin is generic:
            return arguments
        return _resolved(origin, generic, dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False)))
    return ()


def is_open(cls: type) -> bool:
    """Return whether *cls*, which is being made, is itself generic: a base for others, and no saga yet."""
    return any(getattr(base, "__parameters__", ()) for base in vars(cls).get("__orig_bases__", ()))


def messages_in(cls: type, argument: Any, role: str) -> tuple[type, ...]:
    """Return the message classes that a type argument names: one, or each of a union.

    Args:
        role: what the argument stands for, for the error: `request`.

    Raises:
        DefinitionError: it names none.
    """
    is_union = typing.get_origin(argument) in (typing.Union, types.UnionType)
    found = typing.get_args(argument) if is_union else (argument,)
    if not all(isinstance(one, type) for one in found):
        shown = "not given" if isinstance(argument, TypeVar) else f"{argument!r}, which is no class"
        raise DefinitionError(
            subject_of(cls), f"the message class of its {role} is {shown}", "Write the class itself in the brackets"
        )
    return tuple(found)


def refuse_siblings_of_exclusive(cls: type, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse an exclusive class that has the merger of its base, with a mend for who has written no merger.

    Args:
        given: the class arguments of *cls*.
        options: the same, with those of its base.

    Raises:
        DefinitionError: it would keep a merger for siblings that it never has.
    """
    if options.get("exclusive") is True and options.get("merger") is not None and "merger" not in given:
        raise DefinitionError(
            subject_of(cls),
            "is exclusive, so it never has siblings, and its base has a merger for them",
            "Write merger=None beside exclusive=True, or leave out exclusive=",
        )


def add_handler(cls: type, method: str, mark: Callable[[Callable[..., Any]], Any], calls: str) -> None:
    """Give *cls* the handler *method*, marked by *mark*, which hands its message to the method *calls*.

    Every class gets a function of its own: a mark on a method of the base would count for all of its subclasses.
    """

    def handler(self: Any, m: Any) -> None:
        getattr(self, calls)(m)

    handler.__name__, handler.__qualname__, handler.__module__ = method, f"{cls.__qualname__}.{method}", cls.__module__
    setattr(cls, method, mark(handler))
