"""Where in a class its secrets are, and how they are turned into what is written and back.

The places are read once, from the annotations. Secrets are turned in plain data, so that each is bound to its place: on
the way out after everything else has been made plain, on the way in before.
"""

from __future__ import annotations

import secrets
import typing
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from attrs import frozen

from sagabus.errors import CodecError, HandlerMisuseError
from sagabus.secrecy.encrypted import Encrypted
from sagabus.secrecy.keyring import Keyring
from sagabus.secrecy.sealing import Path, is_sealed, seal, shown, unseal
from sagabus.secrecy.seating import MEND, seat_of
from sagabus.secrecy.seats import Leaf, Seat

STATE_NATIVES: Final = (bytes, bytearray, datetime)
"""What MessagePack writes itself, and is not made plainer for it."""
_inner: Final = msgspec.msgpack.Encoder(order="deterministic")
_STAND_IN: Final = f"encrypted:{secrets.token_hex(16)}:"
"""Begins what stands for a secret while the rest is made plain; nobody can have written it, and it is never written."""


@frozen(eq=False)
class SecretFields:
    """The encrypted values of one class.

    Attributes:
        root: what they are bound to: the message type, saga or class of document.
        hints: the types of what is hidden.
        seat: where it is.
    """

    root: str
    hints: tuple[Any, ...]
    seat: Seat

    def sealed(self, value: object, keyring: Keyring | None, natives: Sequence[type]) -> Any:
        """Return *value* as plain data, its secrets encrypted.

        Args:
            natives: what the format writes itself, and plain data may hold.

        Raises:
            MissingKeyError: there are no keys.
            HandlerMisuseError: a secret stands where the class declares none, or the other way round.
        """
        found: list[Encrypted[Any]] = []
        written: list[Encrypted[Any]] = []

        def stand_in(secret: Any) -> str:
            if not isinstance(secret, Encrypted):
                raise NotImplementedError(f"Encoding objects of type {type(secret).__qualname__} is unsupported")
            found.append(secret)
            return f"{_STAND_IN}{len(found) - 1}"

        def sealed(leaf: Leaf, data: Any, path: Path) -> str:
            if not isinstance(data, str) or not data.startswith(_STAND_IN):
                raise HandlerMisuseError(
                    f"{self.root}: the field at `{shown(path)}` is to be encrypted and was given as it is; "
                    f"write Encrypted(...) around its value"
                )
            secret = found[int(data[len(_STAND_IN) :])]
            written.append(secret)
            return seal(_inner.encode(secret.reveal()), keyring, self.root, path)

        plain = msgspec.to_builtins(value, order="deterministic", enc_hook=stand_in, builtin_types=natives)
        plain = self.seat.turned(plain, (), sealed)
        if len(written) < len(found):
            raise HandlerMisuseError(
                f"{self.root}: it holds a secret in a field that is not declared Encrypted; {MEND}"
            )
        return plain

    def opened(self, data: Any, keyring: Keyring | None) -> Any:
        """Return plain *data* with what is encrypted in it decrypted.

        Raises:
            MissingKeyError: the key is not there.
            CodecError: what should be encrypted is not, or was not written where it stands.
        """

        def opened(leaf: Leaf, sealed: Any, path: Path) -> Encrypted[Any]:
            return leaf.read(unseal(sealed, keyring, self.root, path), self.root, path)

        return self.seat.turned(data, (), opened)

    def given(self, data: Any, keyring: Keyring | None) -> Any:
        """Return plain *data* that somebody wrote by hand, its secrets in the clear or copied as they were encrypted.

        Raises:
            CodecError: a secret does not fit its type, or was copied from elsewhere.
        """

        def given(leaf: Leaf, value: Any, path: Path) -> Encrypted[Any]:
            if is_sealed(value):
                return leaf.read(unseal(value, keyring, self.root, path), self.root, path)
            return leaf.given(value, self.root, path)

        return self.seat.turned(data, (), given)


def open_anywhere(data: Any, keyring: Keyring | None, root: str, path: Path = ()) -> Any:
    """Return plain *data* of an older version of a class with what was encrypted in it as `Encrypted`, for `upcast`.

    Nobody knows any more which of its fields were; what was not encrypted where it stands stays as it is.

    Raises:
        MissingKeyError: something was, with a key that is not there.
    """
    if isinstance(data, dict):
        return {k: open_anywhere(v, keyring, root, (*path, k)) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [open_anywhere(v, keyring, root, (*path, n)) for n, v in enumerate(data)]
    if not is_sealed(data):
        return data
    try:
        opened = unseal(data, keyring, root, path)
    except CodecError as error:
        if error.reason == "missing-key":
            raise
        return data
    return Encrypted(msgspec.msgpack.decode(opened))


def as_it_is(kind: type, value: Any) -> Any:
    """Return a secret for msgspec, which asks what to make of types that it does not know."""
    if isinstance(value, Encrypted):
        return value
    raise ValueError("expected an encrypted value")


def fitted(kind: type, value: Any) -> Any:
    """Return a secret that `upcast` has made or kept, as the type declared now has it."""
    (hint,) = typing.get_args(kind)
    plain = msgspec.to_builtins(as_it_is(kind, value).reveal(), builtin_types=STATE_NATIVES)
    try:
        return Encrypted(msgspec.convert(plain, hint))
    except Exception:
        raise ValueError("what it hides does not fit its type, and is not shown") from None


def secret_fields(cls: type, root: str) -> SecretFields | None:
    """Return the secrets of *cls*; None where it has none, as most.

    Raises:
        TypeError: one is where none can be.
    """
    found = seat_of(cls)
    return None if found is None else SecretFields(root, hints=found[1], seat=found[0])
