"""Itineraries, and who does their steps: an office that keeps a truth of its own, or consumers that only answer.

The office is a saga, so what is sent to it arrives in any order, and an undo may overtake what it undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final

from attrs import define, field

from sagabus import Bus, Context, Saga, handles, message, starts
from sagabus.testing import Moment
from sagas import Itinerary, ItineraryAbandoned, ItineraryCompleted, ItineraryState, ItineraryUndone, Slip, Step

TRIP: Final = "t"
NAMES: Final = ("flight", "hotel", "car")


@message("tests.itinerary.open")
class OpenOffice:
    """Open the office; the trip begins."""

    trip: str


@message("tests.itinerary.begin")
class Begin:
    """Begin the trip."""

    trip: str


@message("tests.itinerary.cancel")
class Cancel:
    """Have the trip turn back."""

    trip: str


@message("tests.itinerary.do")
class Do:
    """Do a step."""

    trip: str
    slip: Slip


@message("tests.itinerary.undo")
class Undo:
    """Undo a step."""

    trip: str
    slip: Slip


class Trip(Itinerary[ItineraryState]):
    """A trip without steps, for the broken ones to be made of."""


def step(name: str, *, undo: bool = True, seconds: float | None = 1, attempts: int = 1, **more: Any) -> Step:
    """Return a step that is asked for once, and whose undo is asked for once, unless said otherwise."""
    return Step(
        name,
        lambda _, slip: Do(TRIP, slip),
        undo=(lambda _, slip: Undo(TRIP, slip)) if undo else None,
        within=None if seconds is None else timedelta(seconds=seconds),
        attempts=attempts,
        **{"undo_attempts": 1, "to": "office"} | more,
    )


def trip(route: Sequence[Step], base: type[Trip] = Trip) -> type[Trip]:
    """Return a trip over *route*."""

    class RoundTrip(base, key="trip", name="Trip"):  # type: ignore[misc, valid-type]
        steps = tuple(route)

        @starts
        def begun(self, m: Begin) -> None:
            """Note nothing: the decision asks for the first step."""

        @handles
        def cancelled(self, m: Cancel) -> None:
            self.turn_back("cancelled")

    return RoundTrip


# -- an office that knows what is true ---------------------------------------------------------------------------------


@define
class OfficeState:
    """What is really booked.

    Attributes:
        booked: the steps that stand.
        ever: those that ever stood.
        cancelled: those that were undone, whether they stood or not.
        fault: what should never have been asked for.
    """

    booked: set[str] = field(factory=set)
    ever: set[str] = field(factory=set)
    cancelled: set[str] = field(factory=set)
    fault: str = ""


class Office(Saga[OfficeState], key="trip"):
    """Does what it hears of, in that order. It remembers no slip, so a copy or a latecomer books once more."""

    route: ClassVar[tuple[str, ...]] = NAMES
    for_good: ClassVar[frozenset[str]] = frozenset()
    refuses: ClassVar[frozenset[str]] = frozenset()

    @starts
    def opened(self, m: OpenOffice) -> None:
        self.send(Begin(m.trip), to="trips")

    @handles
    def asked(self, m: Do) -> None:
        state, name = self.state, m.slip.step
        if not state.ever.issuperset(self.route[: self.route.index(name)]):
            state.fault = state.fault or f"{name} was asked for before the steps before it were done"
        if name in self.refuses:
            self.reply(m.slip.failed("no"))
            return
        state.booked.add(name)
        state.ever.add(name)
        self.reply(m.slip.done())

    @handles
    def undone(self, m: Undo) -> None:
        state, name = self.state, m.slip.step
        later = state.booked.intersection(self.route[self.route.index(name) + 1 :])
        # What was booked behind the back of its undo is later than anybody could know.
        if m.slip.attempt == 1 and later - state.cancelled - self.for_good:
            state.fault = state.fault or f"{name} was to be undone before {sorted(later)}"
        state.booked.discard(name)
        state.cancelled.add(name)
        self.reply(m.slip.done())


def with_office(route: Sequence[Step], refuses: str = "", base: type[Trip] = Trip) -> list[type[Saga[Any]]]:
    """Return a trip and the office that does its steps, but the one that it *refuses*."""

    class HeadOffice(Office, key="trip", name="Office"):
        pass

    HeadOffice.route = tuple(s.name for s in route)
    HeadOffice.for_good = frozenset(s.name for s in route if s.undo is None)
    HeadOffice.refuses = frozenset({refuses} - {""})
    return [HeadOffice, trip(route, base)]


def outcome_of(moment: Moment) -> Any:
    """Return the one outcome that was published."""
    said = [m for m in moment.decisions if isinstance(m, ItineraryCompleted | ItineraryUndone | ItineraryAbandoned)]
    assert len(said) == 1, f"{len(said)} outcomes were published: {said}"
    return said[0]


def office_agrees(route: Sequence[Step]) -> Callable[[Moment], None]:
    """Return the law of the end: what is really booked is what the outcome says, and nothing was asked out of order."""
    for_good = {s.name for s in route if s.undo is None}

    def holds(moment: Moment) -> None:
        office, outcome = moment.saga("Office").state, outcome_of(moment)
        assert not office.fault, office.fault
        match outcome:
            case ItineraryCompleted():
                assert office.booked == {s.name for s in route}, f"only {office.booked} is booked"
            case ItineraryUndone(kept=kept):
                assert office.booked <= set(kept), f"{office.booked} is booked, and {set(kept)} was kept"
            case ItineraryAbandoned(undo=True, left=left):
                assert office.booked <= {*left, *for_good}, f"{office.booked} is booked, and {left} was left"
            case ItineraryAbandoned(left=left):
                assert {s.name for s in route} - office.booked <= set(left), f"{office.booked} is booked"

    return holds


# -- consumers that only answer ----------------------------------------------------------------------------------------


def with_consumers(route: Sequence[Step], refuses: str = "", base: type[Trip] = Trip) -> Bus:
    """Return a bus with a trip and with consumers that do its steps, but the one that they refuse."""
    bus = Bus("memory:", "memory:")
    bus.endpoint("trips", trip(route, base))
    office = bus.endpoint("office")

    @office.consumer
    def do(m: Do, context: Context) -> None:
        context.reply(m.slip.failed("no") if m.slip.step == refuses else m.slip.done())

    @office.consumer
    def undo(m: Undo, context: Context) -> None:
        context.reply(m.slip.done())

    return bus


def in_order(route: Sequence[Step]) -> Callable[[Moment], None]:
    """Return the law of the order: a step begins when the one before is done, and is undone after those behind it."""

    def holds(moment: Moment) -> None:
        for state in moment.states:
            known = [state.itinerary.of(s.name) for s in route]
            for place, one in enumerate(known):
                name = route[place].name
                assert not one.asked or all(before.done for before in known[:place]), f"{name} began early"
                behind = [known[n] for n in range(place + 1, len(route)) if route[n].undo is not None]
                if one.undo_asked:
                    assert all(later.undo_asked or not later.may_stand for later in behind), f"{name} was undone early"

    return holds


def one_outcome_at_most(moment: Moment) -> bool:
    """No second outcome is ever published."""
    said = [m for m in moment.decisions if isinstance(m, ItineraryCompleted | ItineraryUndone | ItineraryAbandoned)]
    return len(said) <= 1
