"""The argument APP, completed by a shell: what a project names, and modules in which a bus is made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_BUS: Final = re.compile(r"^(\w+)(?: *: *[\w.]+)? *= *(?:sagabus\.)?Bus\(", re.MULTILINE)
_DEEPEST: Final = 3
_MOST_FILES: Final = 1000
_DEFAULT: Final = "bus"


class AppName(click.types.StringParamType):
    """`package.module:bus`, or `package.module` where the bus is called that."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the apps that begin with *incomplete*; nothing is imported for it."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(app) for app in apps(Path.cwd()) if app.startswith(incomplete)]


def complete_apps(command: click.Command) -> None:
    """Have *command*, and those below it, complete their argument APP."""
    for param in command.params:
        if isinstance(param, click.Argument) and param.name == "app":
            param.type = AppName()
    if isinstance(command, click.Group):
        for below in command.commands.values():
            complete_apps(below)


def apps(folder: Path) -> list[str]:
    """Return the apps that *folder* names or holds, each once, without the attribute where it is `bus`."""
    from sagabus.errors import ConfigurationError
    from sagabus.scaffold.project import find_project

    try:
        named = [find_project(folder).app.removesuffix(f":{_DEFAULT}")]
    except ConfigurationError:
        named = []
    return list(dict.fromkeys([*named, *sorted(_found(folder))]))


def _found(folder: Path) -> Iterator[str]:
    for path in _sources(folder):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for name in _BUS.findall(text):
            yield module if name == _DEFAULT else f"{module}:{name}"


def _sources(folder: Path) -> Iterator[Path]:
    left = _MOST_FILES
    for parent, folders, files in os.walk(folder):
        depth = len(Path(parent).relative_to(folder).parts)
        folders[:] = [name for name in folders if name.isidentifier() and depth + 1 < _DEEPEST]
        for name in files:
            if name.endswith(".py") and name.removesuffix(".py").isidentifier():
                left -= 1
                if left < 0:
                    return
                yield Path(parent, name)
