"""What travels between an itinerary and those who do its steps, and how it says that it has ended."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from sagabus import message


@frozen
class Slip:
    """Which request of which itinerary this is: it goes out with each command and comes back with the answer.

    Attributes:
        itinerary: the name of the itinerary's class in the store.
        id: what identifies the itinerary among those of its class.
        step: the name of the step.
        undo: whether the step is to be undone.
        attempt: the how manieth request of that kind it is, from 1.
    """

    itinerary: str
    id: str
    step: str
    undo: bool = False
    attempt: int = 1

    @property
    def key(self) -> str:
        """Return the idempotency key of the step: `Trip/42/flight`, the same for every attempt to do it or undo it."""
        return f"{self.itinerary}/{self.id}/{self.step}"

    def done(self, **result: Any) -> StepDone:
        """Return the answer that what was asked is done, with what later steps and the undo may want to know."""
        return StepDone(self, result)

    def failed(self, reason: str) -> StepFailed:
        """Return the answer that what was asked is not done and will not be, for this attempt."""
        return StepFailed(self, reason)


@message("sagas.itinerary.step-done")
class StepDone:
    """A step is done, or undone: its slip says which.

    Attributes:
        result: plain values (text, numbers, lists, dicts with text keys); that of an undo is not kept.
    """

    slip: Slip
    result: dict[str, Any] = field(factory=dict)


@message("sagas.itinerary.step-failed")
class StepFailed:
    """What the slip asked for was refused: this attempt has done nothing that would have to be undone."""

    slip: Slip
    reason: str


@message("sagas.itinerary.step-overdue")
class StepOverdue:
    """No answer has come in time, or the pause before another attempt is over. An itinerary sends it to itself."""

    slip: Slip


@message("sagas.itinerary.completed")
class ItineraryCompleted:
    """Every step is done.

    Attributes:
        results: step -> what its answer said.
    """

    itinerary: str
    id: str
    results: dict[str, dict[str, Any]] = field(factory=dict)


@message("sagas.itinerary.undone")
class ItineraryUndone:
    """The itinerary turned back, and nothing is left of it but what cannot be undone.

    Attributes:
        reason: why it turned back.
        failed: the step that failed or did not answer; empty where somebody asked for it.
        undone: the steps that were undone, in reverse order of the route.
        kept: the steps without an undo that were done, or may have been, in the order of the route.
    """

    itinerary: str
    id: str
    reason: str
    failed: str = ""
    undone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@message("sagas.itinerary.abandoned")
class ItineraryAbandoned:
    """The itinerary has given up half-way: every attempt at one step was in vain. People have to look at it.

    Attributes:
        step: the step that would not be done, or undone.
        undo: whether it was to be undone.
        reason: what was heard last, and why it had turned back, if it had.
        left: what is still to be undone (`undo`), first to last to undo; otherwise the steps not known to be done.
    """

    itinerary: str
    id: str
    step: str
    undo: bool
    reason: str
    left: tuple[str, ...]


ItineraryOutcome = ItineraryCompleted | ItineraryUndone | ItineraryAbandoned
"""How an itinerary ends: one of these is published, once."""


@message("sagas.itinerary.late-undo-failed")
class LateUndoFailed:
    """A step was done after the itinerary had ended, was to be undone again, and that was refused. For people."""

    itinerary: str
    id: str
    step: str
    reason: str
