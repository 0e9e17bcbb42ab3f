"""How message bodies (JSON) and states (MessagePack) are written and read, and which classes survive that unharmed."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import attrs
import msgspec
import msgspec.inspect

from sagabus.errors import CodecError, DefinitionError

T = TypeVar("T")
Upcast = Callable[[dict[str, Any], int], dict[str, Any]]
"""(body as plain data, the version it was written with) -> body of the current version."""

MAX_DEPTH: Final = 64
_json_encoder: Final = msgspec.json.Encoder(order="deterministic")
_state_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")
_plain_json: Final = msgspec.json.Decoder()
_plain_state: Final = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


def encode_body(message: object) -> bytes:
    """Return *message*, an attrs instance, as JSON. Equal messages give equal bytes: mappings and sets are sorted."""
    return _json_encoder.encode(message)


class BodyCodec(Generic[T]):
    """Reads the body of one message type, at any version up to the current one."""

    def __init__(self, cls: type[T], name: str, version: int) -> None:
        self._name, self._cls, self._version = name, cls, version
        self._decoder = msgspec.json.Decoder(cls)
        self._upcast: Upcast | None = getattr(cls, "upcast", None)

    def decode(self, data: bytes | msgspec.Raw, version: int) -> T:
        """Return the message that *data* holds.

        Raises:
            CodecError: it does not fit the class (the text has the path, as `$.scores[0].value`), or it was written by
                a version that this code does not know.
        """
        try:
            if version == self._version:
                return self._decoder.decode(data)
            body = _upcast(self._name, _plain_json.decode(data), version, self._version, self._upcast)
            return msgspec.convert(body, self._cls)
        except CodecError:
            raise
        except Exception as error:  # validators and upcasts are the user's, and may raise anything
            raise CodecError(f"{self._name}: {_with_path(error)}") from error


class StateCodec(Generic[T]):
    """Writes and reads the state of one saga class.

    Equal states give equal bytes: mappings and sets are written sorted.
    """

    def __init__(self, cls: type[T], version: int) -> None:
        self.state_type, self._version = cls, version
        self._decoder = msgspec.msgpack.Decoder(tuple[int, cls])  # type: ignore[valid-type]
        self._upcast: Upcast | None = getattr(cls, "upcast", None)
        self._prefix = msgspec.msgpack.encode(version)

    def encode(self, state: T) -> bytes:
        """Return *state* as MessagePack, with the version of its class."""
        return _state_encoder.encode((self._version, state))

    def decode(self, data: bytes) -> T:
        """Return the state that *data* holds, brought up to the current version.

        Raises:
            CodecError: it does not fit the class, or a newer version of the class wrote it.
        """
        try:
            if data[1:2] == self._prefix:
                return typing.cast(T, self._decoder.decode(data)[1])
            version, raw = _plain_state.decode(data)
            if version == self._version:
                return typing.cast(T, self._decoder.decode(data)[1])
            name = self.state_type.__qualname__
            body = _upcast(name, msgspec.msgpack.decode(raw), version, self._version, self._upcast)
            return msgspec.convert(body, self.state_type)
        except CodecError:
            raise
        except Exception as error:  # validators and upcasts are the user's, and may raise anything
            raise CodecError(f"state {self.state_type.__qualname__}: {_with_path(error)}") from error


def plain_state(data: bytes) -> Any:
    """Return stored state as plain data, for people; needs no class."""
    return msgspec.msgpack.decode(_plain_state.decode(data)[1])


def _upcast(name: str, body: Any, version: int, current: int, upcast: Upcast | None) -> dict[str, Any]:
    if version > current:
        raise CodecError(
            f"{name} has version {version}, this code knows versions up to {current}; deploy the newer code here first",
            "unknown-version",
        )
    if upcast is None:
        raise CodecError(
            f"{name} was written as version {version} and is now {current}; give the class a static method "
            f"upcast(body, version) that returns the body of version {current}",
            "unknown-version",
        )
    if not isinstance(body, dict):
        raise CodecError(f"{name}: expected an object at $, got {type(body).__name__}")
    return upcast(body, version)


def _with_path(error: Exception) -> str:
    text = str(error)
    if not text or not isinstance(error, msgspec.MsgspecError | ValueError | TypeError | RecursionError):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if "`$" in text else f"{text} - at `$`"


def check_fields(cls: type, subject: str, names: Mapping[str, Any]) -> None:
    """Refuse an attrs class that would not come back as it went.

    msgspec drops private fields, skips converters, lets the wire set fields that are not init, cannot tell two attrs
    classes of one union apart, and writes every mapping key as a string.

    Raises:
        DefinitionError: names the field and the mend.
    """
    _check(cls, subject, names, seen=set())


def _check(cls: type, subject: str, names: Mapping[str, Any], seen: set[type]) -> None:
    seen.add(cls)
    hints = resolve_hints(cls, names)
    for a in attrs.fields(cls):
        where = f"field {a.name!r} of {cls.__qualname__}"
        if a.name.startswith("_"):
            raise DefinitionError(
                subject, f"{where} is private and would not be stored", f"Name it {a.name.lstrip('_')!r}"
            )
        if a.converter is not None:
            raise DefinitionError(
                subject,
                f"{where} has a converter, which does not run when it is read",
                "Use a validator, or convert in a classmethod",
            )
        if isinstance(a.default, attrs.Factory) and a.default.takes_self:  # type: ignore[arg-type]
            raise DefinitionError(
                subject,
                f"{where} has a default made from other fields, which cannot be made when it is read",
                "Make it a property, or set it where the others are set",
            )
        if not a.init:
            raise DefinitionError(
                subject,
                f"{where} is init=False but would be set from stored bytes",
                "Make it a property, or an ordinary field",
            )
        _check_type(hints.get(a.name, a.type), where, subject, names, seen)


def _check_type(hint: Any, where: str, subject: str, names: Mapping[str, Any], seen: set[type]) -> None:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        _check_type(args[0], where, subject, names, seen)
        return
    if isinstance(hint, type) and attrs.has(hint) and hint not in seen:
        _check(hint, subject, names, seen)
    if origin in (typing.Union, types.UnionType):
        classes = [a for a in args if isinstance(a, type) and attrs.has(a)]
        if len(classes) > 1:
            listed = " | ".join(c.__qualname__ for c in classes)
            raise DefinitionError(
                subject,
                f"{where} is a union of attrs classes ({listed}), which cannot be told apart",
                "Use one class with a kind field",
            )
    if inspect.isclass(origin) and issubclass(origin, Mapping) and args and not _is_text(args[0]):
        raise DefinitionError(
            subject,
            f"{where} is a mapping whose keys are not strings",
            "Use dict[str, ...] and convert the keys where you use them",
        )
    for arg in args:
        _check_type(arg, where, subject, names, seen)


def _is_text(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(value, str) for value in typing.get_args(hint))
    return hint is Any or (isinstance(hint, type) and issubclass(hint, str))


def resolve_hints(cls: type, local_names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the annotations of *cls*, resolved, and leave them resolved on it and on the attrs classes it holds.

    msgspec evaluates annotations itself but sees module names only; this also knows the names where the class was
    defined. A name that nothing defines stays text, for the codec to complain of.
    """
    names = {cls.__name__: cls, **(local_names or {})}
    for base in reversed(cls.__mro__):
        own = base.__dict__.get("__annotations__", {})  # noqa: RUF063 - to be changed in place
        for field_name, hint in own.items():
            if isinstance(hint, str):
                own[field_name] = _resolve(hint, base, names)
    return {name: hint for base in reversed(cls.__mro__) for name, hint in inspect.get_annotations(base).items()}


def _resolve(hint: str, cls: type, names: Mapping[str, Any]) -> Any:
    scope = type("scope", (), {"__annotations__": {"it": hint}})  # only a class may have a ClassVar
    module = sys.modules.get(cls.__module__)
    try:
        return typing.get_type_hints(scope, vars(module) if module else {}, dict(names), include_extras=True)["it"]
    except NameError:
        return hint


def check_codable(make: Callable[[], object], cls: type, subject: str) -> None:
    """Refuse a class for which no codec can be built, or that holds a type which none knows how to write.

    Args:
        make: builds the codec.

    Raises:
        DefinitionError: with the type at fault.
    """
    mend = "Use plain types and attrs classes"
    try:
        make()
    except (TypeError, NameError) as error:
        raise DefinitionError(subject, f"its fields cannot be encoded ({error})", mend) from error
    for foreign in _foreign_types(msgspec.inspect.type_info(cls), set()):
        raise DefinitionError(subject, f"it holds a {foreign.__qualname__}, which cannot be encoded", mend)


def _foreign_types(info: Any, seen: set[int]) -> Iterator[type]:
    """Yield the types in *info*, as msgspec describes a class, that msgspec does not know."""
    if isinstance(info, msgspec.inspect.CustomType):
        yield info.cls
    if id(info) in seen:
        return
    seen.add(id(info))
    for name in info.__struct_fields__:
        value = getattr(info, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field):
                yield from _foreign_types(part, seen)
