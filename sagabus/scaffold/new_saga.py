"""A new saga in a project: its module, its test, and its place on the bus."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from sagabus.errors import ConfigurationError
from sagabus.scaffold.names import SagaNames
from sagabus.scaffold.project import Project
from sagabus.scaffold.registration import Registration
from sagabus.scaffold.templates import render


@frozen
class NewSaga:
    """What is to be written for a new saga.

    Attributes:
        names: what it is called where.
        files: path -> text, its module first.
        registration: the lines that put it on the bus.
        app: the app's file.
        app_text: what that becomes; None where it is better left to people.
    """

    names: SagaNames
    files: dict[Path, str]
    registration: Registration
    app: Path
    app_text: str | None


def new_saga(project: Project, typed: str, key: str) -> NewSaga:
    """Return what a saga called *typed* is in *project*.

    Args:
        key: the field of its messages that identifies it.

    Raises:
        ConfigurationError: it makes no names, or the app is in no package.
    """
    names = SagaNames.of(typed)
    if not project.package:
        raise ConfigurationError(
            f"{project.app} is in no package, which a saga's module would be put into; "
            f"move it into one, and say so in [tool.sagabus] of pyproject.toml"
        )
    values = {"package": project.package, "saga": names.cls, "module": names.module, "wire": names.wire, "key": key}
    values["imports"] = "".join(
        f"    {name},\n"
        for name in sorted((names.cls, f"Start{names.cls}", f"{names.cls}Noted", f"{names.cls}Finished"))
    ).rstrip("\n")
    texts = {path.name: text for path, text in render("saga", values).items()}
    files = {
        project.app_file.with_name(f"{names.module}.py"): texts["saga.py"],
        project.folder / "tests" / f"test_{names.module}.py": texts["test_saga.py"],
    }
    attribute = project.app.partition(":")[2] or "bus"
    registration = Registration(f"{project.package}.{names.module}", names.cls, names.wire, attribute)
    return NewSaga(names, files, registration, project.app_file, _registered(project.app_file, registration))


def _registered(app: Path, registration: Registration) -> str | None:
    """Return the text of *app* with the registration in it; None where it is better left to people."""
    try:
        text = app.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    # Other ends of lines than ours would have to be kept.
    return None if "\r" in text or not os.access(app, os.W_OK) else registration.inserted(text)
