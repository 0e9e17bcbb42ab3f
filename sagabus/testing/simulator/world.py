"""The world of an exploration: all sagas, what is in their queues and in workers' hands, and what has left.

A world is a tuple of small numbers, so that it can be compared and remembered by the hundred thousand. What the numbers
mean stands in the tables of `Cells`, `SagaTables` and `Mail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attrs import field, frozen


class Cell(NamedTuple):
    """One saga, all that is on its way to it, and what became of what it has handled.

    Attributes:
        record: the number of its record.
        holds: the numbers of what workers have in hand, sorted.
        queue: the items on their way to it, sorted; a second delivery of one id is a second copy.
        story: the number of the tale since it was last settled with nobody at work on it.
    """

    record: int
    holds: tuple[int, ...]
    queue: tuple[int, ...]
    story: int


class Budget(NamedTuple):
    """How often something may still happen."""

    duplicates: int
    resends: int
    rollbacks: int
    crashes: int = 0


class World(NamedTuple):
    """Everything that may make a difference to what happens next.

    Attributes:
        cells: the number of one a saga, in the order in which the exploration met them.
        left: the number of what has left.
        budget: what may still go wrong.
        clock_ms: the time since the start, where that matters.
        errands: the numbers of what consumers have in hand, sorted; two copies of one are two deliveries.
        shelf: the number of what the documents are.
    """

    cells: tuple[int, ...]
    left: int
    budget: Budget
    clock_ms: int
    errands: tuple[int, ...] = ()
    shelf: int = 0


class Tale(NamedTuple):
    """What a saga has handled since it was last settled with nobody at work on it.

    Attributes:
        opening: its state then; None where it was absent or had completed.
        starter: who had started it then.
        handled: the items handled since, sorted.
        told: whether there is nothing to compare it with: it has handled MergeSagaState in a way of its own since, or
            more messages than are compared. What it has handled is not kept then, or a saga that goes round in circles
            would never come to the same world again.
        life: of which life; 0 where it was absent or had completed.
    """

    opening: bytes | None = None
    starter: bytes = b""
    handled: tuple[int, ...] = ()
    told: bool = False
    life: int = 0


class Load(NamedTuple):
    """A worker loads saga number *cell* for *items*.

    The one whose place, from 1, is *kept* stays in the queue too, as a copy; that at *resent* as a twin; 0 for none.
    """

    cell: int
    items: tuple[int, ...]
    kept: int = 0
    resent: int = 0


class Commit(NamedTuple):
    """A worker commits what it has in hand."""

    cell: int
    hold: int


class RollBack(NamedTuple):
    """The store fails over and loses the last commit of a saga."""

    cell: int


class Operate(NamedTuple):
    """A consumer performs its next operation on documents, or ends.

    *kept*: its message is delivered once more, too. *resent*: its sender sends the same body again, under a new id.
    """

    errand: int
    kept: bool = False
    resent: bool = False


class Crash(NamedTuple):
    """A worker dies with a consumer at work, whose message is delivered again."""

    errand: int


Event = Load | Commit | RollBack | Operate | Crash


@frozen
class Settings:
    """What may happen.

    Attributes:
        workers: how many may hold one saga at once.
        batch: the most messages that one load takes, 1 or 2.
        budget: duplicates, resends, rollbacks and crashes.
        timeouts: whether timers fire.
        serial_merges: whether a settled state must be one that handling the messages in some order gives.
    """

    workers: int = 2
    batch: int = 1
    budget: Budget = field(default=Budget(0, 0, 0))
    timeouts: bool = True
    serial_merges: bool = True


def may_end(possible: Sequence[tuple[Event, object]]) -> bool:
    """Return whether all may be over where *possible* can happen: it is nothing, or failovers, that need not happen."""
    return not possible or (isinstance(possible[0][0], RollBack) and all(isinstance(e, RollBack) for e, _ in possible))
