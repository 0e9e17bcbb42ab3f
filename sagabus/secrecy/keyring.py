"""Keyrings: named keys, of which the first encrypts and signs, and all decrypt and verify."""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sagabus.errors import ConfigurationError

KEYS_VARIABLE: Final = "SAGABUS_KEYS"
KEY_BYTES: Final = 32
MAKE_ONE: Final = "make one with `openssl rand -base64 32`"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Keyring:
    """Keys by id. Those of every process that shares messages or a store must hold what the others write with.

    To rotate, deploy everywhere with the new key second; then with the new key first; and without the old one only when
    nothing is left that was written with it. [Rotation](docs/security.md) has the steps.

    Args:
        keys: id -> 32 random bytes, or these in base64. The first is the current one.

    Raises:
        ConfigurationError: an id or a key is none, or `cryptography` is not installed.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, bytes | str]) -> None:
        if not keys:
            raise ConfigurationError(f"a keyring needs a key; {MAKE_ONE}, and give it as Keyring({{'ID': KEY}})")
        self._keys: dict[str, bytes] = {id_: _secret(id_, key) for id_, key in keys.items()}
        require_cryptography()

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Return the keyring that *text* holds, as `ID:BASE64,...`; the first is the current one.

        Raises:
            ConfigurationError: it holds none. The error never shows a key.
        """
        keys: dict[str, bytes | str] = {}
        for number, part in enumerate(text.split(","), 1):
            id_, colon, key = part.strip().partition(":")
            if not colon:
                raise ConfigurationError(f"key {number} is not written as ID:BASE64; {MAKE_ONE}, and name it")
            if id_ in keys:
                raise ConfigurationError(f"two keys are called {id_!r}; give each an id of its own")
            keys[id_] = key
        return cls(keys)

    @classmethod
    def from_environment(cls) -> Keyring | None:
        """Return the keyring in `SAGABUS_KEYS`, or None where that is not set.

        Raises:
            ConfigurationError: as `parse`.
        """
        text = os.environ.get(KEYS_VARIABLE)
        if not text:
            return None
        try:
            return cls.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{KEYS_VARIABLE}: {error}") from None

    @classmethod
    def generate(cls, id_: str) -> Keyring:
        """Return a keyring with one new random key."""
        return cls({id_: secrets.token_bytes(KEY_BYTES)})

    @property
    def current(self) -> str:
        """Return the id of the key that encrypts and signs."""
        return next(iter(self._keys))

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids of all keys, the current one first."""
        return tuple(self._keys)

    def subkey(self, id_: str, purpose: str) -> bytes | None:
        """Return the key for one *purpose* that derives from the key *id_*, 32 bytes; None where there is no such key.

        HKDF-SHA256 (RFC 5869): who learns one derived key learns nothing of the others.
        """
        secret = self._keys.get(id_)
        return None if secret is None else _derived(secret, purpose)

    def joined(self, other: Keyring) -> Keyring:
        """Return a keyring with the keys of both; the current one is this one's.

        Raises:
            ConfigurationError: one id names different keys.
        """
        for id_ in self._keys.keys() & other._keys.keys():
            if not secrets.compare_digest(self._keys[id_], other._keys[id_]):
                raise ConfigurationError(f"key {id_!r} is two different keys; give the newer one an id of its own")
        return Keyring(self._keys | other._keys)

    @contextmanager
    def installed(self) -> Iterator[Keyring]:
        """Have the whole process encrypt and decrypt with this keyring alone, inside a `with` block.

        For scripts and tests that read and write values without a bus; a `Bus(keyring=...)` installs its own.
        """
        from sagabus.secrecy.process_keys import process_keys

        with process_keys.only(self):
            yield self

    def __eq__(self, other: object) -> bool:
        return list(self._keys.items()) == list(other._keys.items()) if isinstance(other, Keyring) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Keyring of {', '.join(self._keys)}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a keyring is not pickled: that would write its keys in the clear")


def _secret(id_: str, key: bytes | str) -> bytes:
    if not _ID.fullmatch(id_):
        raise ConfigurationError(f"key id {id_!r} is not 1 to 40 letters, digits, - and _; choose another")
    if isinstance(key, str):
        try:
            padded = key.strip().rstrip("=") + "=" * (-len(key.strip().rstrip("=")) % 4)
            key = base64.b64decode(padded, altchars=b"-_" if set(padded) & {"-", "_"} else None, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError(f"key {id_!r} is no base64; {MAKE_ONE}") from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"key {id_!r} has {len(key)} bytes instead of {KEY_BYTES}; {MAKE_ONE}")
    return bytes(key)


def require_cryptography() -> None:
    """Raise ConfigurationError where `cryptography` is not installed."""
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ConfigurationError(
            "encrypted fields and signed messages need the package cryptography; pip install 'sagabus[crypto]'"
        ) from error


@functools.lru_cache(maxsize=8192)
def _derived(secret: bytes, purpose: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"sagabus/1/{purpose}".encode()).derive(secret)
