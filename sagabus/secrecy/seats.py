"""The seats of secrets: the shapes of plain data in which encrypted values stand, and how each of these is reached."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from attrs import field, frozen

from sagabus.errors import CodecError
from sagabus.secrecy.encrypted import Encrypted
from sagabus.secrecy.sealing import Path, shown


class Turn(Protocol):
    """Turns the value at one place into another."""

    def __call__(self, leaf: Leaf, value: Any, path: Path, /) -> Any: ...


class Seat(Protocol):
    """A part of plain data with encrypted values in it."""

    def turned(self, data: Any, path: Path, turn: Turn) -> Any:
        """Return *data* with each encrypted value turned; None, and what has another shape, as it is."""
        ...


@frozen(eq=False)
class Leaf:
    """One encrypted value.

    Attributes:
        hint: the type of what it hides.
    """

    hint: Any
    _decoder: msgspec.msgpack.Decoder[Any]

    def turned(self, data: Any, path: Path, turn: Turn) -> Any:
        return None if data is None else turn(self, data, path)

    def read(self, data: bytes, root: str, path: Path) -> Encrypted[Any]:
        """Return the secret that *data*, decrypted, holds."""
        try:
            return Encrypted(self._decoder.decode(data))
        except Exception:  # validators are the user's; and what it says may show the secret
            raise _misfit(self.hint, root, path) from None

    def given(self, data: Any, root: str, path: Path) -> Encrypted[Any]:
        """Return the secret that somebody gave as plain data."""
        try:
            return Encrypted(msgspec.convert(data, self.hint))
        except Exception:
            raise _misfit(self.hint, root, path) from None


def _misfit(hint: Any, root: str, path: Path) -> CodecError:
    name = getattr(hint, "__qualname__", str(hint))
    return CodecError(f"{root}: what is encrypted at `{shown(path)}` is no {name}; what it is instead is not shown")


@frozen(eq=False)
class Members:
    """An object of a class: some of its fields."""

    seats: dict[str, Seat] = field(factory=dict)

    def turned(self, data: Any, path: Path, turn: Turn) -> Any:
        if not isinstance(data, dict):
            return data
        seats = self.seats
        return {k: seats[k].turned(v, (*path, k), turn) if k in seats else v for k, v in data.items()}


@frozen(eq=False)
class Items:
    """A list or a tuple, or the values of a mapping: all of them."""

    each: Seat

    def turned(self, data: Any, path: Path, turn: Turn) -> Any:
        if isinstance(data, list | tuple):
            return [self.each.turned(item, (*path, n), turn) for n, item in enumerate(data)]
        if isinstance(data, dict):
            return {k: self.each.turned(v, (*path, k), turn) for k, v in data.items()}
        return data


@frozen(eq=False)
class Positions:
    """A tuple of fixed length: some of its items."""

    seats: dict[int, Seat]

    def turned(self, data: Any, path: Path, turn: Turn) -> Any:
        if not isinstance(data, list | tuple):
            return data
        seats = self.seats
        return [seats[n].turned(v, (*path, n), turn) if n in seats else v for n, v in enumerate(data)]
