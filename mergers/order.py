"""One order for all plain values, so that every worker breaks a tie alike."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar

import attrs

V = TypeVar("V")

_ATOMS = (str, bytes, int, float, datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
_ORDERED = (*_ATOMS, decimal.Decimal, uuid.UUID)
_IMMUTABLE = frozenset({*_ORDERED, bool, type(None)})


def rank(value: Any) -> tuple[Any, ...]:
    """Return a key that sorts *value* among plain values of any type, the same in every process.

    Equal values of one type have equal keys, whatever the insertion order of their mappings and sets. Values of one
    ordered type keep their own order; values of different types sort by the name of the type. A type of another package
    may have a method `__merge_rank__()` that returns what to sort its values by.

    Raises:
        TypeError: *value* or something in it is neither a plain value, an enum member, a container nor an attrs object,
            and has no such method.
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None:
        return ("",)
    if isinstance(value, enum.Enum):
        return kind, value.name
    if isinstance(value, _ORDERED):
        return kind, value
    if isinstance(value, Mapping):
        return kind, sorted((rank(key), rank(item)) for key, item in value.items())
    if isinstance(value, Set):
        return kind, sorted(rank(item) for item in value)
    if isinstance(value, Sequence):
        return kind, [rank(item) for item in value]
    if hasattr(type(value), "__merge_rank__"):
        return kind, rank(value.__merge_rank__())
    if attrs.has(type(value)):
        return kind, [rank(getattr(value, field.name)) for field in attrs.fields(type(value)) if field.eq]
    raise TypeError(f"{kind} has no canonical order")


def owned(value: V) -> V:
    """Return *value*, copied where somebody could change it: a merged state shares nothing with its siblings."""
    return value if type(value) in _IMMUTABLE else copy.deepcopy(value)
