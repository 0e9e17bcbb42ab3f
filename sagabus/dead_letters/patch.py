"""What an edit changed, as an RFC 6902 JSON patch: a list that is replaced is replaced whole."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

MAX_BYTES: Final = 8_192
"""A patch that would be longer is not kept; the digests are."""


def digest(body: bytes) -> str:
    """Return what tells one body from another in an audit line."""
    return f"blake2b:{hashlib.blake2b(body, digest_size=16).hexdigest()}"


def changes(before: bytes, after: bytes) -> dict[str, Any]:
    """Return the digests of both bodies, and how to get from the one to the other where that can be said shortly."""
    found: dict[str, Any] = {"before": digest(before), "after": digest(after)}
    try:
        patch = json_patch(msgspec.json.decode(before), msgspec.json.decode(after))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return found
    if len(msgspec.json.encode(patch)) <= MAX_BYTES:
        found["patch"] = patch
    return found


def json_patch(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Return the operations that turn *before* into *after*, plain JSON data both."""
    if isinstance(before, dict) and isinstance(after, dict):
        removed = [{"op": "remove", "path": f"{path}/{_token(name)}"} for name in before if name not in after]
        added = [
            {"op": "add", "path": f"{path}/{_token(name)}", "value": value}
            for name, value in after.items()
            if name not in before
        ]
        both = (name for name in after if name in before)
        changed = [op for name in both for op in json_patch(before[name], after[name], f"{path}/{_token(name)}")]
        return removed + changed + added
    # JSON tells true from 1, and Python does not; JSON has one kind of number.
    if before == after and isinstance(before, bool) == isinstance(after, bool):
        return []
    return [{"op": "replace", "path": path, "value": after}]


def _token(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
