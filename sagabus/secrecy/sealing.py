"""One value, encrypted and decrypted: AES-256-GCM under a derived key, with a nonce derived from what is encrypted.

The functional core is run twice, on other machines, years later, and must write the same bytes each time: rule 8
compares them, and so do replays. So the nonce is no random number but an HMAC of key, place and value, as the synthetic
IV of RFC 5297 is. It differs wherever any of these does, and two nonces that are equal by chance are no concern below
2**32 different values of one message type or state class under one key. What it costs: that two values of one place are
equal can be seen.

What is written is `encrypted:1:KEY-ID:` and, in base64url without padding, nonce (12 bytes), ciphertext and tag (16).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import re
from typing import TYPE_CHECKING, Final

import msgspec

from sagabus.errors import CodecError, MissingKeyError
from sagabus.secrecy.keyring import Keyring

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Path = tuple[str | int, ...]
"""Where a value stands: names of fields, keys of mappings, and numbers in lists, from the outermost on."""

_SEALED: Final = re.compile(r"encrypted:1:([A-Za-z0-9_-]{1,40}):([A-Za-z0-9_-]{38,})")
_NONCE_BYTES: Final = 12


def is_sealed(value: object) -> bool:
    """Return whether *value* is text that `seal` may have written."""
    return isinstance(value, str) and value.startswith("encrypted:1:") and _SEALED.fullmatch(value) is not None


def seal(value: bytes, keyring: Keyring | None, root: str, path: Path) -> str:
    """Return *value* encrypted with the current key, for one place alone.

    Args:
        root: the message type, saga or class of document that it is part of.
        path: where in that.

    Raises:
        MissingKeyError: there are no keys.
    """
    if keyring is None:
        raise MissingKeyError("", f"{root}, `{shown(path)}`")
    cipher, nonce_key = _keys(keyring, keyring.current, root) or (None, b"")
    assert cipher is not None, "a keyring has its current key"
    place = _place(keyring.current, root, path)
    # Both are of known length in front of what follows, so no two pairs of place and value are the same input.
    nonce = hmac.digest(nonce_key, len(place).to_bytes(8, "big") + place + value, "sha256")[:_NONCE_BYTES]
    sealed = base64.urlsafe_b64encode(nonce + cipher.encrypt(nonce, value, place)).rstrip(b"=").decode()
    return f"encrypted:1:{keyring.current}:{sealed}"


def unseal(sealed: object, keyring: Keyring | None, root: str, path: Path) -> bytes:
    """Return what `seal` was given for the same place.

    Raises:
        MissingKeyError: the key that it was encrypted with is not there.
        CodecError: it is not what was written for that place; reason `undecryptable`.
    """
    found = _SEALED.fullmatch(sealed) if isinstance(sealed, str) else None
    if found is None:
        raise CodecError(
            f"{root}: expected an encrypted value, got {_kind(sealed)} - at `{shown(path)}`; its sender must declare "
            f"the field Encrypted too",
            "undecryptable",
        )
    key_id, text = found.groups()
    keys = None if keyring is None else _keys(keyring, key_id, root)
    if keys is None:
        raise MissingKeyError(key_id, f"{root}, `{shown(path)}`")
    data = _decoded(text)
    if data is not None:
        from cryptography.exceptions import InvalidTag

        try:
            return keys[0].decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _place(key_id, root, path))
        except InvalidTag:
            pass  # said below, as of what is no base64
    raise CodecError(
        f"{root}: what is encrypted at `{shown(path)}` was not written there with key {key_id!r}: it was changed, "
        f"copied from another field or type, or its field, type or saga has another name now",
        "undecryptable",
    ) from None


def shown(path: Path) -> str:
    """Return *path* as other errors of codecs show it."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _kind(value: object) -> str:
    return "plain text" if isinstance(value, str) else type(value).__name__


def _place(key_id: str, root: str, path: Path) -> bytes:
    return msgspec.json.encode(("sagabus", 1, key_id, root, *path))


def _decoded(text: str) -> bytes | None:
    """Return the bytes of *text*; None where no bytes are written so. One value has one text, also in its last bits."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text else None


def _keys(keyring: Keyring, key_id: str, root: str) -> tuple[AESGCM, bytes] | None:
    cipher_key = keyring.subkey(key_id, f"encrypt/{root}")
    nonce_key = keyring.subkey(key_id, f"nonce/{root}")
    return None if cipher_key is None or nonce_key is None else (_cipher(cipher_key), nonce_key)


@functools.lru_cache(maxsize=4096)
def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
