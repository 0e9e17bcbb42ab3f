"""No page names a command, option, make target, environment variable, extra or module that does not exist."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest

from sagabus.cli import main
from tests.pages import EXAMPLES, PAGES, ROOT, text_of

_FENCE: Final = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_END: Final = re.compile(r"\s(?:\||>|>>|<|&&|\|\||&|;|#)\s.*|[;…].*|\s\.\.\.(?:\s.*|$)")
_SOURCES: Final = ("sagabus", "sagas", "mergers", "transports", "examples", "benchmarks", "tests")
_PLACEHOLDER: Final = re.compile(r"[A-Z/…\[<]|\.\.\.|\*")


def fragments(text: str) -> Iterator[str]:
    """Yield what a page shows as code and is not Python: spans, indented lines, and the lines of blocks."""
    for language, body in _FENCE.findall(text):
        if language != "python":
            yield from re.sub(r"\\\n\s*", " ", body).splitlines()
    prose = _FENCE.sub("", text)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
    yield from re.findall(r"^ {4,}(\S.*)$", prose, re.MULTILINE)


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of *program* in *text*."""
    for fragment in fragments(text):
        for found in re.finditer(rf"(?:^|[$|;(\"'=] ?|&& ){program} +(\S.*)", fragment):
            arguments = _END.sub("", found[1])
            try:
                yield shlex.split(arguments, comments=True)
            except ValueError:
                yield arguments.split()


def options_of(command: click.Command) -> set[str]:
    """Return every way to write an option of *command*."""
    named = {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
    negated = {name for each in command.params if isinstance(each, click.Option) for name in each.secondary_opts}
    return named | negated | {"--help", "-h"}


@cache
def every_command() -> dict[tuple[str, ...], click.Command]:
    """Return all commands by what is typed for them."""
    found: dict[tuple[str, ...], click.Command] = {}

    def walk(path: tuple[str, ...], command: click.Command) -> None:
        found[path] = command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                walk((*path, name), below)

    walk((), main)
    return found


def problem_with(arguments: list[str]) -> str:
    """Return what of a call of `sagabus` does not exist, or an empty string."""
    path: tuple[str, ...] = ()
    for argument in arguments:
        command = every_command()[path]
        if argument.startswith("-") and len(argument) > 1 and not argument[1].isdigit():
            option = argument.partition("=")[0].rstrip(".,:)]")
            if option not in options_of(command):
                return f"`sagabus {' '.join(path)}` has no option {option}"
        elif isinstance(command, click.Group):
            if _PLACEHOLDER.match(argument):
                return ""
            name = argument.rstrip(".,:)")
            if (*path, name) not in every_command():
                return f"there is no `sagabus {' '.join((*path, name))}`"
            path = (*path, name)
    return ""


def options_in(sources: Path) -> set[str]:
    """Return the options that the programs below *sources* take, whichever parser they have."""
    files = [sources] if sources.is_file() else list(sources.rglob("*.py"))
    return {option for file in files for option in re.findall(r"[\"'](--[a-z][a-z-]*)[\"']", _read(file))}


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def every_option() -> set[str]:
    """Return the options of our commands, of the pytest plugin, and of the programs beside."""
    ours = {option for command in every_command().values() for option in options_of(command)}
    folders = ("examples", "benchmarks", "tests/chaos", "tests/fuzz", "sagabus/testing/plugin.py")
    return ours.union(*(options_in(ROOT / folder) for folder in folders))


@cache
def make_names() -> tuple[set[str], set[str]]:
    """Return the targets and the variables of the Makefile."""
    text = _read(ROOT / "Makefile")
    return set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE)), set(re.findall(r"\b([A-Z]+)\b", text))


@cache
def environment_names() -> set[str]:
    """Return the environment variables that some code of the repository reads or sets."""
    files = [file for folder in _SOURCES for file in (ROOT / folder).rglob("*.py") if file != Path(__file__)]
    files += [ROOT / "Makefile", *(ROOT / ".ci").iterdir()]
    return {name for file in files for name in re.findall(r"\bSAGABUS_[A-Z_]*[A-Z]\b", _read(file))}


@cache
def extras() -> set[str]:
    """Return the extras of the distribution."""
    return set(tomllib.loads(_read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"])


def problems(text: str) -> list[str]:
    """Return what *text* names and there is not."""
    found = [problem_with(arguments) for arguments in commands(text, "sagabus")]
    targets, variables = make_names()
    for arguments in commands(text, "make"):
        for argument in arguments:
            name, is_variable, _ = argument.strip(".,:()[]").partition("=")
            if is_variable and name not in variables:
                found.append(f"the Makefile has no variable {name}")
            elif re.fullmatch(r"[a-z][\w-]*", name) and not is_variable and name not in targets:
                found.append(f"there is no `make {name}`")
    for arguments in commands(text, r"python3? -m"):
        found += _problems_of_module(arguments)
    for fragment in fragments(text):
        if (option := re.match(r"(--[a-z][a-z-]*)\b", fragment)) and option[1] not in every_option():
            found.append(f"nothing has an option {option[1]}")
    named = set(re.findall(r"\bSAGABUS_[A-Z_]*[A-Z]\b", text))
    found += [f"nothing reads {name}" for name in sorted(named - environment_names())]
    for listed in re.findall(r"(?:sagabus|'\.|\"\.)\[([a-z][a-z, -]*)\]", text):
        found += [f"there is no extra {name}" for name in re.split(r", ?", listed) if name not in extras()]
    return [each for each in found if each]


def _problems_of_module(arguments: list[str]) -> list[str]:
    module = arguments[0].rstrip(".,:)")
    if module.split(".")[0] not in _SOURCES:
        return []
    place = ROOT / module.replace(".", "/")
    program = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    if not program.is_file():
        return [f"there is no `python -m {module}`"]
    known = options_in(place if place.is_dir() else program) | options_in(ROOT / "examples" / "racing")
    given = [argument.partition("=")[0] for argument in arguments[1:] if re.match(r"--[a-z]", argument)]
    return [f"`python -m {module}` has no option {option}" for option in given if option not in known | {"--help"}]


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES])
def test_page_names_only_what_exists(page: str) -> None:
    """Whoever types what stands there is not told that it does not exist."""
    assert problems(text_of(page)) == []


@pytest.mark.parametrize("path", sorted(every_command()), ids=" ".join)
def test_help_names_only_what_exists(path: tuple[str, ...]) -> None:
    """The examples that a command gives of itself are commands that there are."""
    help_text = every_command()[path].help or ""
    assert problems(re.sub(r"^  (?=sagabus )", "    ", help_text, flags=re.MULTILINE)) == []


@pytest.mark.parametrize("package", ["sagabus", "sagas", "mergers", "transports"])
def test_errors_and_docstrings_name_only_commands_that_exist(package: str) -> None:
    """The next step that an error names can be taken."""
    for file in (ROOT / package).rglob("*.py"):
        texts = [
            node.value
            for node in ast.walk(ast.parse(_read(file)))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "`sagabus " in node.value
        ]
        for text in texts:
            spans = "".join(f"`{span}`\n" for span in re.findall(r"`(sagabus [^`]+)`", text))
            assert problems(spans) == [], file


def test_problems_are_found() -> None:
    """What does not exist is named, each kind of it."""
    text = """
`sagabus lisst shop:bus`, `sagabus dead retri shop:bus`, `--no-such-option`, `make nothing`, `make soak HOURS=1`,
SAGABUS_NOTHING, `pip install 'sagabus[nothing]'`, `python -m examples.nothing`

```console
$ sagabus list shop:bus --no-such-option | head
$ python -m examples.credit_check --no-such-option
```
"""
    assert sorted(problems(text)) == [
        "`python -m examples.credit_check` has no option --no-such-option",
        "`sagabus list` has no option --no-such-option",
        "nothing has an option --no-such-option",
        "nothing reads SAGABUS_NOTHING",
        "the Makefile has no variable HOURS",
        "there is no `make nothing`",
        "there is no `python -m examples.nothing`",
        "there is no `sagabus dead retri`",
        "there is no `sagabus lisst`",
        "there is no extra nothing",
    ]
