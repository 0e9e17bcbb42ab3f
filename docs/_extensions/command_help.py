"""Where a page says `<!-- help of every command -->`, what each command says with `--help` is put, as it is today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click
from click.testing import CliRunner
from sphinx.application import Sphinx

from sagabus.cli import main

_PLACE: Final = "<!-- help of every command -->"
_WIDTH: Final = "80"


def sections(path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a section for the command at *path* and for each below it, in the order of `--help`."""
    command = _at(path)
    said = CliRunner().invoke(main, [*path, "--help"], prog_name="sagabus", env={"COLUMNS": _WIDTH})
    assert said.exit_code == 0, said.output
    yield f"{'#' * min(3 + max(len(path) - 1, 0), 4)} sagabus {' '.join(path)}".rstrip()
    yield f"```text\n{said.output.rstrip()}\n```"
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from sections((*path, name))


def _at(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def on_source_read(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Put the sections into the page that has the place for them."""
    if _PLACE in source[0]:
        source[0] = source[0].replace(_PLACE, "\n\n".join(sections()))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above."""
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
