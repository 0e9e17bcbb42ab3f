"""Every help screen fits a screen and has an example to copy; commands that are added are held to it, too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from sagabus.cli import exit_codes
from sagabus.cli.group import COMMANDS, SECTIONS, main
from tests.pages import ROOT

LINES = 24
COLUMNS = 80
TALLER = {(): 40, ("dead", "retry"): 34}
"""Lines of those that need more: the top, with all commands under their headings, and one of sixteen options."""


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of *command* and of each command below it."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


PATHS = list(walk(main))


def help_of(path: tuple[str, ...]) -> str:
    """Return what `sagabus PATH --help` prints on a terminal of 80 columns."""
    # Longer words and examples are not wrapped, so the width is looked at as well.
    done = CliRunner().invoke(main, [*path, "--help"], prog_name="sagabus", env={"COLUMNS": str(COLUMNS)})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_fits_a_screen_and_has_an_example(path: tuple[str, ...]) -> None:
    """Each help has at most 24 lines of 80 columns (40 lines for that of all), and a command to copy."""
    text = help_of(path)
    lines = text.splitlines()
    assert len(lines) <= TALLER.get(path, LINES)
    assert max(map(len, lines)) <= COLUMNS
    assert re.search(rf"^ +(sagabus|\S.*[|(] ?sagabus) {' '.join(path) or 'worker'} \S", text, re.MULTILINE)


def test_help_of_all_lists_every_command_once_under_a_heading() -> None:
    """What there is can be found from `sagabus --help`, with a whole sentence about it, not cut short."""
    text = help_of(())
    for heading, names in SECTIONS:
        assert re.search(rf"^  {heading} +{names[0]} ", text, re.MULTILINE)
    for name in COMMANDS:
        assert len(re.findall(rf"^  (?:\w+)? +{name} +[A-Z].*\.$", text, re.MULTILINE)) == 1, name
    assert len(COMMANDS) == len(set(COMMANDS))


def test_exit_codes_are_those_that_help_and_pages_tell() -> None:
    """One set of codes for all commands: what the code knows, what `--help` says, and what docs/cli.md says."""
    known = {0} | {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    said = help_of(()).partition("Exit codes:")[2].partition("Options:")[0]
    assert {int(code) for code in re.findall(r"\b(\d) [a-z]", said)} == known
    table = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == known


def test_taller_helps_are_those_of_commands_that_exist() -> None:
    """No exception outlives its command."""
    assert set(TALLER) <= set(PATHS)


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("worker",), ("worker", "--no-such-option"), ("list", "no such app"), ("dead", "list")],
    ids=" ".join,
)
def test_command_used_wrongly_exits_2_and_says_so_on_stderr(arguments: tuple[str, ...]) -> None:
    """What was typed is at fault: exit code 2, whatever the command, and nothing on stdout."""
    done = CliRunner().invoke(main, arguments, prog_name="sagabus")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr
