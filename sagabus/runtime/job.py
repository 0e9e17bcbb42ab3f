"""A job: one message that a crew has a consumer handle, from its start until it is through or given up."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from msgspec import field

from sagabus.records import Entry
from sagabus.runtime.intake import ConsumerWork
from sagabus.runtime.surroundings import Finished
from sagabus.runtime.ticket import Trouble
from sagabus.runtime.watchdog import Decision, overdue

if TYPE_CHECKING:
    from sagabus.runtime.crew import ThreadedCrew


class Job(Entry):
    """One message for one consumer.

    Attributes:
        work: the message, and who handles it.
        queued_at: when it was started, on the monotonic clock; of a `def` handler.
        began_at: since when its time runs, on the monotonic clock; None while it waits for a place.
        crew: who took it.
        took_s: how long its handler ran; None while it does.
        given_up_at: when it was given up, on the monotonic clock.
        ended: whether its handler has returned, or raised.
        thread: what it runs in, or the thread of its event loop.
        task: what runs it, for an `async def` handler.
        has_place: whether it has one of the places of its event loop.
        end: taken by who says what becomes of it: its handler has ended, or it is given up.
    """

    work: ConsumerWork
    crew: ThreadedCrew
    queued_at: float = 0.0
    began_at: float | None = None
    took_s: float | None = None
    given_up_at: float | None = None
    ended: bool = False
    thread: threading.Thread | None = None
    task: asyncio.Task[None] | None = None
    has_place: bool = False
    end: Decision = field(default_factory=Decision)

    def overdue_at(self, timeout_s: float) -> float:
        """Return when its time is over, on the monotonic clock; infinite while it waits for a place."""
        return float("inf") if self.began_at is None else self.began_at + timeout_s

    def give_up(self, timeout_s: float, now: float) -> Finished | None:
        """Return that it has timed out; None where it has ended in this very moment."""
        if not self.end.take():
            return None
        self.given_up_at = now
        # Where it is an async handler that waits, its thread is somewhere else.
        ident = self.thread.ident if self.thread is not None and self.task is None else None
        return Finished(self.work.ticket, (), Trouble.of(overdue(self.work.consumer.name, timeout_s, ident)))
