"""The test to paste: Python source that plays one failing schedule again."""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final
from unittest.mock import ANY

import attrs
from attrs import define, field

from sagabus.bus import Bus
from sagabus.testing.simulator.wording import is_from_attrs

_INDENT: Final = "    "
_LAWS: Final = {
    "stuck": "is_never_stuck",
    "livelock": "always_ends",
    "outcome": "always_ends_as_declared",
    "invariant": "keeps_its_invariants",
    "finally": "ends_as_it_should",
    "merger": "merges_lawfully",
    "lost-effect": "loses_no_effect",
    "impure": "is_pure",
    "dead-letter": "takes_every_message",
    "unmergeable": "can_be_merged",
    "unsettled": "decides_only_when_settled",
    "completed-twice": "completes_once",
    "siblings": "stays_below_its_sibling_limit",
}


def test_of(kind: str, subject: Any, call: Mapping[str, Any], token: str) -> str:
    """Return the source of a test that calls `explore` again, for one schedule.

    Args:
        kind: of the failure.
        subject: what was explored.
        call: the arguments that are not defaults.
        token: the schedule.
    """
    source = _Source()
    lines = [f"{source.of(subject, 2)},"]
    for name, value in call.items():
        if source.knows(value):
            lines.append(f"{name}={source.of(value, 2)},")
        else:
            lines.append(f"# {name}= is to be given again: it has no name of its own")
    lines.append(f'replay="{token}",')
    body = "\n".join(_INDENT * 2 + line for line in lines)
    name = f"test_{_snake(_name_of(subject))}_{_LAWS[kind]}"
    head = "\n".join(source.imports("from sagabus.testing import explore"))
    return f"{head}\n\n\ndef {name}() -> None:\n{_INDENT}explore(\n{body}\n{_INDENT}).assert_ok()\n"


@define
class _Source:
    """Writes values as Python, and notes what has to be imported for them."""

    _names: dict[str, set[str]] = field(factory=dict, init=False)
    _modules: set[str] = field(factory=set, init=False)

    def imports(self, *more: str) -> list[str]:
        """Return the import lines for all that was written."""
        lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._names.items())]
        plain = [f"import {module}" for module in sorted(self._modules)]
        return [*plain, *([""] if plain else []), *lines, *more]

    def knows(self, value: Any) -> bool:
        """Return whether *value* can be written."""
        if isinstance(value, list | tuple | set | frozenset):
            return all(map(self.knows, value))
        return not callable(value) or value is ANY or "<" not in getattr(value, "__qualname__", "<")

    def of(self, value: Any, depth: int = 0) -> str:
        """Return the source of *value*; with a *depth*, long lists have a line for each item."""
        if value is ANY:
            return self._imported("unittest.mock", "ANY")
        if isinstance(value, Bus):
            return self._bus(value)
        if isinstance(value, type) or inspect.isroutine(value):
            return self._imported(value.__module__, value.__qualname__)
        if isinstance(value, enum.Enum):
            return f"{self._imported(type(value).__module__, type(value).__qualname__)}.{value.name}"
        if attrs.has(type(value)) and is_from_attrs(type(value).__repr__):
            return f"{self._imported(type(value).__module__, type(value).__qualname__)}({self._fields(value)})"
        return self._plain(value, depth)

    def _plain(self, value: Any, depth: int) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.of(k)}: {self.of(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list | tuple):
            if depth and value:
                inside = "".join(f"\n{_INDENT * (depth + 1)}{self.of(item)}," for item in value)
                return f"[{inside}\n{_INDENT * depth}]"
            inside = ", ".join(map(self.of, value))
            return f"({inside}{',' if len(value) == 1 else ''})" if type(value) is tuple else f"[{inside}]"
        if isinstance(value, set | frozenset) and value:
            inside = "{" + ", ".join(sorted(map(self.of, value))) + "}"
            return inside if isinstance(value, set) else f"frozenset({inside})"
        module = type(value).__module__
        if module == "datetime":
            self._modules.add(module)
        elif module != "builtins":
            self._imported(module, type(value).__qualname__)
        return repr(value)

    def _fields(self, value: Any) -> str:
        return ", ".join(f"{a.alias}={self.of(getattr(value, a.name))}" for a in attrs.fields(type(value)) if a.init)

    def _imported(self, module: str, name: str) -> str:
        if "<" in name:
            # Defined in a function: it cannot be imported, and the test belongs into that function.
            return name.rpartition(".")[2]
        self._names.setdefault(module, set()).add(name.partition(".")[0])
        return name

    def _bus(self, bus: Bus) -> str:
        for module, name in _places(bus):
            return self._imported(module, name)
        return "bus"


def _places(value: object) -> Iterator[tuple[str, str]]:
    """Yield where *value* stands in a module."""
    for where, module in list(sys.modules.items()):
        for name, found in list(getattr(module, "__dict__", {}).items()):
            if found is value and not name.startswith("_"):
                yield where, name


def _name_of(subject: Any) -> str:
    if isinstance(subject, Bus):
        return "bus"
    first: type = subject if isinstance(subject, type) else subject[0]
    return first.__name__


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
