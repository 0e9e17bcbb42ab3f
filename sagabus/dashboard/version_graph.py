"""The version graph of a saga as shapes: where each commit stands, and the lines between them. Pure.

Rows run downwards in time and lanes are siblings, as in `sagabus.observe.graph`, which says who stands in which lane.
The page puts the text of a row beside its node, so a row has a fixed height.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from sagabus.commit import HistoryEntry, Outcome
from sagabus.observe.graph import Row, rows, short_names, type_names
from sagabus.versions import Dot

ROW: Final = 46
"""The height of a row, CSS pixels; the style sheet has the same."""
LANE: Final = 24
_MARGIN: Final = 16


@frozen
class Node:
    """One row of the graph.

    Attributes:
        kind: `version`, `completed`, `late`, `unchanged` for a commit that wrote no version, `trimmed` for a parent
            that is remembered no more, `life` for the head of a new life.
        x, y: its middle, CSS pixels.
        name: the version as people read it; empty where there is none.
        types: the messages handled.
        entry: the commit; None for `trimmed` and `life`.
        merged: the names of the versions merged; empty for none.
        text: what is said where there is no commit.
    """

    kind: str
    x: int
    y: int
    name: str = ""
    types: str = ""
    entry: HistoryEntry | None = None
    merged: tuple[str, ...] = ()
    text: str = ""


@frozen
class Edge:
    """A line from a version to one that was computed from it.

    Attributes:
        path: as SVG draws it.
        joins: whether it ends in a merge.
    """

    path: str
    joins: bool


@frozen
class VersionGraph:
    """The shapes, and the size of the plane that they need, CSS pixels."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def version_graph(entries: Sequence[HistoryEntry]) -> VersionGraph:
    """Return the drawing of *entries*, oldest first; empty for none."""
    # Connectors are lines of text only: here lanes are joined by curves.
    drawn = [row for row in rows(entries) if row.entry is not None or row.trimmed or not row.lanes]
    names = short_names(entries)
    nodes = tuple(_node(row, index, names) for index, row in enumerate(drawn))
    places: dict[Dot, Node] = {}
    edges: list[Edge] = []
    for row, node in zip(drawn, nodes, strict=True):
        entry = row.entry
        if entry is not None and entry.life:
            edges += _edges(entry, node, places)
        dot = row.trimmed or (entry.dot if entry is not None else None)
        if dot is not None:
            places[dot] = node
    lanes = max((row.lane for row in drawn if row.lane is not None), default=0)
    return VersionGraph(nodes, tuple(edges), 2 * _MARGIN + lanes * LANE, len(nodes) * ROW)


def _node(row: Row, index: int, names: Mapping[Dot, str]) -> Node:
    x, y = _MARGIN + (row.lane or 0) * LANE, index * ROW + ROW // 2
    entry = row.entry
    if entry is None:
        if row.trimmed is not None:
            return Node("trimmed", x, y, names[row.trimmed], text="trimmed from the history")
        return Node("life", x, y, text=row.cells[0].strip("─ ") if row.cells else "")
    if entry.outcome is Outcome.LATE:
        kind = "late"
    elif entry.completed:
        kind = "completed"
    else:
        kind = "version" if entry.dot else "unchanged"
    merged = tuple(names[dot] for dot in entry.parents) if len(entry.parents) > 1 else ()
    return Node(kind, x, y, names[entry.dot] if entry.dot else "", type_names(entry), entry, merged)


def _edges(entry: HistoryEntry, node: Node, places: Mapping[Dot, Node]) -> Iterator[Edge]:
    for dot in entry.parents:
        parent = places.get(dot)
        if parent is not None:
            yield Edge(_path(parent, node), joins=len(entry.parents) > 1)


def _path(parent: Node, child: Node) -> str:
    """Return a line that keeps to a lane: to the right it forks off below its parent, to the left it joins above."""
    if parent.x == child.x:
        return f"M{parent.x} {parent.y}V{child.y}"
    if child.x > parent.x:
        bend = parent.y + ROW
        return f"M{parent.x} {parent.y}C{parent.x} {bend - 12} {child.x} {parent.y + 12} {child.x} {bend}V{child.y}"
    bend = child.y - ROW
    return f"M{parent.x} {parent.y}V{bend}C{parent.x} {child.y - 12} {child.x} {bend + 12} {child.x} {child.y}"
