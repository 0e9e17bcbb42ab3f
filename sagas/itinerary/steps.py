"""The steps of an itinerary: what each asks for, how long it waits, and which sequences make sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final

from attrs import field, frozen

from sagabus import SagabusError

MAX_PAUSE: Final = timedelta(hours=1)
"""Pauses double up to here, or up to the first one where that is longer."""
_NAME: Final = re.compile(r"[\w.-]+")

Ask = Callable[[Any, Any], object]
"""(state, slip) -> the command, which carries the slip. Called again whenever a run is made again: keep it pure."""


class ItineraryError(SagabusError):
    """An itinerary is declared or answered in a way that cannot work; the text names the next step.

    Attributes:
        subject: the itinerary or the step.
    """

    def __init__(self, subject: str, problem: str, mend: str) -> None:
        super().__init__(f"{subject}: {problem}. {mend}")
        self.subject = subject


@frozen
class Step:
    """One step of an itinerary.

    Attributes:
        name: what it is called in slips, results and outcomes: letters, digits and `. _ -`.
        do: makes the command that does it, from the state and the slip.
        undo: makes the command that undoes it, likewise; None for what cannot be undone. It may run where nobody knows
            whether the step was done, and without a result: `slip.key` names what is to go.
        to: the endpoint of both; without it the routes of their types.
        undo_to: the endpoint of the undo, where it is another.
        within: how long one attempt waits for its answer; None for ever.
        attempts: how often it is asked for; None for no end.
        undo_within: how long the first attempt to undo it waits; each later one waits twice as long, up to an hour.
        undo_attempts: how often the undo is asked for before the itinerary is stuck; None for no end.
        pivot: whether there is no way back once it is done: later steps are then asked for until they are done.

    Raises:
        ItineraryError: the arguments contradict each other.
    """

    name: str
    do: Ask
    undo: Ask | None = field(default=None, kw_only=True)
    to: str | None = field(default=None, kw_only=True)
    undo_to: str | None = field(default=None, kw_only=True)
    within: timedelta | None = field(default=timedelta(minutes=1), kw_only=True)
    attempts: int | None = field(default=3, kw_only=True)
    undo_within: timedelta = field(default=timedelta(minutes=1), kw_only=True)
    undo_attempts: int | None = field(default=10, kw_only=True)
    pivot: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        where = f"step {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ItineraryError(
                where,
                "its name is empty or has other characters than letters, digits and . _ -",
                "It is part of the idempotency key: choose a plain one",
            )
        if self.pivot and self.undo is not None:
            raise ItineraryError(
                where, "there is no way back from a pivot, and it has an undo", "Leave out undo=, or pivot=True"
            )
        for name, span in (("within", self.within), ("undo_within", self.undo_within)):
            if span is not None and span <= timedelta(0):
                raise ItineraryError(where, f"{name}={span} is no time to wait", "Give a positive timedelta")
        for name, count in (("attempts", self.attempts), ("undo_attempts", self.undo_attempts)):
            if count is not None and count < 1:
                raise ItineraryError(where, f"{name}={count} never asks", "It is at least 1, or None for no end")

    def patience(self, attempt: int, *, firm: bool) -> timedelta | None:
        """Return how long attempt number *attempt* waits; where it is *firm* that only forward is left, ever longer."""
        if self.within is None or not firm:
            return self.within
        return doubled(self.within, attempt)


def doubled(first: timedelta, attempt: int) -> timedelta:
    """Return *first*, doubled for every attempt after the first, up to an hour."""
    return min(first * (1 << min(attempt - 1, 32)), max(first, MAX_PAUSE))


def check_route(route: Iterable[Any], subject: str) -> tuple[Step, ...]:
    """Return *route* as a tuple.

    Raises:
        ItineraryError: it is empty, two steps share a name, or steps after the pivot could not do as they say.
    """
    route = tuple(route)
    if not route or not all(isinstance(step, Step) for step in route):
        raise ItineraryError(subject, "steps is no sequence of at least one Step", "Write steps = (Step(...), ...)")
    pivot = ""
    seen: set[str] = set()
    for step in route:
        if step.name in seen:
            raise ItineraryError(subject, f"two steps are called {step.name!r}", "Give each a name of its own")
        seen.add(step.name)
        if pivot and step.pivot:
            raise ItineraryError(
                subject,
                f"{step.name!r} is a second pivot after {pivot!r}",
                "The first one is where there is no way back any more; make it the only one",
            )
        if pivot and step.undo is not None:
            raise ItineraryError(
                subject,
                f"{step.name!r} comes after the pivot {pivot!r}, so its undo never runs",
                "Leave out undo=, or move the step before the pivot",
            )
        if pivot and step.within is None:
            raise ItineraryError(
                subject,
                f"{step.name!r} comes after the pivot {pivot!r} and has no within=",
                "It is asked for again after that time: give one",
            )
        if step.pivot:
            pivot = step.name
    return route
