"""What JSON from the wire may look like. Looked at before it is decoded, in time that grows with its length alone.

Senders that mean well never write what is refused here, and readers differ in what they make of it: two members of one
name, numbers that not every language keeps, text that is no UTF-8, nesting that exhausts a stack.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final

from sagabus.codec import MAX_DEPTH
from sagabus.errors import CodecError

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**64 - 1
"""The integers that MessagePack, and so a state, can hold."""

# Possessive, and closed only perhaps: nothing is looked at twice, not even where a string never ends.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
_DIGITS: Final = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else byte for byte in range(256))
_LONG_NUMBER: Final = b"0" * 19
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def check(data: bytes, max_depth: int = MAX_DEPTH) -> None:
    """Refuse JSON that readers could take for different things, or that could harm one. It may be no JSON at all still.

    Args:
        max_depth: how deep objects and arrays may be nested; the outermost is 1.

    Raises:
        CodecError: it is nested deeper (reason `too-deep`); or it is no UTF-8, an object has two members of one name,
            or an integer does not fit 64 bits.
    """
    if data.count(b"[") + data.count(b"{") > max_depth and depth(data) > max_depth:
        raise CodecError(f"JSON is nested deeper than {max_depth} levels; send a flatter message", "too-deep")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise CodecError(f"JSON is no UTF-8: {error.reason} at byte {error.start}") from error
    if _is_suspect(data):
        _check_closely(data)


def check_numbers(data: bytes) -> None:
    """Refuse JSON of ours as `check` does, where only the numbers can be wrong in it: it is flat, its names differ."""
    if _LONG_NUMBER in data.translate(_DIGITS):
        _check_closely(data)


def _is_suspect(data: bytes) -> bool:
    """Return False where it is plain at a glance that no name comes twice and no number is long."""
    if b"\\" in data or _LONG_NUMBER in data.translate(_DIGITS):
        return True
    if b'" ' in data or b'"\t' in data or b'"\r' in data or b'"\n' in data:
        return True
    # Without escapes and gaps every name stands between a quote and this; some of what is found here is no name.
    *parts, _ = data.split(b'":')
    if len(parts) < 2:
        return False
    names = [part.rpartition(b'"')[2] for part in parts]
    return names[0] == names[1] if len(names) == 2 else len(set(names)) < len(names)


def depth(data: bytes) -> int:
    """Return how deep the objects and arrays of *data* are nested, brackets in strings aside."""
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _check_closely(data: bytes) -> None:
    """Look at every object and number; only where a glance has found something that might be wrong."""
    try:
        _decoder.decode(data.decode())
    except CodecError:
        raise
    except (ValueError, RecursionError) as error:
        raise CodecError(f"no JSON: {error}") from error


def _members(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise CodecError(f"a JSON object has two members called {name[:50]!r}")
        seen.add(name)


def _integer(digits: str) -> None:
    # What has more digits than 64 bits can have need not be worked out.
    if len(digits) > len(str(MIN_INT)) or not MIN_INT <= int(digits) <= MAX_INT:
        raise CodecError(
            f"an integer of {len(digits)} characters, {digits[:20]}..., does not fit 64 bits; send it as text"
        )


_decoder: Final = json.JSONDecoder(object_pairs_hook=_members, parse_int=_integer)
