"""A value with some of its fields changed, whatever kind of value it is."""

from __future__ import annotations

from typing import TypeVar

import attrs
import msgspec

T = TypeVar("T")


def evolve(value: T, **changes: object) -> T:
    """Return *value*, a record or an attrs object, with *changes*."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return attrs.evolve(value, **changes)  # type: ignore[misc]
