"""Projects: what a new one consists of, and how a command finds the one that it was started in."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Final

from attrs import frozen

from sagabus.errors import ConfigurationError
from sagabus.scaffold.names import package_name
from sagabus.scaffold.templates import render

_FILE: Final = "pyproject.toml"
_HIDDEN: Final = {"gitignore": ".gitignore", "dockerignore": ".dockerignore"}
_ADD: Final = 'add [tool.sagabus] with app = "package.module:bus" to it, or make a project with sagabus init'


def new_project(folder: Path, package: str | None, version: str) -> dict[Path, str]:
    """Return the files of a new project in *folder*: path -> text.

    Args:
        package: what to import it as; after the folder by default.
        version: of sagabus, which it asks for.

    Raises:
        ConfigurationError: there is no package of that name to be had.
    """
    title = folder.resolve().name if package is None else package
    name = package_name(title)
    values = {"package": name, "project": name.replace("_", "-"), "title": title, "version": version}
    files = {folder / _placed(path, name): text for path, text in render("project", values).items()}
    return dict(sorted(files.items()))


def _placed(path: PurePosixPath, package: str) -> PurePosixPath:
    parts = [package if part == "package" else _HIDDEN.get(part, part) for part in path.parts]
    return PurePosixPath(*parts)


@frozen
class Project:
    """A project as its pyproject.toml describes it.

    Attributes:
        folder: where that file is.
        app: `package.module:attribute` of its bus.
    """

    folder: Path
    app: str

    @property
    def package(self) -> str:
        """Return the package of the app's module; empty where that is at the top level."""
        return self.app.partition(":")[0].rpartition(".")[0]

    @property
    def app_file(self) -> Path:
        """Return the file of the app's module."""
        return self.folder.joinpath(*self.app.partition(":")[0].split(".")).with_suffix(".py")


def find_project(start: Path) -> Project:
    """Return the project that *start* is in: the nearest folder, upwards, whose pyproject.toml has [tool.sagabus].

    Raises:
        ConfigurationError: there is none, or it names no app.
    """
    start = start.resolve()
    seen: list[Path] = []
    for folder in (start, *start.parents):
        path = folder / _FILE
        if not path.is_file():
            continue
        seen.append(path)
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}; mend it") from error
        table = said.get("tool", {}).get("sagabus")
        if table is None:
            continue
        app = table.get("app") if isinstance(table, dict) else None
        if not isinstance(app, str) or not all(part.isidentifier() for part in app.replace(":", ".").split(".")):
            raise ConfigurationError(f'{path}: [tool.sagabus] has no app = "package.module:bus"; give it one')
        return Project(folder, app)
    where = f"{seen[0]} has no [tool.sagabus]" if seen else f"there is no {_FILE} in {start} or above"
    raise ConfigurationError(f"{where}; {_ADD}")
