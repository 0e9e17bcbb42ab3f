"""Where two states differ, member by member, as values: plain data in, one change a place out. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from attrs import frozen


class Missing(enum.Enum):
    """Stands where a state has nothing."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
"""There is no such member."""


@frozen
class Change:
    """One place where two states differ.

    Attributes:
        path: where: names of fields and keys of mappings, from the outermost on; empty for all of it.
        before: what stands there in the first; `MISSING` for nothing.
        after: what stands there in the second.
    """

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def place(self) -> str:
        """Return the path as people read it: `scores.equifax`."""
        return ".".join(self.path)

    def __str__(self) -> str:
        where = f"{self.place}: " if self.path else ""
        return f"{where}{word(self.before)} -> {word(self.after)}"


def changes(before: Any, after: Any, *, whole: bool = False, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield where *after* differs from *before*, both plain data, in the order of their members.

    Lists are compared whole: what stands in them has no name.

    Args:
        whole: whether a mapping that only one of them has is one change; else each of its members is.
    """
    if not whole:
        before, after = _opened(before, after), _opened(after, before)
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            inner = (*path, str(name))
            yield from changes(before.get(name, MISSING), after.get(name, MISSING), whole=whole, path=inner)
    elif type(before) is not type(after) or before != after:
        yield Change(path, before, after)


def _opened(value: Any, other: Any) -> Any:
    """Return an empty mapping for nothing beside a mapping that has members."""
    return {} if value is MISSING and isinstance(other, dict) and other else value


def at_path(value: Any, path: tuple[str, ...]) -> Any:
    """Return what stands in plain data at *path*; `MISSING` for nothing."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def word(value: Any) -> str:
    """Return plain data as JSON in a line, or `missing`."""
    return "missing" if value is MISSING else text(value)


def text(value: Any) -> str:
    """Return plain data as JSON in a line."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode().replace("\n", " ")


def rows(found: Iterator[Change] | tuple[Change, ...]) -> list[dict[str, Any]]:
    """Return changes as plain data for programs; what is missing has no member."""
    return [
        {"path": change.place}
        | ({} if change.before is MISSING else {"before": change.before})
        | ({} if change.after is MISSING else {"after": change.after})
        for change in found
    ]
