"""What a state's annotations say: the type of each field, and what is attached to it by `Annotated`."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import attrs


def names_visible_in(frame: types.FrameType | None) -> dict[str, Any]:
    """Return the local names that code in *frame* sees: its own, and for a class body those of what encloses it.

    Classes made inside a function are found by their names here and nowhere else, where annotations are strings.
    """
    scopes: list[Mapping[str, Any]] = []
    while frame is not None and frame.f_locals is not frame.f_globals:
        scopes.append(frame.f_locals)
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # a function; a class body has not this flag
            break
        frame = frame.f_back
    return {name: value for scope in reversed(scopes) for name, value in scope.items()}


@attrs.frozen
class Unresolved:
    """An annotation that names what cannot be found, such as an import for type checkers alone."""

    name: str


def field_hints(state_type: type[attrs.AttrsInstance], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved annotation of each field, `Annotated` kept; `Any` where there is none.

    Each is resolved by itself, so that one name that cannot be found (`Unresolved`) hides no other field. *names* count
    for classes that were made inside a function, and before the names of its module; elsewhere they count for nothing.
    """
    hints: dict[str, Any] = {}
    for field in attrs.fields(state_type):
        home = _home(state_type, field)
        local = {home.__name__: home, **names} if "<locals>" in home.__qualname__ else None
        alone = type("Alone", (), {"__annotations__": {field.name: field.type or Any}, "__module__": home.__module__})
        try:
            hints[field.name] = typing.get_type_hints(alone, localns=local, include_extras=True)[field.name]
        except NameError as error:
            hints[field.name] = Unresolved(error.name or str(error))
    return hints


def _home(state_type: type[attrs.AttrsInstance], field: attrs.Attribute[Any]) -> type:
    return next(
        base
        for base in state_type.__mro__
        for own in vars(base).get("__attrs_attrs__", ())
        if own.name == field.name and not own.inherited
    )


def attached(hint: Any) -> Iterator[object]:
    """Yield what `Annotated` attaches to *hint*, also to the members of an optional type."""
    if typing.get_origin(hint) is Annotated:
        yield from attached(hint.__origin__)
        yield from hint.__metadata__
    elif _is_union(hint):
        for member in typing.get_args(hint):
            yield from attached(member)


def bare(hint: Any) -> Any:
    """Return *hint* without `Annotated`, `None` and aliases: the type of a value that says something."""
    if typing.get_origin(hint) is Annotated:
        return bare(hint.__origin__)
    if isinstance(hint, typing.NewType):
        return bare(hint.__supertype__)
    if hasattr(hint, "__value__"):  # an alias made by the `type` statement
        return bare(hint.__value__)
    if _is_union(hint):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        return bare(members[0]) if len(members) == 1 else hint
    return hint


def class_of(hint: Any) -> type | None:
    """Return the class of the values that *hint* describes; None where it does not name exactly one."""
    plain = bare(hint)
    origin = typing.get_origin(plain) or plain
    return origin if isinstance(origin, type) and origin not in (Any, object) else None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
