"""The pulse of a lane: when its loop last got on, and which server it waits for. Its own thread writes, others read."""

from __future__ import annotations

import time


class Pulse:
    """What one lane shows of itself.

    Attributes:
        beat_at: when its loop last got on, on the monotonic clock; a lane that asks a server again gets on, too.
        asking_since: since when a server has owed it an answer, on the monotonic clock; None while none does.
        answered: whether its servers have answered it at least once.
        waits_for: why the server that it asks could not answer the last time; empty where it could.
        ended: whether the lane has ended, and will not get on any more.
    """

    __slots__ = ("answered", "asking_since", "beat_at", "ended", "waits_for")

    def __init__(self) -> None:
        self.beat_at = time.monotonic()
        self.asking_since: float | None = None
        self.answered = False
        self.waits_for = ""
        self.ended = False

    def beat(self) -> None:
        """Note that the lane got on."""
        self.beat_at = time.monotonic()

    def asks(self) -> None:
        """Note that a server is asked."""
        self.beat_at = self.asking_since = time.monotonic()

    def heard(self) -> None:
        """Note that it has answered."""
        self.beat_at, self.asking_since = time.monotonic(), None
        self.answered, self.waits_for = True, ""

    def refused(self, why: str) -> None:
        """Note that it did not answer, or would not do what it was asked."""
        self.beat_at, self.asking_since = time.monotonic(), None
        self.waits_for = why
