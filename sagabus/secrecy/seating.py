"""Reading annotations: which seats a class has for secrets. Where none can be, the error says so at definition."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from sagabus.hints import resolve_hints
from sagabus.secrecy.encrypted import Encrypted
from sagabus.secrecy.seats import Items, Leaf, Members, Positions, Seat

MEND: Final = "use Encrypted in fields of attrs classes, lists, tuples and values of mappings"


def seat_of(cls: type) -> tuple[Seat, tuple[Any, ...]] | None:
    """Return the seat of *cls*, and the types of what is hidden in it; None where there is no secret, as in most.

    Raises:
        TypeError: a secret is where none can be.
    """
    if not is_secret(cls):
        return None
    reader = _Reader()
    return reader.of_class(cls), tuple(reader.hints)


def is_secret(hint: Any) -> bool:
    """Return whether values of the type *hint* hold an encrypted value, at any depth."""
    return _hides(hint, set())


def _hides(hint: Any, seen: set[Any]) -> bool:
    if hint is Encrypted or typing.get_origin(hint) is Encrypted:
        return True
    cls = typing.get_origin(hint) or hint
    if isinstance(cls, type) and cls not in seen and _fields_of(cls):
        seen.add(cls)
        if any(_hides(inner, seen) for inner in _fields_of(cls).values()):
            return True
    return any(_hides(argument, seen) for argument in typing.get_args(hint))


def _fields_of(cls: type) -> dict[str, Any]:
    """Return the annotations of a class that is made of fields, attrs or not; empty for any other."""
    made = attrs.has(cls) or dataclasses.is_dataclass(cls) or typing.is_typeddict(cls)
    named = issubclass(cls, msgspec.Struct) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    return resolve_hints(cls) if made or named else {}


class _Reader:
    """Reads the annotations of one class, and of those that it holds."""

    def __init__(self) -> None:
        self.hints: list[Any] = []
        self._members: dict[type, Members] = {}

    def of_class(self, cls: type) -> Seat:
        found = self._members.get(cls)
        if found is None:
            if not attrs.has(cls):
                raise TypeError(f"{cls.__qualname__} has an Encrypted in it and is no attrs class; {MEND}")
            # Known before its fields are read, so that a class may hold itself.
            found = self._members[cls] = Members()
            for name, hint in resolve_hints(cls).items():
                if typing.get_origin(hint) is not typing.ClassVar and _hides(hint, set()):
                    found.seats[name] = self._of(hint, f"field {name!r} of {cls.__qualname__}")
        return found

    def _of(self, hint: Any, where: str) -> Seat:
        """Return the seat of a type that holds a secret."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if hint is Encrypted:
            raise TypeError(f"{where} does not say what it hides; write Encrypted[str], or whatever it is")
        if origin is Encrypted:
            return self._leaf(args[0], where)
        if origin is typing.Annotated:
            return self._of(args[0], where)
        if origin in (typing.Union, types.UnionType):
            others = [a for a in args if a is not types.NoneType]
            if len(others) > 1:
                raise TypeError(f"{where} has an Encrypted in a union with more than None; {MEND}")
            return self._of(others[0], where)
        if origin is None and isinstance(hint, type):
            return self.of_class(hint)
        if inspect.isclass(origin) and not attrs.has(origin):
            if issubclass(origin, tuple) and args[-1:] != (...,):
                return Positions({n: self._of(a, where) for n, a in enumerate(args) if is_secret(a)})
            if issubclass(origin, Mapping) and not is_secret(args[0]):
                return Items(self._of(args[1], where))
            if issubclass(origin, Sequence):
                return Items(self._of(args[0], where))
        raise TypeError(f"{where} has an Encrypted in a {_name(hint)}; {MEND}")

    def _leaf(self, hint: Any, where: str) -> Leaf:
        if is_secret(hint):
            raise TypeError(f"{where} has an Encrypted in an Encrypted; the outer one hides all of it")
        self.hints.append(hint)
        return Leaf(hint, msgspec.msgpack.Decoder(hint))


def _name(hint: Any) -> str:
    return str(getattr(typing.get_origin(hint) or hint, "__name__", hint))
