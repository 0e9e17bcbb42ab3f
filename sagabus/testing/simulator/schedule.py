"""Schedules as they are written down: what happened in which order, by the names of sagas and messages."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

import attrs
from attrs import frozen

from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError

_VERSION: Final = "v1:"


class ReplayTokenError(ConfigurationError):
    """A replay token cannot be read."""

    def __init__(self, token: str) -> None:
        super().__init__(
            f"{token[:20]!r}... is no replay token of this version; copy the whole text behind replay= of the report"
        )


@frozen
class Loads:
    """A worker loads a saga for one or two messages.

    Attributes:
        saga: which.
        messages: their names.
        kept: which message, the first or the second, stays in the queue too, to be delivered once more; 0 for none.
        resent: of which the sender sends the same body again, under a new id; 0 for none.
    """

    saga: SagaKey
    messages: tuple[str, ...]
    kept: int = 0
    resent: int = 0


@frozen
class Commits:
    """The worker that holds a saga for these messages commits; *which* tells apart those that hold the same."""

    saga: SagaKey
    messages: tuple[str, ...]
    which: int = 0


@frozen
class RollsBack:
    """The store fails over and loses the last commit of a saga."""

    saga: SagaKey


@frozen
class Operates:
    """A consumer performs its next operation on documents, or ends.

    Attributes:
        endpoint, consumer: which.
        message: the id of what it handles.
        done: how many operations it has performed before.
        which: tells apart those that are as far but have been answered otherwise.
        kept: whether its message is delivered once more, too.
        resent: whether its sender sends the same body again, under a new id.
    """

    endpoint: str
    consumer: str
    message: str
    done: int
    which: int = 0
    kept: bool = False
    resent: bool = False


@frozen
class Crashes:
    """The worker of a consumer dies; attributes as of `Operates`."""

    endpoint: str
    consumer: str
    message: str
    done: int
    which: int = 0


@frozen
class LeavesOut:
    """Not a step: what follows happens without these of the given messages. Only at the beginning."""

    messages: tuple[str, ...]


Step = Loads | Commits | RollsBack | Operates | Crashes | LeavesOut
Schedule = tuple[Step, ...]


def token_of(schedule: Sequence[Step]) -> str:
    """Return *schedule* as a text that `explore(..., replay=)` takes."""
    data = json.dumps([_plain(step) for step in schedule], separators=(",", ":")).encode()
    return _VERSION + base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")


def schedule_of(token: str) -> Schedule:
    """Return what `token_of` wrote.

    Raises:
        ReplayTokenError: it is none.
    """
    text = token.strip().removeprefix(_VERSION)
    if text == token.strip():
        raise ReplayTokenError(token)
    try:
        data = zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return tuple(_step(plain) for plain in json.loads(data))
    except (ValueError, KeyError, IndexError, TypeError, zlib.error, binascii.Error, ConfigurationError) as error:
        raise ReplayTokenError(token) from error


def _plain(step: Step) -> list[Any]:
    match step:
        case Loads(saga, messages, kept, resent):
            return ["L", str(saga), list(messages), kept, resent]
        case Commits(saga, messages, which):
            return ["C", str(saga), list(messages), which]
        case RollsBack(saga):
            return ["R", str(saga)]
        case Operates():
            return ["O", *attrs.astuple(step)]
        case Crashes():
            return ["X", *attrs.astuple(step)]
        case LeavesOut(messages):
            return ["-", list(messages)]


def _step(plain: list[Any]) -> Step:
    if plain[0] == "-":
        return LeavesOut(tuple(map(str, plain[1])))
    if plain[0] in ("O", "X"):
        endpoint, consumer, message, done, which, *more = plain[1:]
        where = str(endpoint), str(consumer), str(message), int(done), int(which)
        return Operates(*where, *map(bool, more)) if plain[0] == "O" else Crashes(*where)
    kind, saga = plain[0], SagaKey.parse(plain[1])
    if kind == "L":
        return Loads(saga, tuple(plain[2]), int(plain[3]), int(plain[4]))
    if kind == "C":
        return Commits(saga, tuple(plain[2]), int(plain[3]))
    if kind == "R":
        return RollsBack(saga)
    raise ValueError(f"unknown step {kind!r}")
