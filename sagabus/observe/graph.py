"""The version graph of a saga as text: lanes are siblings, forks open lanes and merges join them. Pure.

Time runs downwards. A version stands in the lane of the version it was computed from; where two were computed from the
same one, the later one gets a lane of its own, opened right below their parent. Lanes that reach the last line are the
versions that are live.

    ●    memory:1  cc.check        A  12:00:00.000  stored
    ├─╮
    ● │  memory:2  cc.score        A  12:00:00.010  stored
    │ ●  memory:3  cc.score        B  12:00:00.010  forked, decision dropped
    ├─╯
    ■    memory:4  MergeSagaState  A  12:00:00.020  merged memory:2 + memory:3, completed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from sagabus.commit import HistoryEntry, Outcome, sort_dots
from sagabus.ending import CANCEL
from sagabus.saga import utc
from sagabus.versions import Dot

VERSION: Final = "●"
COMPLETED: Final = "■"
NO_VERSION: Final = "○"
LATE: Final = "✕"
TRIMMED: Final = "┊"
_MAX_TYPES: Final = 60
_SHORT_ACTOR: Final = 8


@frozen
class Row:
    """One line of the drawing.

    Attributes:
        lanes: the box drawing; lane number i is at column 2 * i.
        entry: what the line is about; None for connectors, trimmed parents and the heads of lives.
        lane: the number of the lane that the entry, or the trimmed parent, stands in; None for other lines.
        cells: version, message types, worker, time, remarks; shorter or empty for other lines.
        trimmed: the parent that the line is about, where the history does not reach back to it; None as a rule.
    """

    lanes: str
    entry: HistoryEntry | None = None
    lane: int | None = None
    cells: tuple[str, ...] = ()
    trimmed: Dot | None = None


def draw(entries: Sequence[HistoryEntry]) -> str:
    """Return the version graph of *entries*, oldest first, as lines of plain text; empty for none."""
    table = align(rows(entries))
    return "\n".join("  ".join((lanes, *cells)).rstrip() for lanes, cells, _ in table)


def align(drawn: Sequence[Row]) -> list[tuple[str, tuple[str, ...], Row]]:
    """Return the lanes and cells of each row, padded to columns, with the row."""
    width = max((len(row.lanes) for row in drawn), default=0)
    columns = [row.cells for row in drawn if row.entry is not None]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    return [
        (
            row.lanes.ljust(width),
            tuple(cell.ljust(w) for cell, w in zip(row.cells, widths, strict=False)) if row.entry else row.cells,
            row,
        )
        for row in drawn
    ]


def rows(entries: Sequence[HistoryEntry]) -> list[Row]:
    """Return the lines of the drawing, not yet aligned; deterministic."""
    return list(_Drawing(entries).rows())


def short_names(entries: Sequence[HistoryEntry]) -> dict[Dot, str]:
    """Return each dot as people read it: long actors cut to what tells them apart."""
    dots = {dot for entry in entries for dot in (entry.dot, *entry.parents) if dot is not None}
    actors = {dot.actor for dot in dots}
    length = 4
    while len({actor[:length] for actor in actors}) < len(actors):
        length += 1
    names = {actor: actor if len(actor) <= _SHORT_ACTOR else actor[:length] for actor in actors}
    return {dot: f"{names[dot.actor]}:{dot.counter}" for dot in dots}


def type_names(entry: HistoryEntry) -> str:
    """Return the message types that a commit handled, in order, equal ones counted."""
    counts = Counter(envelope.type.removeprefix("sagabus.") for envelope in entry.messages)
    text = ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in counts.items())  # noqa: RUF001
    return text if len(text) <= _MAX_TYPES else f"{text[: _MAX_TYPES - 1]}…"


def remarks(entry: HistoryEntry, names: Mapping[Dot, str]) -> str:
    """Return what became of a commit, in the words of the glossary."""
    words = []
    if len(entry.parents) > 1:
        words.append(f"merged {' + '.join(names[dot] for dot in entry.parents)}")
    if entry.outcome is not Outcome.STORED or not (words or entry.completed):
        words.append(entry.outcome.value)
    if entry.dot is None and entry.outcome is Outcome.STORED and not entry.completed:
        words.append("state unchanged")
    if entry.dropped_decision:
        words.append("decision dropped")
    if entry.completed:
        words.append("cancelled" if is_cancellation(entry) else "completed")
    return ", ".join(words)


def is_cancellation(entry: HistoryEntry) -> bool:
    """Return whether a commit is the end that a person made of the saga."""
    return [message.type for message in entry.messages] == [CANCEL]


@frozen
class _Edge:
    """What occupies a lane: a version, and the later one it leads to; None where it leads to none."""

    parent: Dot
    child: Dot | None


@define
class _Drawing:
    """Walks the entries, oldest first, and keeps which lane leads where."""

    entries: Sequence[HistoryEntry]
    lanes: list[_Edge | None] = field(factory=list)

    def rows(self) -> Iterator[Row]:
        names = short_names(self.entries)
        with_date = len({entry.at_ms // 86_400_000 for entry in self.entries}) > 1
        children = self._children()
        known = {entry.dot for entry in self.entries}
        for dot in sort_dots({p for entry in self.entries for p in entry.parents} - known):
            lane = self._take(None)
            said = (names[dot], "trimmed from the history")
            yield Row(self._line(lane, TRIMMED), lane=lane, cells=said, trimmed=dot)
            yield from self._open(lane, dot, children.get(dot, ()))
        life = self.entries[0].life if self.entries else 0
        for entry in self.entries:
            if entry.life > life:
                life = entry.life
                self.lanes.clear()
                yield Row("", cells=(f"── life {life} ──",))
            cells = (
                names[entry.dot] if entry.dot else "",
                type_names(entry),
                entry.by,
                _time(entry.at_ms, with_date),
                remarks(entry, names) + (f" (life {entry.life})" if entry.life < life else ""),
            )
            yield from self._entry(entry, cells, children)

    def _children(self) -> dict[Dot, list[Dot]]:
        children: dict[Dot, list[Dot]] = {}
        for entry in self.entries:
            for parent in entry.parents if entry.dot else ():
                assert entry.dot is not None
                children.setdefault(parent, []).append(entry.dot)
        return children

    def _entry(
        self, entry: HistoryEntry, cells: tuple[str, ...], children: Mapping[Dot, Sequence[Dot]]
    ) -> Iterator[Row]:
        if entry.dot is None:
            yield self._without_version(entry, cells)
            return
        arriving = [i for i, edge in enumerate(self.lanes) if edge is not None and edge.child == entry.dot]
        lane = arriving[0] if arriving else self._take(None)
        if len(arriving) > 1:
            yield Row(self._connector(lane, arriving[1:], "┴", "╯"))
            for closed in arriving[1:]:
                self._free(closed)
        yield Row(self._line(lane, COMPLETED if entry.completed else VERSION), entry, lane, cells)
        if entry.completed:
            self._free(lane)
        else:
            yield from self._open(lane, entry.dot, children.get(entry.dot, ()))

    def _without_version(self, entry: HistoryEntry, cells: tuple[str, ...]) -> Row:
        """Return the line of a commit that wrote none: on its parent's lane while that ends there, else beside all."""
        on = None
        if entry.outcome is not Outcome.LATE and len(entry.parents) == 1:
            on = next((i for i, e in enumerate(self.lanes) if e is not None and e.parent == entry.parents[0]), None)
        glyph = LATE if entry.outcome is Outcome.LATE else COMPLETED if entry.completed else NO_VERSION
        lane = self._take(None) if on is None else on
        row = Row(self._line(lane, glyph), entry, lane, cells)
        if on is None or entry.completed:
            self._free(lane)
        return row

    def _open(self, lane: int, dot: Dot, children: Sequence[Dot]) -> Iterator[Row]:
        """Have *lane* lead to the first child, and open a lane for each of the others."""
        self.lanes[lane] = _Edge(dot, children[0] if children else None)
        opened = [self._take(_Edge(dot, child), after=lane) for child in children[1:]]
        if opened:
            yield Row(self._connector(lane, opened, "┬", "╮"))

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _take(self, edge: _Edge | None, after: int = -1) -> int:
        """Return the first free lane to the right of *after*, occupied by *edge*."""
        lane = after + 1
        while lane < len(self.lanes) and self.lanes[lane] is not None:
            lane += 1
        if lane == len(self.lanes):
            self.lanes.append(None)
        self.lanes[lane] = edge
        return lane

    def _free(self, lane: int) -> None:
        self.lanes[lane] = None
        while self.lanes and self.lanes[-1] is None:
            self.lanes.pop()

    def _line(self, at: int, glyph: str) -> str:
        marks = ["│" if edge is not None else " " for edge in self.lanes]
        marks[at] = glyph
        return " ".join(marks).rstrip()

    def _connector(self, start: int, ends: Sequence[int], inner: str, last: str) -> str:
        """Return a line on which *start* is joined with the lanes *ends*, all to its right; others pass behind."""
        marks = []
        for i, edge in enumerate(self.lanes):
            inside = start < i < ends[-1]
            if i == start:
                mark = "├"
            elif i in ends:
                mark = last if i == ends[-1] else inner
            else:
                mark = "│" if edge is not None else "─" if inside else " "
            marks.append(mark + ("─" if start <= i < ends[-1] else " "))
        return "".join(marks).rstrip()


def _time(at_ms: int, with_date: bool) -> str:
    return utc(at_ms).strftime("%Y-%m-%d %H:%M:%S." if with_date else "%H:%M:%S.") + f"{at_ms % 1000:03d}"
