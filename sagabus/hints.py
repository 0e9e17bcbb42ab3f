"""The annotations of classes, resolved with the names that were visible where they were defined."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any


def resolve_hints(cls: type, local_names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the annotations of *cls*, resolved, and leave them resolved on it and on the attrs classes it holds.

    msgspec evaluates annotations itself but sees module names only; this also knows the names where the class was
    defined. A name that nothing defines stays text, for the codec to complain of.
    """
    names = {cls.__name__: cls, **(local_names or {})}
    for base in reversed(cls.__mro__):
        own = base.__dict__.get("__annotations__", {})  # noqa: RUF063 - to be changed in place
        for field_name, hint in own.items():
            if isinstance(hint, str):
                own[field_name] = _resolve(hint, base, names)
    return {name: hint for base in reversed(cls.__mro__) for name, hint in inspect.get_annotations(base).items()}


def _resolve(hint: str, cls: type, names: Mapping[str, Any]) -> Any:
    scope = type("scope", (), {"__annotations__": {"it": hint}})  # only a class may have a ClassVar
    module = sys.modules.get(cls.__module__)
    try:
        return typing.get_type_hints(scope, vars(module) if module else {}, dict(names), include_extras=True)["it"]
    except NameError:
        return hint
