"""Records: values that are made once a message or more often.

They are msgspec structs, which are made six times as fast as frozen attrs classes; `msgspec.structs.replace` makes
another one with some fields changed. What is made less often, or needs a validator, is a frozen attrs class.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import astuple


class Record(msgspec.Struct, frozen=True):
    """A value of named fields. Equal where all of them are."""


class Entry(msgspec.Struct, eq=False):
    """Named fields that change while a message is handled. Equal to itself alone."""


class RecordWithAside(msgspec.Struct, frozen=True, eq=False):
    """A value of named fields whose last one is an aside: two that differ in it alone are equal."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _without_aside(self) == _without_aside(other)

    def __hash__(self) -> int:
        return hash(_without_aside(self))


def _without_aside(record: Any) -> tuple[Any, ...]:
    return astuple(record)[:-1]
