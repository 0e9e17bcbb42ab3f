"""Values in words: as `repr` has them, but the same in every process."""

from __future__ import annotations

import inspect
import reprlib
from typing import Any

import attrs

from sagabus.messages import MergeSagaState


@reprlib.recursive_repr("...")
def say(value: Any) -> str:
    """Return *value* as users would write it; sets are sorted, and a class is shown as its attrs fields say."""
    if isinstance(value, MergeSagaState):
        return "MergeSagaState"
    if attrs.has(type(value)) and is_from_attrs(type(value).__repr__):
        shown = [f"{a.name}={say(getattr(value, a.name))}" for a in attrs.fields(type(value)) if a.repr]
        return f"{type(value).__qualname__.rpartition('.')[2]}({', '.join(shown)})"
    if type(value) in (set, frozenset) and value:
        inside = f"{{{', '.join(sorted(map(say, value)))}}}"
        return inside if type(value) is set else f"frozenset({inside})"
    if type(value) is dict:
        return f"{{{', '.join(f'{say(k)}: {say(v)}' for k, v in value.items())}}}"
    if type(value) is list:
        return f"[{', '.join(map(say, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(say, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def is_from_attrs(method: Any) -> bool:
    """Return whether attrs made *method*, and not the user."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    return code is not None and code.co_filename.startswith("<attrs generated")
