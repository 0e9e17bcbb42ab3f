"""Templates: files of this package in which `$name` stands for what a project or a saga is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from string import Template
from typing import Final

from sagabus.errors import ConfigurationError

_FOLDER: Final = Path(__file__).with_name("templates")
_SUFFIX: Final = ".txt"
"""So that nothing takes a template for code of ours."""


def render(kind: str, values: Mapping[str, str]) -> dict[PurePosixPath, str]:
    """Return every file below the templates of *kind* with *values* put in: its path there -> its text."""
    folder = _FOLDER / kind
    return {
        PurePosixPath(path.relative_to(folder).as_posix().removesuffix(_SUFFIX)): Template(
            path.read_text(encoding="utf-8")
        ).substitute(values)
        for path in sorted(folder.rglob(f"*{_SUFFIX}"))
    }


def write(files: Mapping[Path, str]) -> Iterator[Path]:
    """Write *files*, with the folders that they need, and yield each one; none where one of them exists.

    Raises:
        ConfigurationError: something is there already, or cannot be written.
    """
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there:
        more = f" and {len(there) - 1} more of its files" if len(there) > 1 else ""
        raise ConfigurationError(
            f"{there[0]}{more} exist already, and nothing is overwritten; move them away, or choose another name"
        )
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Exclusive: nothing is overwritten either that came a moment ago.
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
        yield path
