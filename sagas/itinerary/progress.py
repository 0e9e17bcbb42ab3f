"""How far an itinerary is: what was asked, what was answered. Its saga's state holds one of these, and only facts."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from sagas.itinerary.messages import Slip


@define
class StepProgress:
    """What is known of one step.

    Attributes:
        asked: how many attempts to do it were sent.
        refused: which of them were refused.
        done: whether any attempt was answered as done; all of them are one and the same thing to do.
        overdue: whether the last attempt is out of time.
        undo_asked: how many attempts to undo it were sent.
        undo_from: the first of those whose answer counts: earlier ones may have come before the step was done.
        undone: whether one that counts was answered as done.
        undo_overdue: whether the last of those is out of time.
        trouble: why doing it was refused last.
        undo_trouble: why undoing it was refused last.
    """

    asked: int = 0
    refused: list[int] = field(factory=list)
    done: bool = False
    overdue: bool = False
    undo_asked: int = 0
    undo_from: int = 1
    undone: bool = False
    undo_overdue: bool = False
    trouble: str = ""
    undo_trouble: str = ""

    @property
    def refused_throughout(self) -> bool:
        """Return whether every attempt that was sent is known to have done nothing."""
        return self.asked > 0 and not self.done and all(n in self.refused for n in range(1, self.asked + 1))

    @property
    def may_stand(self) -> bool:
        """Return whether the step is done, or may be, as far as anybody knows."""
        return (self.asked > 0 or self.done) and not self.refused_throughout and not self.undone

    @property
    def undo_tries(self) -> int:
        """Return how many attempts to undo it were sent whose answers count."""
        return self.undo_asked - self.undo_from + 1

    def hear_done(self, attempt: int) -> bool:
        """Note that the step is done, and return whether that is news. An undo that was sent before must come again."""
        news = not self.done
        # An answer proves that it was asked for, also where the store has lost that.
        self.asked = max(self.asked, attempt)
        self.done, self.overdue = True, False
        if self.undo_asked:
            self.undo_from, self.undone, self.undo_overdue = self.undo_asked + 1, False, False
        return news

    def hear_undone(self, attempt: int) -> None:
        """Note that an undo was answered as done; it counts only where it was sent after the step was last heard of."""
        self.undo_asked = max(self.undo_asked, attempt)
        if attempt >= self.undo_from:
            self.undone, self.undo_overdue = True, False

    def hear_refused(self, slip: Slip, reason: str) -> None:
        """Note that an attempt was refused. That of an undo is tried again when its time is out."""
        if slip.undo:
            self.undo_trouble = reason
            return
        self.trouble = reason
        self.asked = max(self.asked, slip.attempt)
        if slip.attempt not in self.refused:
            self.refused.append(slip.attempt)

    def hear_overdue(self, slip: Slip) -> None:
        """Note that the time of the last attempt is out; timers of earlier ones were replaced, and never come."""
        if slip.undo:
            self.undo_overdue = True
        else:
            self.overdue = True


@define
class Progress:
    """What is known of an itinerary.

    Attributes:
        steps: step -> what is known of it, for those that were begun.
        reason: why it is to turn back, or has; empty while all is well.
        failed: the step because of which it has turned back; empty where somebody asked for it.
        back: whether it has turned back.
        outcome: how it has ended: `completed`, `undone` or `abandoned`.
    """

    steps: dict[str, StepProgress] = field(factory=dict)
    reason: str = ""
    failed: str = ""
    back: bool = False
    outcome: str = ""

    def of(self, step: str) -> StepProgress:
        """Return what is known of a step, to be looked at."""
        return self.steps.get(step) or StepProgress()

    def begin(self, step: str) -> StepProgress:
        """Return what is known of a step, to be changed."""
        return self.steps.setdefault(step, StepProgress())


@define
class ItineraryState:
    """The state of an itinerary. Subclass it with `@define` and put what your steps need into further fields.

    Attributes:
        results: step -> what its answer said; nothing for a step that nobody has heard of yet.
        itinerary: how far it is; the itinerary's own.
    """

    results: dict[str, dict[str, Any]] = field(factory=dict)
    itinerary: Progress = field(factory=Progress)
