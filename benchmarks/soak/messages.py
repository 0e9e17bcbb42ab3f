"""What travels in the soak beside the credit check: a fan-in, timers, and sagas that never end."""

from __future__ import annotations

from sagabus import message


@message("soak.gather")
class Gather:
    """Ask for as many parts as are named, and for one answer made of all of them."""

    key: str
    parts: int


@message("soak.fetch-part")
class FetchPart:
    """Ask for one part."""

    part: int


@message("soak.part-fetched")
class PartFetched:
    """One part has come."""

    part: int


@message("soak.gathered")
class Gathered:
    """All parts have come.

    Attributes:
        parts: their numbers, ascending.
    """

    key: str
    parts: list[int]


@message("soak.set-alarm")
class SetAlarm:
    """Ask to be woken.

    Attributes:
        after_ms: how long from when it is handled.
        moves: how often the alarm is moved to a later time before it rings.
    """

    key: str
    after_ms: int
    moves: int


@message("soak.confirm")
class Confirm:
    """Ask the desk to say that an alarm may be moved, or its guard dismissed."""

    moves: int


@message("soak.confirmed")
class Confirmed:
    """The desk has answered."""

    moves: int


@message("soak.ring")
class Ring:
    """The timer itself.

    Attributes:
        due_ms: when it was to come, ms since 1970, store's clock.
        generation: how often the alarm had been moved when it was set.
    """

    due_ms: int
    generation: int


@message("soak.guard")
class Guard:
    """A timer that is cancelled by name before it is due, if the desk answers in time."""


@message("soak.alarm-rang")
class AlarmRang:
    """An alarm has rung.

    Attributes:
        due_ms, rang_ms: when it was to ring and when it did, ms since 1970, store's clock.
        problem: what was wrong with it; empty if nothing.
    """

    key: str
    due_ms: int
    rang_ms: int
    problem: str


@message("soak.tick")
class Tick:
    """Count one more, in a saga that never ends."""

    key: str
