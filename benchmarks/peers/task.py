"""The task that all peers do, and the books in which their decisions are looked up.

A check is seven messages: a start, a request to each of three bureaus, three replies. The second score decides it. A
*hot* check, whose name begins so, asks more bureaus, and all of their scores decide it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final, Protocol

from sagabus import SagabusError

BUREAUS: Final = ("equifax", "experian", "transunion")
ACCEPT_OVER: Final = 700
NEEDED: Final = 2
HOT: Final = "hot-"

RECORD: Final = """
local at = redis.call('TIME')
local entry = ARGV[2] .. ':' .. at[1] .. string.format('.%06d', at[2])
if redis.call('HSETNX', 'decisions', ARGV[1], entry) == 1 then return redis.call('INCR', 'decided') end
redis.call('INCR', 'decided-again')
return 0
"""
"""Enter the decision on a check, with the server's time. ARGV: the check, the average of its scores."""


class UndoneError(SagabusError):
    """A peer did not do the task, so its figures mean nothing."""


def bureaus(replies: int) -> Sequence[str]:
    """Return whom a check asks."""
    return BUREAUS if replies == len(BUREAUS) else [f"bureau-{number}" for number in range(replies)]


def needed(replies: int) -> int:
    """Return how many scores decide a check that asks so many bureaus."""
    return NEEDED if replies == len(BUREAUS) else replies


def score(bureau: str, check: str) -> int:
    """Return the points that a bureau reports: 600 to 850, always the same."""
    return 600 + zlib.crc32(f"{bureau}/{check}".encode()) % 251


def average(scores: Sequence[int]) -> float:
    """Return what a decision goes by: over 700 is accepted."""
    return sum(scores) / len(scores)


class Books(Protocol):
    """What was decided, as the driver sees it."""

    def done(self) -> int:
        """Return how many checks were decided."""
        ...

    def times(self, checks: Sequence[str]) -> list[float]:
        """Return when each was decided, Unix time in seconds.

        Raises:
            UndoneError: one of them was not.
        """
        ...

    def close(self, expected: int) -> None:
        """Look at every decision, and begin an empty book.

        Raises:
            UndoneError: not so many checks were decided, or one twice, or wrongly.
        """
        ...


class ServerBooks:
    """The books that `RECORD` keeps in a server."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def done(self) -> int:
        """Return how many checks were decided."""
        return int(self._client.get("decided") or 0)

    def times(self, checks: Sequence[str]) -> list[float]:
        """Return when each was decided, by the server's clock."""
        entries = self._client.hmget("decisions", list(checks))
        if None in entries:
            raise UndoneError(f"{entries.count(None)} of {len(checks)} checks were not decided")
        return [float(entry.decode().rpartition(":")[2]) for entry in entries]

    def close(self, expected: int) -> None:
        """Look at every decision, and begin an empty book."""
        entries = self._client.hgetall("decisions")
        again = int(self._client.get("decided-again") or 0)
        self._client.delete("decisions", "decided", "decided-again")
        averages = {check.decode(): float(entry.partition(b":")[0]) for check, entry in entries.items()}
        verify(averages, again, expected)


def verify(averages: Mapping[str, float], again: int, expected: int) -> None:
    """Look at the decisions of a book.

    Args:
        averages: what each check was decided on.
        again: how many were decided once more.
        expected: how many checks there were.

    Raises:
        UndoneError: not so many were decided, or one twice, or wrongly.
    """
    wrong = [check for check, said in averages.items() if not is_right(check, said)]
    if len(averages) != expected or again or wrong:
        raise UndoneError(
            f"{len(averages)} of {expected} checks were decided, {again} once more, and wrongly: {wrong[:3]}"
        )


def is_right(check: str, average_said: float) -> bool:
    """Say whether an average is that of two scores of the check, or of three; of a hot one it may be any."""
    if check.startswith(HOT):
        return True
    scores = [score(bureau, check) for bureau in BUREAUS]
    allowed = [average(few) for few in (*combinations(scores, NEEDED), scores)]
    return any(abs(average_said - each) < 0.01 for each in allowed)


def until(books: Books, count: int, give_up_s: float = 120.0) -> None:
    """Return when so many checks were decided.

    Raises:
        UndoneError: nothing more was decided for *give_up_s* seconds.
    """
    done, moved_at = books.done(), time.monotonic()
    while done < count:
        time.sleep(0.001)
        now = books.done()
        if now > done:
            done, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > give_up_s:
            raise UndoneError(f"{done} of {count} checks were decided, and no other one for {give_up_s:g} s")
