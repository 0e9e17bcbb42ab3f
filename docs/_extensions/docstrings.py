"""Docstrings are written to be read as they stand; here what reStructuredText wants beside is added."""

from __future__ import annotations

import re
from typing import Any, Final

from sphinx.application import Sphinx

_CLASS_ARGUMENTS: Final = re.compile(r"^Class arguments(?:, (.*))?:$")


def on_docstring(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Say where code begins, and give a section `Class arguments, beside others:` the head that is known."""
    new: list[str] = []
    for number, line in enumerate(lines):
        if found := _CLASS_ARGUMENTS.match(line):
            new += ([f"Class arguments, {found[1]}.", ""] if found[1] else []) + ["Class arguments:"]
        elif line.endswith(":") and _code_follows(line, lines[number + 1 : number + 3]):
            new.append(f"{line}:")
        else:
            new.append(line)
    lines[:] = new


def _code_follows(line: str, following: list[str]) -> bool:
    margin = len(line) - len(line.lstrip())
    return len(following) == 2 and not following[0].strip() and following[1].startswith(" " * (margin + 4))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is above, before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
