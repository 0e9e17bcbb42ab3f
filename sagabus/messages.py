"""Messages: frozen attrs classes with a wire name, and the registry that finds the class of a name."""

from __future__ import annotations

import sys
import threading
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, dataclass_transform, overload

import attrs
from attrs import frozen

from sagabus.codec import BodyCodec, check_codable, check_fields
from sagabus.errors import CodecError, DefinitionError

C = TypeVar("C", bound=type)


@frozen
class MessageType:
    """What is known of one message class.

    Attributes:
        name: what it is called on the wire.
        version: the version that this code writes.
        cls: the class.
        codec: reads its bodies, older versions included.
    """

    name: str
    version: int
    cls: type
    codec: BodyCodec[Any] = attrs.field(repr=False, eq=False)


class Registry:
    """Wire name -> message type. Names are unique; defining the same class again (a reload) replaces it."""

    def __init__(self) -> None:
        self._by_name: dict[str, MessageType] = {}
        self._by_class: dict[type, MessageType] = {}
        self._lock = threading.Lock()

    def add(self, kind: MessageType) -> None:
        """Register *kind*.

        Raises:
            DefinitionError: another class has its name.
        """
        with self._lock:
            known = self._by_name.get(kind.name)
            if known is not None and _identity(known.cls) != _identity(kind.cls):
                raise DefinitionError(
                    ".".join(_identity(kind.cls)),
                    f"the wire name {kind.name!r} is taken by {'.'.join(_identity(known.cls))}",
                    "Give one of them another name: @message('other.name')",
                )
            self._by_name[kind.name] = kind
            self._by_class[kind.cls] = kind

    def named(self, name: str) -> MessageType:
        """Return the type called *name*.

        Raises:
            CodecError: none is; reason `unknown-type`.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise CodecError(
                f"no message class is called {name!r} here; import the module that defines it in the app, "
                f"or mend the sender",
                "unknown-type",
            ) from None

    def find(self, name: str) -> MessageType | None:
        """Return the type called *name*, or None where none is."""
        return self._by_name.get(name)

    def of(self, cls: type) -> MessageType | None:
        """Return the type of a class, or None where it is no message."""
        return self._by_class.get(cls)

    def all(self) -> list[MessageType]:
        """Return every registered type, by name."""
        return sorted(self._by_name.values(), key=lambda kind: kind.name)


_MAX_NAME: Final = 200

registry: Final = Registry()
"""The one registry of the process: a wire name means the same class everywhere."""


@overload
def message(cls: C, /) -> C: ...
@overload
def message(name: str | None = None, /, *, version: int = 1) -> Callable[[C], C]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field, attrs.Factory))
def message(cls: Any = None, /, *, version: int = 1) -> Any:
    """Make a class a message: a frozen attrs class with a wire name.

    `@message` names it by module and qualified name; `@message("credit.check", version=2)` says both. A class that you
    have decorated with attrs yourself stays as it is, and must be frozen. Where bodies of older versions may still
    arrive, give the class a static method `upcast(body: dict, version: int) -> dict`.

    Raises:
        DefinitionError: another class has the name, or a field would not survive the wire.
    """
    if isinstance(cls, type):
        return _define(cls, None, version, _caller_names(2))
    name = cls
    return lambda decorated: _define(decorated, name, version, _caller_names(2))


def _define(cls: type, name: str | None, version: int, local_names: Mapping[str, Any]) -> type:
    module, qualname = _identity(cls)
    subject = f"{module}.{qualname}"
    if "__attrs_attrs__" not in cls.__dict__:
        cls = frozen(cls)
    elif not attrs.inspect(cls).is_frozen:
        raise DefinitionError(
            subject, "a message must be frozen", "Decorate it with @frozen, or leave the decorating to @message"
        )
    wire_name = name or f"{module}.{qualname}".replace(".<locals>", "")
    if version < 1:
        raise DefinitionError(subject, f"version {version} is not positive", "Count versions from 1")
    if not wire_name.isprintable() or len(wire_name) > _MAX_NAME:
        raise DefinitionError(
            subject,
            f"the wire name {wire_name[:50]!r} has more than {_MAX_NAME} characters, or one that cannot be shown",
            'Give it another one: @message("credit.check")',
        )
    check_fields(cls, subject, local_names)
    codec: list[BodyCodec[Any]] = []
    check_codable(lambda: codec.append(BodyCodec(cls, wire_name, version)), cls, subject)
    registry.add(MessageType(wire_name, version, cls, codec[0]))
    return cls


def _identity(cls: type) -> tuple[str, str]:
    module = cls.__module__
    if module == "__main__":
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        module = spec.name.removesuffix(".__main__") if spec is not None and spec.name else "__main__"
    return module, cls.__qualname__


def _caller_names(depth: int) -> dict[str, Any]:
    return enclosing_names(sys._getframe(depth))


def enclosing_names(frame: types.FrameType | None) -> dict[str, Any]:
    """Return the local names visible where *frame* runs, the frames around it in the same module included."""
    names: dict[str, Any] = {}
    home = frame.f_globals if frame is not None else None
    while frame is not None and frame.f_globals is home and frame.f_locals is not home:
        names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def annotated_types(function: Callable[..., Any], parameter: str, names: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the annotation of *parameter* names: one type, or each of a union.

    Args:
        names: what is visible where *function* is defined.

    Raises:
        NameError: nothing defines a name in an annotation.
    """
    hint = typing.get_type_hints(function, localns=dict(names)).get(parameter)
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


MERGE: Final = "sagabus.MergeSagaState"
"""The wire name of MergeSagaState."""


@message(MERGE)
class MergeSagaState:
    """Tell a saga that its siblings have been merged, for it to react. Posted by the runtime."""


def type_of(instance_or_class: object) -> MessageType:
    """Return the message type of a message or of its class.

    Raises:
        DefinitionError: it is no message.
    """
    cls = instance_or_class if isinstance(instance_or_class, type) else type(instance_or_class)
    kind = registry.of(cls)
    if kind is None:
        raise DefinitionError(".".join(_identity(cls)), "is not a message", "Decorate the class with @message")
    return kind
