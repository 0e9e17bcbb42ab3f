"""Dead letters grouped by what went wrong: those of one error, message type, reason and endpoint. Pure.

Errors name what they are about, so two of one kind are seldom equal: what is quoted, and every word with a digit in it,
stands as `…` in the pattern of an error. Only its first line counts.

    ValueError: no such customer: 'ann'             ValueError: no such customer: …
    KeyError: order 4711 of 2024-05-31              KeyError: order … of …
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from attrs import frozen

from sagabus.dead_letters.letter import DeadLetter

_VARIABLE: Final = re.compile(
    r"""b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"|[\w.:+/-]*\d[\w.:+/-]*""",
)
_LONGEST: Final = 200


class LetterHead(NamedTuple):
    """What is known of a dead letter without looking into it.

    Attributes:
        endpoint, id, type, reason, saga, at_ms: as `DeadLetter` has them.
        error: the first thousand characters of it.
    """

    endpoint: str
    id: str
    type: str
    reason: str
    saga: str
    error: str
    at_ms: int

    @classmethod
    def of(cls, letter: DeadLetter) -> LetterHead:
        """Return the head of *letter*."""
        error = letter.error[:HEAD_ERROR]
        return cls(letter.endpoint, letter.id, letter.type, letter.reason, letter.saga, error, letter.at_ms)


HEAD_ERROR: Final = 1000
"""How much of an error stands in a head."""


@frozen
class LetterGroup:
    """Dead letters that went wrong alike.

    Attributes:
        error: the pattern of their errors.
        type: the wire name of their messages; empty where it could not be read.
        reason: why they were given up.
        endpoint: by which.
        count: how many there are, of those that were looked at.
        first_ms, last_ms: when the first and the last of these was given up, ms since 1970.
    """

    error: str
    type: str
    reason: str
    endpoint: str
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0

    @property
    def id(self) -> str:
        """Return what it is called: the same for the same kind, whatever letters it has at a time; 10 hex digits."""
        kind = "\x1f".join((self.error, self.type, self.reason, self.endpoint))
        return hashlib.blake2b(kind.encode(errors="backslashreplace"), digest_size=5).hexdigest()

    def holds(self, letter: DeadLetter | LetterHead) -> bool:
        """Return whether *letter* is one of them."""
        return _kind(letter) == (self.error, self.type, self.reason, self.endpoint)


@frozen
class Groups:
    """The groups that some dead letters make.

    Attributes:
        groups: those of most letters first.
        looked_at: how many letters they are made of, the newest.
        total: how many there are in all.
    """

    groups: tuple[LetterGroup, ...] = ()
    looked_at: int = 0
    total: int = 0


def pattern(error: str) -> str:
    """Return the first line of *error* without what it names."""
    line = error[:HEAD_ERROR].partition("\n")[0]
    said = " ".join(_VARIABLE.sub("…", line).split())
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def grouped(heads: Iterable[LetterHead]) -> tuple[LetterGroup, ...]:
    """Return the groups that *heads* make, those of most letters first, then the newest."""
    found: dict[tuple[str, str, str, str], list[int]] = {}
    for head in heads:
        times = found.setdefault(_kind(head), [0, head.at_ms, head.at_ms])
        times[0] += 1
        times[1], times[2] = min(times[1], head.at_ms), max(times[2], head.at_ms)
    groups = [LetterGroup(*kind, *times) for kind, times in found.items()]
    return tuple(sorted(groups, key=lambda group: (-group.count, -group.last_ms)))


def _kind(letter: DeadLetter | LetterHead) -> tuple[str, str, str, str]:
    return pattern(letter.error), letter.type, letter.reason, letter.endpoint
