"""Where a page of the index ended: a place in the order of what was looked at, not a number of rows."""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from sagabus.errors import ConfigurationError


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where to go on.

    Attributes:
        part: which part of the walk: `live`, `completed`, `forked`, `scan`.
        score: of the last entry that was looked at; of a scan, nothing.
        name, id: of that entry; of a scan, the class, and the last id taken of what the scan gives next.
        scan: where the scan of that class goes on.
    """

    part: str
    score: int = 0
    name: str = ""
    id: str = ""
    scan: int = 0


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(Place)


def to_cursor(place: Place | None) -> str:
    """Return *place* as people and URLs carry it; empty for None."""
    return "" if place is None else base64.urlsafe_b64encode(_encode(place)).decode().rstrip("=")


def from_cursor(cursor: str, parts: tuple[str, ...]) -> Place | None:
    """Return what `to_cursor` wrote; None for the beginning.

    Args:
        parts: of the walk that it is for.

    Raises:
        ConfigurationError: it did not write that for such a walk.
    """
    if not cursor:
        return None
    try:
        place = _decoder.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, msgspec.MsgspecError):
        place = None
    if place is None or place.part not in parts:
        raise ConfigurationError(
            f"the cursor {cursor[:80]!r} is none of this list; use that of the page before, with the same filters, "
            f"or leave it out to begin at the first"
        )
    return place
