"""What an itinerary does next, from what it knows. Pure: one function of the route and the progress."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import frozen

from sagas.itinerary.progress import Progress, StepProgress
from sagas.itinerary.steps import Step


class MoveKind(enum.Enum):
    """What there is to do."""

    WAIT = "wait"
    DO = "do"
    UNDO = "undo"
    TURN_BACK = "turn back"
    COMPLETED = "completed"
    UNDONE = "undone"
    ABANDONED = "abandoned"


@frozen
class Move:
    """What an itinerary does next.

    Attributes:
        step: the step that it is about; None for none in particular.
        reason: why it turns back or is abandoned.
        firm: whether only forward is left.
    """

    kind: MoveKind
    step: Step | None = None
    reason: str = ""
    firm: bool = False


def next_move(route: Sequence[Step], progress: Progress) -> Move:
    """Return what is to be done next: at most one step is asked for at a time."""
    return _backwards(route, progress) if progress.back else _forwards(route, progress)


def _forwards(route: Sequence[Step], progress: Progress) -> Move:
    passed = False
    for step in route:
        known = progress.of(step.name)
        if not known.done:
            return _ahead(step, known, passed, progress.reason)
        passed = passed or step.pivot
    if progress.reason and not passed:
        return Move(MoveKind.TURN_BACK, reason=progress.reason)
    return Move(MoveKind.COMPLETED)


def _ahead(step: Step, known: StepProgress, passed: bool, wish: str) -> Move:
    """Return the move about the first step that is not done.

    Args:
        passed: whether the pivot is done.
        wish: why somebody wants it to turn back; empty where nobody does.
    """
    firm = passed or step.pivot
    if not known.asked:
        return Move(MoveKind.TURN_BACK, reason=wish) if wish and not passed else Move(MoveKind.DO, step, firm=firm)
    spent = step.attempts is not None and known.asked >= step.attempts
    said = known.trouble or f"no answer within {step.within}, {known.asked} times"
    if firm and not (known.refused_throughout and not passed):
        # Whether it was done is not known, or does not matter: nobody may go back.
        if not known.overdue:
            return Move(MoveKind.WAIT)
        return Move(MoveKind.ABANDONED, step, said) if spent else Move(MoveKind.DO, step, firm=True)
    if known.refused:
        return Move(MoveKind.TURN_BACK, step, wish or said)
    if wish and (known.overdue or step.within is None):
        return Move(MoveKind.TURN_BACK, reason=wish)
    if known.overdue:
        return Move(MoveKind.TURN_BACK, step, said) if spent else Move(MoveKind.DO, step)
    return Move(MoveKind.WAIT)


def _backwards(route: Sequence[Step], progress: Progress) -> Move:
    for step in reversed(route):
        known = progress.of(step.name)
        if step.undo is None or not known.may_stand:
            continue
        if not known.undo_tries:
            return Move(MoveKind.UNDO, step)
        if not known.undo_overdue:
            return Move(MoveKind.WAIT)
        if step.undo_attempts is None or known.undo_tries < step.undo_attempts:
            return Move(MoveKind.UNDO, step)
        said = known.undo_trouble or f"no answer to its undo, {known.undo_tries} times"
        return Move(MoveKind.ABANDONED, step, f"{said}; it had turned back because: {progress.reason}")
    return Move(MoveKind.UNDONE)


def to_undo(route: Sequence[Step], progress: Progress) -> tuple[str, ...]:
    """Return the steps that are still to be undone, the first to undo in front."""
    return tuple(s.name for s in reversed(route) if s.undo is not None and progress.of(s.name).may_stand)


def not_done(route: Sequence[Step], progress: Progress) -> tuple[str, ...]:
    """Return the steps that are not known to be done, in the order of the route."""
    return tuple(s.name for s in route if not progress.of(s.name).done)


def undone(route: Sequence[Step], progress: Progress) -> tuple[str, ...]:
    """Return the steps that were undone, in reverse order of the route."""
    return tuple(s.name for s in reversed(route) if progress.of(s.name).undone)


def kept(route: Sequence[Step], progress: Progress) -> tuple[str, ...]:
    """Return the steps that stand, or may, and cannot be undone, in the order of the route."""
    return tuple(s.name for s in route if s.undo is None and progress.of(s.name).may_stand)
