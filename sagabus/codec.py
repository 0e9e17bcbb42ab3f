"""How message bodies (JSON) and states (MessagePack) are written and read, and which classes survive that unharmed."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import attrs
import msgspec
import msgspec.inspect

from sagabus.errors import CodecError, DefinitionError
from sagabus.hints import resolve_hints
from sagabus.secrecy.encrypted import Encrypted
from sagabus.secrecy.keyring import Keyring
from sagabus.secrecy.process_keys import process_keys
from sagabus.secrecy.secret_fields import STATE_NATIVES, as_it_is, fitted, open_anywhere, secret_fields

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
    """Writes and reads the body of one message type, at any version up to the current one."""

    def __init__(self, cls: type[T], name: str, version: int) -> None:
        self._name, self._cls, self._version = name, cls, version
        self._decoder = msgspec.json.Decoder(cls, dec_hook=as_it_is)
        self._upcast: Upcast | None = getattr(cls, "upcast", None)
        self._root = f"message {name}"
        self.secrets = secret_fields(cls, self._root)
        self.plain = self.secrets is None and _is_plain(msgspec.inspect.type_info(cls))
        self._ours_alone = self.plain and not _runs_code(cls)

    def as_written(self, data: bytes, version: int) -> T | None:
        """Return the message that *data* holds, where it is to the byte as we write it, and flat; else None.

        No name comes twice in it then, and no code of the user's has run.
        """
        if not self._ours_alone or version != self._version:
            return None
        try:
            message = self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # Whoever wants the message hears of it.
            return None
        return message if _json_encoder.encode(message) == data else None

    def encode(self, message: T) -> bytes:
        """Return *message* as JSON, its secrets encrypted. Equal messages give equal bytes.

        Raises:
            MissingKeyError: there is no key to encrypt with.
            HandlerMisuseError: what is to be encrypted was given as it is.
        """
        if self.secrets is None:
            return encode_body(message)
        return encode_body(self.secrets.sealed(message, process_keys.keyring, ()))

    def given(self, data: bytes) -> T:
        """Return the message of the current version that somebody wrote by hand, with its secrets in the clear.

        A secret that was copied as it was encrypted, from a message of the same type, stays what it is.

        Raises:
            CodecError: it does not fit the class.
        """
        if self.secrets is None:
            return self.decode(data, self._version)
        try:
            plain = self.secrets.given(_plain_json.decode(data), process_keys.keyring)
            return msgspec.convert(plain, self._cls, dec_hook=as_it_is)
        except CodecError:
            raise
        except Exception as error:  # validators are the user's, and may raise anything
            raise CodecError(f"{self._name}: {_with_path(error)}") from error

    def decode(self, data: bytes | msgspec.Raw, version: int) -> T:
        """Return the message that *data* holds.

        Raises:
            CodecError: it does not fit the class (the text has the path, as `$.scores[0].value`), or it was written by
                a version that this code does not know, or with a key that is not here.
        """
        try:
            if version == self._version:
                if self.secrets is None:
                    return self._decoder.decode(data)
                plain = self.secrets.opened(_plain_json.decode(data), process_keys.keyring)
                return msgspec.convert(plain, self._cls, dec_hook=as_it_is)
            plain = open_anywhere(_plain_json.decode(data), process_keys.keyring, self._root)
            body = _upcast(self._name, plain, version, self._version, self._upcast)
            return msgspec.convert(body, self._cls, dec_hook=fitted)
        except CodecError:
            raise
        except Exception as error:  # validators and upcasts are the user's, and may raise anything
            raise CodecError(f"{self._name}: {_with_path(error)}") from error


_PLAIN: Final = (
    msgspec.inspect.StrType,
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.BoolType,
    msgspec.inspect.NoneType,
)


def _is_plain(info: Any) -> bool:
    """Return whether *info*, as msgspec describes a class, is of texts, numbers and mappings from text to these.

    Their JSON is flat, and no name comes twice in one object.
    """
    if isinstance(info, msgspec.inspect.DataclassType):
        return all(_is_plain_value(field.type) for field in info.fields)
    return False


def _is_plain_value(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return all(_is_plain_value(part) for part in info.types)
    if isinstance(info, msgspec.inspect.DictType):
        return isinstance(info.key_type, msgspec.inspect.StrType) and isinstance(info.value_type, _PLAIN)
    return isinstance(info, _PLAIN)


def _runs_code(cls: type) -> bool:
    """Return whether reading an attrs class runs code of its author."""
    return any(hasattr(cls, hook) for hook in ("__attrs_post_init__", "__attrs_pre_init__")) or any(
        a.validator is not None or isinstance(a.default, attrs.Factory)  # type: ignore[arg-type]
        for a in attrs.fields(cls)
    )


class StateCodec(Generic[T]):
    """Writes and reads the state of one saga class.

    Equal states give equal bytes: mappings and sets are written sorted, and secrets are encrypted alike.

    Args:
        root: what its secrets are bound to; the class, unless it is said.
        keys: returns the keys for them; those of the process by default.
    """

    def __init__(
        self,
        cls: type[T],
        version: int,
        root: str = "",
        keys: Callable[[], Keyring | None] = lambda: process_keys.keyring,
    ) -> None:
        self.state_type, self._version = cls, version
        self._decoder = msgspec.msgpack.Decoder(tuple[int, cls], dec_hook=as_it_is)  # type: ignore[valid-type]
        self._upcast: Upcast | None = getattr(cls, "upcast", None)
        self._prefix = msgspec.msgpack.encode(version)
        self._names = tuple(a.name for a in attrs.fields(cls)) if attrs.has(cls) else ()
        self._root = root or f"state {cls.__qualname__}"
        self._keys = keys
        self.secrets = secret_fields(cls, self._root)

    def encode(self, state: T) -> bytes:
        """Return *state* as MessagePack, with the version of its class, its secrets encrypted.

        Raises:
            MissingKeyError: there is no key to encrypt with.
            HandlerMisuseError: what is to be encrypted was given as it is.
        """
        for name in self._names:
            value = getattr(state, name, None)
            if type(value) is dict and len(value) > _MANY:
                _put_in_order(value)
        if self.secrets is None:
            return _state_encoder.encode((self._version, state))
        plain = self.secrets.sealed(state, self._keys(), STATE_NATIVES)
        return _state_encoder.encode((self._version, plain))

    def decode(self, data: bytes) -> T:
        """Return the state that *data* holds, brought up to the current version.

        Raises:
            CodecError: it does not fit the class, or a newer version of the class wrote it, or it was encrypted with a
                key that is not here.
        """
        try:
            if self.secrets is None and data[1:2] == self._prefix:
                return typing.cast(T, self._decoder.decode(data)[1])
            version, raw = _plain_state.decode(data)
            if version == self._version:
                if self.secrets is None:
                    return typing.cast(T, self._decoder.decode(data)[1])
                plain = self.secrets.opened(msgspec.msgpack.decode(raw), self._keys())
                return msgspec.convert(plain, self.state_type, dec_hook=as_it_is)
            plain = open_anywhere(msgspec.msgpack.decode(raw), self._keys(), self._root)
            body = _upcast(self.state_type.__qualname__, plain, version, self._version, self._upcast)
            return msgspec.convert(body, self.state_type, dec_hook=fitted)
        except CodecError:
            raise
        except Exception as error:  # validators and upcasts are the user's, and may raise anything
            raise CodecError(f"state {self.state_type.__qualname__}: {_with_path(error)}") from error


_MANY: Final = 256


def _put_in_order(mapping: dict[Any, Any]) -> None:
    """Sort a large mapping as it is going to be written: its writer takes ten times as long where only the last few are
    out of order, as they are where a saga has added them to what was stored.
    """
    try:
        names = sorted(mapping)
    except TypeError:
        # No such names can be written: the writer says so.
        return
    if names != list(mapping):
        for name in names:
            mapping[name] = mapping.pop(name)


def plain_state(data: bytes) -> Any:
    """Return stored state as plain data, for people; needs no class.

    Raises:
        CodecError: it is no state.
    """
    try:
        return msgspec.msgpack.decode(_plain_state.decode(data)[1])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"a stored state cannot be read: {error}") from error


def shown_state(data: bytes) -> Any:
    """Return stored state as plain data that JSON can hold; where it is damaged, an object that says how."""
    try:
        plain = plain_state(data)
        msgspec.json.encode(plain)
    except (CodecError, TypeError, ValueError, IndexError, RecursionError) as error:
        return {"unreadable": f"{type(error).__name__}: {error}"}
    return plain


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
    secrets = secret_fields(cls, "")
    infos = msgspec.inspect.multi_type_info((cls, *(secrets.hints if secrets is not None else ())))
    seen: set[int] = set()
    for foreign in (found for info in infos for found in _foreign_types(info, seen)):
        raise DefinitionError(subject, f"it holds a {foreign.__qualname__}, which cannot be encoded", mend)


def _foreign_types(info: Any, seen: set[int]) -> Iterator[type]:
    """Yield the types in *info*, as msgspec describes a class, that msgspec does not know."""
    if isinstance(info, msgspec.inspect.CustomType) and info.cls is not Encrypted:
        yield info.cls
    if id(info) in seen:
        return
    seen.add(id(info))
    for name in info.__struct_fields__:
        value = getattr(info, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field):
                yield from _foreign_types(part, seen)
