"""Itineraries on a real store, with consumers that fail now and then, and with a step that is a saga of its own."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final

from attrs import define, field

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.outgoing import Outgoing, OutgoingKind
from sagas import (
    Itinerary,
    ItineraryAbandoned,
    ItineraryCompleted,
    ItineraryState,
    ItineraryUndone,
    Slip,
    Step,
)
from tests.integration.apps import Clock, memory_parts

AT_ONCE: Final = RetryPolicy(first_delay_s=0.0)
MINUTE: Final = timedelta(minutes=1)


@message("tests.tour.book")
class BookTour:
    tour: str


@message("tests.tour.reserve")
class Reserve:
    slip: Slip


@message("tests.tour.release")
class Release:
    slip: Slip


@message("tests.tour.apply-for-visa")
class ApplyForVisa:
    traveller: str
    slip: Slip


@message("tests.tour.withdraw-visa")
class WithdrawVisa:
    traveller: str
    slip: Slip


@message("tests.tour.stamp")
class Stamp:
    office: str


@message("tests.tour.stamped")
class Stamped:
    office: str


@define
class Ledger:
    """What is booked with one company; it remembers keys, as good companies do."""

    booked: set[str] = field(factory=set)
    times: dict[str, int] = field(factory=dict)
    lock: threading.Lock = field(factory=threading.Lock)

    def fails(self, slip: Slip) -> bool:
        """Return whether the call about *slip* breaks down: the first for every third trip, and no other."""
        with self.lock:
            seen = self.times[slip.key] = self.times.get(slip.key, 0) + 1
        return int(slip.id) % 3 == 0 and seen == 1


def open_company(bus: Bus, name: str, *, refuses_every: int = 0) -> Ledger:
    """Put a company on *bus* that does the step called as itself, breaks down now and then, and refuses some."""
    ledger = Ledger()
    endpoint = bus.endpoint(name, retry=AT_ONCE)

    @endpoint.consumer
    def reserve(m: Reserve, context: Context) -> None:
        if ledger.fails(m.slip):
            raise ConnectionError("no answer from the reservation system")
        if refuses_every and int(m.slip.id) % refuses_every == 0:
            context.reply(m.slip.failed("full"))
            return
        with ledger.lock:
            ledger.booked.add(m.slip.id)
        context.reply(m.slip.done(number=f"{name}-{m.slip.id}"))

    @endpoint.consumer
    def release(m: Release, context: Context) -> None:
        with ledger.lock:
            ledger.booked.discard(m.slip.id)
        context.reply(m.slip.done())

    return ledger


def reserving(name: str) -> Step:
    """Return a step that the company of its name does."""
    return Step(name, lambda _, slip: Reserve(slip), undo=lambda _, slip: Release(slip), to=name, within=MINUTE)


class Tour(Itinerary[ItineraryState], key="tour"):
    """Three companies, one after the other."""

    steps = (reserving("flight"), reserving("hotel"), reserving("car"))

    @starts
    def requested(self, m: BookTour) -> None:
        """Note nothing."""


def listen(bus: Bus) -> list[ItineraryCompleted | ItineraryUndone | ItineraryAbandoned]:
    """Return what is published about itineraries, as it comes in."""
    heard: list[ItineraryCompleted | ItineraryUndone | ItineraryAbandoned] = []

    def ended(m: ItineraryCompleted | ItineraryUndone | ItineraryAbandoned) -> None:
        heard.append(m)

    bus.endpoint("listener", concurrency=1).consumer(ended)
    return heard


def test_itineraries_with_consumers_that_fail_end_as_the_companies_have_it(sagabus_bus: Bus) -> None:
    """Each is said to have ended once, and every company has booked those that completed and no others."""
    sagabus_bus.endpoint("tours", Tour)
    ledgers = [
        open_company(sagabus_bus, "flight"),
        open_company(sagabus_bus, "hotel", refuses_every=5),
        open_company(sagabus_bus, "car", refuses_every=4),
    ]
    heard = listen(sagabus_bus)
    tours = [str(number) for number in range(1, 41)]
    sagabus_bus.send_many([BookTour(tour) for tour in tours], to="tours")
    sagabus_bus.worker().run_until_idle()
    assert sorted(m.id for m in heard) == sorted(tours)
    completed = {m.id for m in heard if isinstance(m, ItineraryCompleted)}
    assert completed == {tour for tour in tours if int(tour) % 5 and int(tour) % 4}
    assert all(ledger.booked == completed for ledger in ledgers)
    undone = {m.id: (m.failed, m.undone) for m in heard if isinstance(m, ItineraryUndone)}
    assert undone["5"] == ("hotel", ("flight",))
    assert undone["4"] == ("car", ("hotel", "flight"))


# -- a step that is another saga --------------------------------------------------------------------------------------


@define
class VisaState:
    """An application.

    Attributes:
        slip: of the step that it is.
        stamps: the offices that have stamped it.
    """

    slip: Slip | None = None
    stamps: set[str] = field(factory=set)


class Visa(Saga[VisaState], key="traveller"):
    """Needs two stamps, and answers who asked for it when it has them. It may be withdrawn at any time."""

    @starts
    def applied(self, m: ApplyForVisa) -> None:
        self.state.slip = m.slip
        for office in ("police", "embassy"):
            self.send(Stamp(office), to=office)

    @handles
    def stamped(self, m: Stamped) -> None:
        self.state.stamps.add(m.office)

    @starts
    def withdrawn(self, m: WithdrawVisa) -> None:
        """Also where nobody has applied yet: then the application comes too late."""
        self.reply(m.slip.done())
        self.complete()

    def decide(self) -> None:
        if self.state.slip is not None and len(self.state.stamps) == 2:
            self.reply_to_starter(self.state.slip.done(stamps=sorted(self.state.stamps)))
            self.complete()

    def on_late(self, m: object) -> None:
        if isinstance(m, WithdrawVisa):
            self.reply(m.slip.done())
        elif isinstance(m, ApplyForVisa):
            self.reply(m.slip.failed("withdrawn"))


class Journey(Itinerary[ItineraryState], key="tour"):
    """A visa, which is a saga, and a flight, which a consumer books."""

    steps = (
        Step(
            "visa",
            lambda _, slip: ApplyForVisa(slip.id, slip),
            undo=lambda _, slip: WithdrawVisa(slip.id, slip),
            to="visas",
        ),
        reserving("flight"),
    )

    @starts
    def requested(self, m: BookTour) -> None:
        """Note nothing."""


def test_itinerary_with_a_saga_for_a_step_waits_for_it_and_has_it_undo(sagabus_bus: Bus) -> None:
    """The saga answers who started it; the undo finds it by its key, also when it has completed."""
    sagabus_bus.endpoint("journeys", Journey)
    sagabus_bus.endpoint("visas", Visa)
    for office in ("police", "embassy"):

        def stamp(m: Stamp, context: Context) -> None:
            context.reply(Stamped(m.office))

        sagabus_bus.endpoint(office).consumer(stamp)
    flights = open_company(sagabus_bus, "flight", refuses_every=2)
    heard = listen(sagabus_bus)
    sagabus_bus.send_many([BookTour("1"), BookTour("2")], to="journeys")
    sagabus_bus.worker().run_until_idle()
    stamps = {"stamps": ["embassy", "police"]}
    assert sorted(heard, key=lambda m: m.id) == [
        ItineraryCompleted("Journey", "1", {"visa": stamps, "flight": {"number": "flight-1"}}),
        ItineraryUndone("Journey", "2", "full", "flight", ("visa",)),
    ]
    assert flights.booked == {"1"}


# -- a hook that raises ------------------------------------------------------------------------------------------------


def test_itinerary_whose_undo_raises_ends_when_its_dead_letter_is_replayed_after_the_mend() -> None:
    """The step that does not answer is overdue: its message is given up, and nobody hears of an end before the mend."""
    clock = Clock()
    mended: list[str] = []

    def cancel(state: ItineraryState, slip: Slip) -> Release:
        if not mended:
            state.results["flight"]["number"]
        return Release(slip)

    class Forgetful(Itinerary[ItineraryState], key="tour"):
        steps = (Step("flight", lambda _, slip: Reserve(slip), undo=cancel, to="flight", within=MINUTE, attempts=1),)

        @starts
        def requested(self, m: BookTour) -> None:
            """Note nothing."""

    with Bus(*memory_parts(clock)) as bus:
        bus.endpoint("tours", Forgetful, retry=RetryPolicy(max_attempts=1))
        company = bus.endpoint("flight")
        company.consumer(Reserve)(lambda m: None)
        company.consumer(Release)(lambda m, context: context.reply(m.slip.done()))
        heard = listen(bus)
        bus.send(BookTour("1"), to="tours")
        bus.worker().run_until_idle()
        clock.advance(60)
        bus.worker().run_until_idle()
        (letter,) = bus.store.dead()
        assert (letter.type, letter.reason, heard) == ("sagas.itinerary.step-overdue", "failed", [])
        assert "KeyError" in letter.error
        clock.advance(86_400)
        bus.worker().run_until_idle()
        assert heard == []
        mended.append("cancel")
        parcel = Outgoing(OutgoingKind.COMMAND, letter.endpoint, letter.id, letter.id, letter.body).parcel()
        bus.transport.send([parcel])
        bus.worker().run_until_idle()
    reason = "no answer within 0:01:00, 1 times"
    assert heard == [ItineraryUndone("Forgetful", "1", reason, "flight", ("flight",))]
