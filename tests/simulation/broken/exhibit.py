"""What one side of an exhibit is: a saga, what is to be explored of it, and what must be found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen
class Exhibit:
    """One saga of the gallery: broken or mended.

    Attributes:
        title: what is wrong, or how it was mended, in a line.
        subject: what `explore` takes first: a saga class, or several.
        arguments: the keyword arguments of `explore`.
        kinds: the kinds of failure that count as finding the fault, that of the shortest schedule first; none where
            the simulator must find nothing.
        length: how many events the shortest failing schedule has; None where it is not known, or there is none.
    """

    title: str
    subject: Any
    arguments: Mapping[str, Any] = field(factory=dict)
    kinds: tuple[str, ...] = ()
    length: int | None = None
