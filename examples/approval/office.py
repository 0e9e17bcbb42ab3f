"""The office: people behind an endpoint, each with a habit, and a diary of what they saw."""

from __future__ import annotations

import threading
import time

from examples.approval.saga import PurchaseApproval
from sagabus import Bus, Context
from sagas.approval import Approved, AskForApproval, Cancelled, Expired, Rejected, RemindApprover, Vote, VoteRefused


class Office:
    """What happened, as people saw it. Thread-safe.

    Args:
        bus: gets the saga, the people, and a diary that hears how it ends.
        votes: who votes when asked: name -> whether they approve. All others stay silent.

    Attributes:
        closed: set when the last message of the story has come.
    """

    def __init__(self, bus: Bus, votes: dict[str, bool]) -> None:
        self._votes = votes
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self.closed = threading.Event()
        bus.endpoint("approvals", PurchaseApproval)
        people = bus.endpoint("people")
        for consumer in (self.asked, self.reminded, self.refused):
            people.consumer(consumer)
        bus.endpoint("diary").consumer(self.ended)

    @property
    def lines(self) -> list[str]:
        """Return what was noted so far."""
        with self._lock:
            return list(self._lines)

    def note(self, text: str) -> None:
        """Note what happened, with the time since the beginning."""
        with self._lock:
            self._lines.append(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def asked(self, m: AskForApproval, context: Context) -> None:
        """Vote by reply, or stay silent."""
        self.note(f"{m.approver} is asked about {m.about}")
        if m.approver in self._votes:
            approves = self._votes[m.approver]
            self.note(f"{m.approver} {'approves' if approves else 'rejects'}")
            context.reply(Vote(m.subject, m.approver, approves))

    def reminded(self, m: RemindApprover) -> None:
        """Note a reminder, and stay silent."""
        self.note(f"{m.approver} is reminded")

    def refused(self, m: VoteRefused) -> None:
        """Note that somebody was too late."""
        self.note(f"{m.approver} votes and hears: {m.reason}")
        self.closed.set()

    def ended(self, m: Approved | Rejected | Expired | Cancelled, context: Context) -> None:
        """Note how it ended; then Bob is back from lunch, and votes."""
        by = f" by {', '.join(m.by)}" if isinstance(m, Approved | Rejected) else ""
        self.note(f"{type(m).__name__.lower()}{by}")
        context.send(Vote(m.subject, "bob", approves=True), to="approvals")
