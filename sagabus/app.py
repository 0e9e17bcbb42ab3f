"""Finding the bus of an app: `package.module:attribute`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path

from sagabus.bus import Bus
from sagabus.errors import AppImportError, ConfigurationError, DefinitionError, SagabusError


def load_app(spec: str) -> Bus:
    """Import the module of *spec* and return its bus; the current folder is importable, as with `python -m`.

    Args:
        spec: `package.module:attribute`, or `package.module` for the attribute `bus`.

    Raises:
        ConfigurationError: there is no such module or attribute, or it is no Bus.
        DefinitionError: a merger cannot be made for a state in that module.
        AppImportError: the module raised an error while it was imported. Those of sagabus, and what is no `Exception`,
            leave as they are.
    """
    module_name, _, attribute = spec.partition(":")
    attribute = attribute or "bus"
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigurationError(f"{spec!r} names no app; write it as package.module:bus, as Python would import it")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise AppImportError(module_name, error) from error
        raise ConfigurationError(
            f"no module {module_name!r} in {here} or on the import path; write APP as package.module:bus"
        ) from error
    except SagabusError:
        raise
    except Exception as error:
        raise _as_definition_error(error) or AppImportError(module_name, error) from error
    bus = getattr(module, attribute, None)
    if not isinstance(bus, Bus):
        if hasattr(module, attribute):
            problem = f"{module_name}:{attribute} is of type {type(bus).__name__}, not a Bus"
        else:
            problem = f"module {module_name!r} has no attribute {attribute!r}"
        buses = [name for name, value in vars(module).items() if isinstance(value, Bus)]
        mend = f"it has {', '.join(f'{module_name}:{name}' for name in buses)}" if buses else "no Bus is made in it"
        raise ConfigurationError(f"{problem}; {mend}")
    return bus


def traceback_of(error: BaseException) -> str:
    """Return what Python says of *error*, without the frames through which an app was imported."""
    folders = Path(__file__).resolve().parent, Path(importlib.__file__).resolve().parent
    importers = (*(f"{folder}{os.sep}" for folder in folders), "<frozen importlib")
    shown = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in shown.stack if not frame.filename.startswith(importers)]
    shown.stack = traceback.StackSummary.from_list(frames)
    lines = "".join(shown.format()).rstrip()
    return lines if frames else lines.removeprefix("Traceback (most recent call last):\n")


def _as_definition_error(error: Exception) -> DefinitionError | None:
    """Return what *error* says of a merger where it is a TypeError with a state and its mend, as those of mergers are.

    Known by its attributes, because the kernel knows no package of mergers.
    """
    state, name, mend = (getattr(error, attribute, None) for attribute in ("state_type", "field", "mend"))
    if not (
        isinstance(error, TypeError) and isinstance(state, type) and isinstance(name, str) and isinstance(mend, str)
    ):
        return None
    subject = ".".join(part for part in (state.__module__, state.__qualname__, name) if part)
    return DefinitionError(subject, "no merger can be made for it", mend[:1].upper() + mend[1:])
