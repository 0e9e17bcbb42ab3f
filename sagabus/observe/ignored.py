"""What a merger has ignored: what one side changed since the ancestor, and the result does not have. Pure.

Each side is compared with the ancestor, member by member, and each of its changes looked for in the result:

    scores.equifax: missing -> 720, lost             the result is as the ancestor was: nobody's change is there
    limit: 100 -> 150, overruled by 200              the result has what another side said
    total: 10 -> 12, replaced by 99                  the result has what no side said
    notes: + "called", lost                          an item that was added to a list is not in the result
    notes: - "open", still there                     an item that was removed from a list is in the result

A number to which the result has added the changes of all sides is a counter, and nothing of it is ignored.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import msgspec
from attrs import frozen

from sagabus.observe.changes import MISSING, Change, at_path, changes, word


class Fate(enum.Enum):
    """What became of a change that the result does not have."""

    LOST = "lost"
    OVERRULED = "overruled"
    REPLACED = "replaced"
    STILL_THERE = "still there"


@frozen
class Ignored:
    """One change of one side that the result does not have.

    Attributes:
        change: what that side changed; of lists, the item that it added (nothing before) or removed (nothing after).
        fate: what became of it.
        result: what the result has in that place; `MISSING` for nothing.
        item: whether it is about an item of a list.
    """

    change: Change
    fate: Fate
    result: Any
    item: bool = False

    def __str__(self) -> str:
        change = self.change
        if self.item:
            removed = change.after is MISSING
            said = f"{change.place}: {'-' if removed else '+'} {word(change.before if removed else change.after)}"
            return f"{said}, {self.fate.value}"
        by = "" if self.fate is Fate.LOST else f" by {word(self.result)}"
        return f"{change}, {self.fate.value}{by}"

    def row(self) -> dict[str, Any]:
        """Return it as plain data for programs; what is missing has no member."""
        found: dict[str, Any] = {"path": self.change.place, "fate": self.fate.value, "item": self.item}
        values = (("before", self.change.before), ("after", self.change.after), ("result", self.result))
        return found | {name: value for name, value in values if value is not MISSING}


def ignored(ancestor: Any, sides: Sequence[Any], result: Any) -> list[tuple[Ignored, ...]]:
    """Return for each of *sides* what it changed and *result* does not have; all are plain data."""
    changed = [tuple(changes(ancestor, side)) for side in sides]
    return [tuple(_of_side(number, changed, result)) for number in range(len(sides))]


def _of_side(number: int, changed: Sequence[tuple[Change, ...]], result: Any) -> Iterator[Ignored]:
    for change in changed[number]:
        now = at_path(result, change.path)
        if _same(now, change.after):
            continue
        there = _of_all(change, changed)
        if _is_list(change.after) and _is_list(now) and (change.before is MISSING or _is_list(change.before)):
            yield from _items(change, now)
        elif _is_sum(change.before, there, now):
            continue
        elif _same(now, change.before):
            yield Ignored(change, Fate.LOST, now)
        elif any(_same(now, other) for other in there):
            yield Ignored(change, Fate.OVERRULED, now)
        else:
            yield Ignored(change, Fate.REPLACED, now)


def _of_all(change: Change, changed: Sequence[tuple[Change, ...]]) -> list[Any]:
    """Return what each side that changed the same place has there."""
    return [other.after for side in changed for other in side if other.path == change.path]


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list | tuple)


def _is_sum(before: Any, there: Sequence[Any], now: Any) -> bool:
    """Return whether *now* has the changes of all sides added up."""
    values = (before, *there, now)
    if len(there) < 2 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return False
    return bool(now == before + sum(value - before for value in there))


def _items(change: Change, now: Sequence[Any]) -> Iterator[Ignored]:
    """Yield the items that were added and are not there, and those that were removed and are."""
    before, after, result = (
        _counted(v) for v in (() if change.before is MISSING else change.before, change.after, now)
    )
    for item in (after - before) - (result - before):
        added = Change(change.path, MISSING, msgspec.json.decode(item))
        yield Ignored(added, Fate.LOST, MISSING, item=True)
    for item, count in (before - after).items():
        if result[item] > max(0, before[item] - count):
            value = msgspec.json.decode(item)
            yield Ignored(Change(change.path, value, MISSING), Fate.STILL_THERE, value, item=True)


def _counted(items: Sequence[Any]) -> Counter[bytes]:
    return Counter(msgspec.json.encode(item, order="sorted") for item in items)
