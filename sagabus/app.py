"""Finding the bus of an app: `package.module:attribute`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from sagabus.bus import Bus
from sagabus.errors import ConfigurationError, DefinitionError


def load_app(spec: str) -> Bus:
    """Import the module of *spec* and return its bus; the current folder is importable, as with `python -m`.

    Args:
        spec: `package.module:attribute`, or `package.module` for the attribute `bus`.

    Raises:
        ConfigurationError: there is no such module or attribute, or it is no Bus. An error inside the module is not
            caught.
        DefinitionError: a merger cannot be made for a state in that module.
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
            raise
        raise ConfigurationError(
            f"no module {module_name!r} in {here} or on the import path; write APP as package.module:bus"
        ) from error
    except TypeError as error:
        raise _as_definition_error(error) from error
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


def _as_definition_error(error: TypeError) -> Exception:
    """Return what to raise for *error*: itself, unless it has a state and its mend, as those of mergers do.

    Known by its attributes, because the kernel knows no package of mergers.
    """
    state, name, mend = (getattr(error, attribute, None) for attribute in ("state_type", "field", "mend"))
    if not (isinstance(state, type) and isinstance(name, str) and isinstance(mend, str)):
        return error
    subject = ".".join(part for part in (state.__module__, state.__qualname__, name) if part)
    return DefinitionError(subject, "no merger can be made for it", mend[:1].upper() + mend[1:])
