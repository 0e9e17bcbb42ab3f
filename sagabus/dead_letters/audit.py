"""The audit trail: a line for each thing that a person did to a dead letter or a waiting message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from attrs import field, frozen

KEPT: Final = 10_000
"""About how many lines of a trail are kept; the oldest go first."""
MAX_BYTES: Final = 16_384
"""A line that would be longer is kept without its details."""


@frozen
class AuditLine:
    """What somebody did.

    Attributes:
        what: a stable word: `retry`, `edit`, `drop`, `cancel`, `fire`.
        by: who, as `user@host`, or what the caller of the API says.
        id: the message id.
        endpoint: whose letter it was, or where the waiting message was to go.
        type: the wire name of the message, where known.
        saga: the saga that it was for, as `name/id`, where known.
        key: tells it from all other lines; one that was noted already is not noted again.
        details: what changed, plain data: digests, a JSON patch, where it went.
        at_ms: when, ms since 1970, store's clock; 0 until the store has noted it.
    """

    what: str
    by: str
    id: str
    endpoint: str
    key: str
    type: str = ""
    saga: str = ""
    details: Mapping[str, Any] = field(factory=dict)
    at_ms: int = 0


class _Line(msgspec.Struct, omit_defaults=True, frozen=True):
    what: str
    by: str
    id: str
    endpoint: str
    key: str
    type: str = ""
    saga: str = ""
    details: dict[str, Any] = {}


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Line)


def encode_line(line: AuditLine) -> bytes:
    """Return *line* as a store keeps it: JSON, of bounded length, without its time."""
    kept = _Line(line.what, line.by, line.id, line.endpoint, line.key, line.type, line.saga, dict(line.details))
    data = _encoder.encode(kept)
    if len(data) > MAX_BYTES:
        data = _encoder.encode(msgspec.structs.replace(kept, details={"omitted_bytes": len(data)}))
    return data


def decode_line(data: bytes, at_ms: int) -> AuditLine:
    """Return what `encode_line` wrote."""
    line = _decoder.decode(data)
    return AuditLine(line.what, line.by, line.id, line.endpoint, line.key, line.type, line.saga, line.details, at_ms)
