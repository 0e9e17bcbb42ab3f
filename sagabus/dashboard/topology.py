"""Message types, endpoints and what handles them, as shapes in three columns. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from sagabus.transport import QueueInfo

if TYPE_CHECKING:
    from sagabus.endpoint import Endpoint

_ROW: Final = 34
_HEIGHT: Final = 24
_TOP: Final = 34
_COLUMNS: Final = (4, 330, 620)
_WIDTHS: Final = (230, 190, 230)


@frozen
class Box:
    """One name in a column: its corner and size, CSS pixels."""

    kind: str
    text: str
    x: int
    y: int
    width: int
    height: int = _HEIGHT

    @property
    def shown(self) -> str:
        """Return as much of the name as fits; of a function, without the modules that it is in."""
        text = ".".join(self.text.replace(".<locals>", "").split(".")[-2:]) if self.kind == "handler" else self.text
        most = (self.width - 16) // 7
        return text if len(text) <= most else f"{text[: most - 1]}…"


@frozen
class Line:
    """A line between two boxes; dashed where it is a subscription to what another app declares."""

    path: str
    kind: str


@frozen
class Topology:
    """The shapes, and the size of the plane that they need."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: int
    height: int
    heads: tuple[tuple[int, str], ...] = tuple(zip(_COLUMNS, ("message types", "endpoints", "handlers"), strict=True))


def topology(endpoints: Iterable[Endpoint], routes: Mapping[str, str], queues: Sequence[QueueInfo]) -> Topology:
    """Return who gets what on a bus.

    Args:
        endpoints: those of this app.
        routes: message type -> the endpoint that it is sent to where nobody says otherwise.
        queues: all that were declared, by other apps too: of those only the subscriptions are known.
    """
    takes: dict[str, list[str]] = {queue.endpoint: sorted(queue.subscriptions) for queue in queues}
    handlers: dict[str, list[str]] = {}
    for endpoint in endpoints:
        takes[endpoint.name] = list(endpoint.handled_types())
        handlers[endpoint.name] = [f"saga {saga.name}" for saga in endpoint.sagas]
        handlers[endpoint.name] += [c.name for c in endpoint.consumers]
    for kind, name in routes.items():
        takes.setdefault(name, [])
        if kind not in takes[name]:
            takes[name].append(kind)
    columns = (
        list(dict.fromkeys(kind for kinds in takes.values() for kind in kinds)),
        list(takes),
        [f"{name}\0{handler}" for name in takes for handler in dict.fromkeys(handlers.get(name, ()))],
    )
    tallest = max(map(len, columns), default=0)
    boxes: dict[tuple[int, str], Box] = {}
    for column, names in enumerate(columns):
        offset = (tallest - len(names)) * _ROW // 2
        kind = ("type", "endpoint", "handler")[column]
        for index, name in enumerate(names):
            y = _TOP + offset + index * _ROW
            boxes[column, name] = Box(kind, name.rpartition("\0")[2], _COLUMNS[column], y, _WIDTHS[column])
    lines = [
        Line(_between(boxes[0, kind], boxes[1, name]), "own" if name in handlers else "event")
        for name, kinds in takes.items()
        for kind in kinds
    ]
    for name, found in handlers.items():
        lines += [Line(_between(boxes[1, name], boxes[2, f"{name}\0{h}"]), "own") for h in dict.fromkeys(found)]
    return Topology(tuple(boxes.values()), tuple(lines), _COLUMNS[2] + _WIDTHS[2] + 4, _TOP + tallest * _ROW + 4)


def _between(left: Box, right: Box) -> str:
    x1, y1 = left.x + left.width, left.y + _HEIGHT // 2
    x2, y2 = right.x, right.y + _HEIGHT // 2
    bend = (x2 - x1) // 2
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
