"""The version graph and the states of a saga, in color where the terminal has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sagabus.commit import HistoryEntry, Outcome
from sagabus.observe.graph import align, rows

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_LANES: Final = ("cyan", "yellow", "magenta", "blue", "green", "red")
_DIM: Final = "dim"


def print_graph(out: Console, entries: Sequence[HistoryEntry]) -> None:
    """Print the version graph of *entries*; each lane has its color, what was dropped is struck through."""
    from rich.text import Text

    for lanes, cells, row in align(rows(entries)):
        line = _lanes(lanes)
        style = _style(row.entry)
        for index, cell in enumerate(cells):
            line.append("  ")
            last = index == len(cells) - 1
            if row.entry is None or index in (2, 3):
                line.append(cell, _DIM)
            elif last and "decision dropped" in cell:
                before, _, after = cell.partition("decision dropped")
                line.append_text(Text.assemble((before, style), ("decision dropped", "red strike"), (after, style)))
            else:
                line.append(cell, style if last else "bold" if index == 0 else "")
        line.rstrip()
        out.print(line, soft_wrap=True)


def _lanes(lanes: str) -> Text:
    from rich.text import Text

    text = Text()
    for column, mark in enumerate(lanes):
        # What lies between two lanes belongs to the one that it leads to.
        lane = (column + 1) // 2
        text.append(mark, f"bold {_LANES[lane % len(_LANES)]}" if mark != " " else "")
    return text


def _style(entry: HistoryEntry | None) -> str:
    if entry is None:
        return _DIM
    if entry.completed:
        return "bold green"
    return {Outcome.FORKED: "yellow", Outcome.LATE: "magenta"}.get(entry.outcome, "")


def pretty(value: Any, indent: int = 2) -> str:
    """Return plain data as JSON text for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()


def print_states(out: Console, states: Mapping[str, Any]) -> None:
    """Print states by the name of their version: one as JSON, siblings side by side, `≠` at fields that differ."""
    if len(states) == 1 or not all(isinstance(state, dict) for state in states.values()):
        for name, state in states.items():
            if len(states) > 1:
                out.print(name, style="bold", markup=False)
            out.print(pretty(state), markup=False, soft_wrap=True)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("field", style="bold")
    for name in states:
        table.add_column(name, overflow="fold")
    for field in dict.fromkeys(field for state in states.values() for field in state):
        values = [pretty(state[field]) if field in state else "" for state in states.values()]
        differ = len(set(values)) > 1
        cells = [Text(value, "yellow" if differ else "") for value in values]
        table.add_row(Text("≠" if differ else "", "bold yellow"), Text(field), *cells)
    out.print(table)
