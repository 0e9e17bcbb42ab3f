"""The steps of an itinerary: what each asks for, how long it waits, and which sequences make sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from attrs import field, frozen

from sagabus.errors import DefinitionError

MAX_PAUSE: Final = timedelta(hours=1)
"""Pauses double up to here, or up to the first one where that is longer."""
_NAME: Final = re.compile(r"[\w.-]+")

Ask = Callable[[Any, Any], object]
"""(state, slip) -> the command, which carries the slip. Called again whenever a run is made again: keep it pure."""


class ItineraryError(DefinitionError):
    """A running itinerary was asked for or answered what its definition has no room for. `subject` names it."""


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
        undo_attempts: how often the undo is asked for before the itinerary is abandoned; None for no end.
        pivot: whether there is no way back once it is done: later steps are then asked for until they are done.

    Raises:
        DefinitionError: an argument is of another kind, or they contradict each other.
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
        name: Any = self.name
        where = f"step {name!r}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(
                where,
                "its name is empty, no text, or has other characters than letters, digits and . _ -",
                "It is part of the idempotency key: choose a plain one",
            )
        _check_kinds(self, where)
        if self.pivot and self.undo is not None:
            raise DefinitionError(
                where, "there is no way back from a pivot, and it has an undo", "Leave out undo=, or pivot=True"
            )

    def patience(self, attempt: int, *, firm: bool) -> timedelta | None:
        """Return how long attempt number *attempt* waits; where it is *firm* that only forward is left, ever longer."""
        if self.within is None or not firm:
            return self.within
        return doubled(self.within, attempt)


def doubled(first: timedelta, attempt: int) -> timedelta:
    """Return *first*, doubled for every attempt after the first, up to an hour."""
    return min(first * (1 << min(attempt - 1, 32)), max(first, MAX_PAUSE))


def _check_kinds(step: Step, where: str) -> None:
    """Refuse arguments of another kind than the annotations say: those are for type checkers, and not all have one.

    Raises:
        DefinitionError: names the argument.
    """
    asks: dict[str, Any] = {"do": step.do} | ({} if step.undo is None else {"undo": step.undo})
    for name, ask in asks.items():
        if not callable(ask):
            raise DefinitionError(
                where,
                f"{name}={ask!r} is no function, so it makes no command",
                f"Write {name}=lambda state, slip: SomeCommand(slip)",
            )
    endpoints: dict[str, Any] = {"to": step.to, "undo_to": step.undo_to}
    for name, endpoint in endpoints.items():
        if endpoint is not None and (not isinstance(endpoint, str) or not endpoint):
            raise DefinitionError(
                where, f"{name}={endpoint!r} is no endpoint", "Give the name of one, or leave it out and route the type"
            )
    spans: dict[str, Any] = {"undo_within": step.undo_within} | ({} if step.within is None else {"within": step.within})
    for name, span in spans.items():
        if not isinstance(span, timedelta) or span <= timedelta(0):
            mend = "Write a positive timedelta" + (", or None for ever" if name == "within" else "")
            raise DefinitionError(where, f"{name}={span!r} is no time to wait", mend)
    counts: dict[str, Any] = {"attempts": step.attempts, "undo_attempts": step.undo_attempts}
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 1):
            raise DefinitionError(
                where, f"{name}={count!r} is no number of attempts", "Write 1 or more, or None for no end"
            )
    pivot: Any = step.pivot
    if not isinstance(pivot, bool):
        raise DefinitionError(where, f"pivot={pivot!r} is neither True nor False", "Write pivot=True, or leave it out")


def check_route(route: Any, subject: str) -> tuple[Step, ...]:
    """Return *route* as a tuple.

    Raises:
        DefinitionError: it is empty or no sequence of steps, two of them share a name, or those after the pivot could
            not do as they say.
    """
    if not isinstance(route, Sequence) or not route or not all(isinstance(step, Step) for step in route):
        raise DefinitionError(
            subject,
            "steps is no sequence of at least one Step",
            "Write steps = (Step(...), ...); of a single one, (Step(...),)",
        )
    pivot = ""
    seen: set[str] = set()
    for step in route:
        if step.name in seen:
            raise DefinitionError(subject, f"two steps are called {step.name!r}", "Give each a name of its own")
        seen.add(step.name)
        if pivot and step.pivot:
            raise DefinitionError(
                subject,
                f"{step.name!r} is a second pivot after {pivot!r}",
                "The first one is where there is no way back any more; make it the only one",
            )
        if pivot and step.undo is not None:
            raise DefinitionError(
                subject,
                f"{step.name!r} comes after the pivot {pivot!r}, so its undo never runs",
                "Leave out undo=, or move the step before the pivot",
            )
        if pivot and step.within is None:
            raise DefinitionError(
                subject,
                f"{step.name!r} comes after the pivot {pivot!r} and has no within=",
                "It is asked for again after that time: give one",
            )
        if step.pivot:
            pivot = step.name
    return tuple(route)
