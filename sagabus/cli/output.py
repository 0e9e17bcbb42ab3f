"""How commands print: JSON lines for programs, tables for people; both on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from sagabus.printable import pictured, printable_json

if TYPE_CHECKING:
    from rich.console import Console

_UNLIMITED: Final = 10_000

json_option = click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout.")


def emit(row: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    import msgspec

    click.echo(printable_json(msgspec.json.encode(row).decode()))


def console() -> Console:
    """Return what prints for people: colors on a terminal only (NO_COLOR honoured), no wrapping elsewhere."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        """A console that what it shows cannot tell anything."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(pictured(segment.text), segment.style)

    return SafeConsole(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED)


def print_table(out: Console, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print *rows* under *columns*; numbers stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    out.print(table)
