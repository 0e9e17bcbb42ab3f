"""What an itinerary asks for, waits for and says, one message at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from types import new_class
from typing import Any, Final

import pytest
from attrs import define

from sagabus import Saga, handles, message, starts
from sagabus.errors import DefinitionError
from sagabus.testing import Deferred, Published, Replied, SagaHarness, Sent
from sagas import (
    Itinerary,
    ItineraryAbandoned,
    ItineraryCompleted,
    ItineraryError,
    ItineraryOutcome,
    ItineraryState,
    ItineraryUndone,
    LateUndoFailed,
    Slip,
    Step,
    StepDone,
    StepFailed,
)

SECOND: Final = timedelta(seconds=1)
MakeHarness = Callable[..., SagaHarness[Any]]


@message("tests.trips.book")
class BookTrip:
    trip: str
    city: str = "Rome"


@message("tests.trips.cancel")
class CancelTrip:
    trip: str


@message("tests.trips.reserve")
class Reserve:
    """One command for all steps: it is the slip that tells them apart."""

    slip: Slip
    note: str = ""


@message("tests.trips.release")
class Release:
    slip: Slip
    note: str = ""


@message("tests.trips.nameless")
class Nameless:
    """A command that forgets the slip."""

    city: str


@define
class TripState(ItineraryState):
    city: str = ""


def step(name: str, *, undo: bool = True, **more: Any) -> Step:
    """Return a step that waits ten seconds, twice."""
    defaults = {"to": f"{name}s", "within": 10 * SECOND, "attempts": 2, "undo_within": 10 * SECOND}
    return Step(
        name,
        lambda state, slip: Reserve(slip, state.city),
        undo=(lambda state, slip: Release(slip, state.results.get(name, {}).get("number", ""))) if undo else None,
        **defaults | more,
    )


FLIGHT: Final = step("flight")
HOTEL: Final = step("hotel")


def trip(*route: Step) -> type[Itinerary[TripState]]:
    """Return a trip over *route*."""

    class Trip(Itinerary[TripState], key="trip"):
        steps: Sequence[Step] = route

        @starts
        def requested(self, m: BookTrip) -> None:
            self.state.city = m.city

        @handles
        def cancelled(self, m: CancelTrip) -> None:
            self.turn_back("cancelled by the customer")

    return Trip


def slip(name: str, attempt: int = 1, *, undo: bool = False) -> Slip:
    """Return the slip of an attempt at a step of trip 42."""
    return Slip("Trip", "42", name, undo, attempt)


def undo(name: str, attempt: int = 1) -> Slip:
    """Return the slip of an attempt to undo a step of trip 42."""
    return slip(name, attempt, undo=True)


def reserved(name: str, attempt: int = 1) -> Sent:
    """Return the command that asks for a step."""
    return Sent(Reserve(slip(name, attempt), "Rome"), to=f"{name}s")


def released(name: str, attempt: int = 1, note: str = "") -> Sent:
    """Return the command that asks for its undo."""
    return Sent(Release(undo(name, attempt), note), to=f"{name}s")


@pytest.fixture
def begun(saga_harness: MakeHarness) -> Callable[..., SagaHarness[Any]]:
    """Begin trip 42 over a route."""

    def begin(*route: Step) -> SagaHarness[Any]:
        harness = saga_harness(trip(*route))
        harness.give(BookTrip("42"))
        return harness

    return begin


def commands(effects: Sequence[Any]) -> list[Any]:
    """Return the commands among what left."""
    return [effect for effect in effects if isinstance(effect, Sent)]


def published(effects: Sequence[Any]) -> list[Any]:
    """Return the events among what left."""
    return [effect.message for effect in effects if isinstance(effect, Published)]


# -- forwards ---------------------------------------------------------------------------------------------------------


def test_itinerary_started_asks_for_its_first_step_with_a_slip(saga_harness: MakeHarness) -> None:
    """The command carries the slip, and a timer waits for its answer."""
    harness = saga_harness(trip(FLIGHT, HOTEL))
    command, timer = harness.give(BookTrip("42"))
    assert command == reserved("flight")
    assert isinstance(timer, Deferred)
    assert timer.due - harness.now == 10 * SECOND


def test_itinerary_asks_for_a_step_when_the_one_before_is_done(begun: MakeHarness) -> None:
    """One step at a time, in order; the last answer ends it, and the outcome has what was answered."""
    harness = begun(FLIGHT, HOTEL)
    assert commands(harness.give(slip("flight").done(number="LH1"))) == [reserved("hotel")]
    assert list(harness.timers) == ["hotel"]
    left = harness.give(slip("hotel").done(nights=3))
    outcome = ItineraryCompleted("Trip", "42", {"flight": {"number": "LH1"}, "hotel": {"nights": 3}})
    assert (published(left), harness.completed, harness.timers) == ([outcome], True, {})


def test_step_reads_what_an_earlier_one_answered(saga_harness: MakeHarness) -> None:
    """The results of steps are in the state, under their names."""
    hotel = Step("hotel", lambda state, slip: Reserve(slip, state.results["flight"]["lands"]), to="hotels")
    harness = saga_harness(trip(FLIGHT, hotel))
    harness.give(BookTrip("42"))
    assert commands(harness.give(slip("flight").done(lands="noon"))) == [Sent(Reserve(slip("hotel"), "noon"), "hotels")]


def test_step_without_an_answer_is_asked_for_again_under_the_same_key(begun: MakeHarness) -> None:
    """Another attempt has another number and the same idempotency key."""
    harness = begun(FLIGHT)
    (again,) = commands(harness.advance(10))
    assert again == reserved("flight", 2)
    assert again.message.slip.key == slip("flight").key == "Trip/42/flight"


@pytest.mark.parametrize("attempt", [1, 2])
def test_step_is_done_when_any_attempt_is(begun: MakeHarness, attempt: int) -> None:
    """All attempts are one thing to do; the answer to another one, later, changes nothing."""
    harness = begun(FLIGHT, HOTEL)
    harness.advance(10)
    assert commands(harness.give(slip("flight", attempt).done(number="LH1"))) == [reserved("hotel")]
    assert harness.give(slip("flight", 3 - attempt).done(number="LH2")) == []
    assert harness.state.results == {"flight": {"number": "LH1"}}


def test_answer_given_twice_moves_the_itinerary_once(begun: MakeHarness) -> None:
    """The same answer under another id is not taken for one about the next step."""
    harness = begun(FLIGHT, HOTEL)
    harness.give(slip("flight").done())
    assert harness.give(slip("flight").done()) == []
    assert harness.give(slip("flight").failed("too late")) == []
    assert not harness.completed


def test_two_answers_at_once_are_both_heard(begun: MakeHarness) -> None:
    """Two workers with two answers: the second runs again on what the first has stored."""
    harness = begun(FLIGHT, HOTEL)
    left = harness.together(slip("flight").done(), slip("flight", 2).failed("full"))
    assert commands(left) == [reserved("hotel")]


def test_step_that_may_take_for_ever_has_no_timer(begun: MakeHarness) -> None:
    """within=None waits for people."""
    harness = begun(step("approval", within=None))
    assert harness.timers == {}
    assert harness.advance(timedelta(days=30)) == []


# -- backwards --------------------------------------------------------------------------------------------------------


def test_itinerary_with_a_refused_step_undoes_what_was_done_in_reverse(begun: MakeHarness) -> None:
    """The refused step has done nothing; those before it are undone, last one first, knowing their results."""
    harness = begun(FLIGHT, HOTEL, step("car"))
    harness.give(slip("flight").done(number="LH1"))
    harness.give(slip("hotel").done(number="H2"))
    assert commands(harness.give(slip("car").failed("none left"))) == [released("hotel", note="H2")]
    assert list(harness.timers) == ["hotel"]
    assert commands(harness.give(undo("hotel").done())) == [released("flight", note="LH1")]
    left = harness.give(undo("flight").done())
    assert published(left) == [ItineraryUndone("Trip", "42", "none left", "car", ("hotel", "flight"))]
    assert harness.completed


def test_itinerary_with_its_first_step_refused_has_nothing_to_undo(begun: MakeHarness) -> None:
    """It ends at once."""
    left = begun(FLIGHT, HOTEL).give(slip("flight").failed("full"))
    assert (commands(left), published(left)) == ([], [ItineraryUndone("Trip", "42", "full", "flight")])


def test_step_that_never_answers_is_undone_as_if_it_had_been_done(begun: MakeHarness) -> None:
    """After the last attempt nobody knows, so its undo is asked for too, without a result."""
    harness = begun(FLIGHT, HOTEL)
    harness.give(slip("flight").done(number="LH1"))
    assert commands(harness.advance(10)) == [reserved("hotel", 2)]
    assert commands(harness.advance(10)) == [released("hotel")]
    assert commands(harness.give(undo("hotel").done())) == [released("flight", note="LH1")]
    (outcome,) = published(harness.give(undo("flight").done()))
    assert (outcome.failed, outcome.undone) == ("hotel", ("hotel", "flight"))
    assert outcome.reason == "no answer within 0:00:10, 2 times"


def test_step_refused_while_another_attempt_is_open_is_undone(begun: MakeHarness) -> None:
    """A refusal says what became of its own attempt, and nothing of the one before."""
    harness = begun(FLIGHT)
    harness.advance(10)
    assert commands(harness.give(slip("flight", 2).failed("full"))) == [released("flight")]


def test_step_refused_in_every_attempt_is_not_undone(begun: MakeHarness) -> None:
    """Where each attempt is known to have done nothing, there is nothing to wait for, even on the way back."""
    harness = begun(FLIGHT)
    harness.advance(10)
    harness.give(slip("flight", 2).failed("full"))
    assert published(harness.give(slip("flight").failed("full"))) == [ItineraryUndone("Trip", "42", "full", "flight")]


def test_step_without_an_undo_is_kept_and_named(begun: MakeHarness) -> None:
    """What cannot be undone is passed over on the way back."""
    harness = begun(FLIGHT, step("letter", undo=False), HOTEL)
    harness.give(slip("flight").done())
    harness.give(slip("letter").done())
    assert commands(harness.give(slip("hotel").failed("full"))) == [released("flight")]
    (outcome,) = published(harness.give(undo("flight").done()))
    assert (outcome.undone, outcome.kept) == (("flight",), ("letter",))


def test_undo_goes_to_its_own_endpoint_where_it_has_one(begun: MakeHarness) -> None:
    """undo_to= names who undoes what others do."""
    harness = begun(step("flight", undo_to="refunds"), HOTEL)
    harness.give(slip("flight").done())
    assert commands(harness.give(slip("hotel").failed("full"))) == [Sent(Release(undo("flight")), "refunds")]


def test_undo_is_asked_for_again_with_pauses_that_double(begun: MakeHarness) -> None:
    """Without an answer, or refused, it comes again after 10 s, 20 s, 40 s, under the same key."""
    harness = begun(FLIGHT, HOTEL)
    harness.give(slip("flight").done())
    harness.give(slip("hotel").failed("full"))
    assert commands(harness.advance(10)) == [released("flight", 2)]
    assert commands(harness.give(undo("flight", 2).failed("closed"))) == []
    assert commands(harness.advance(19)) == []
    assert commands(harness.advance(1)) == [released("flight", 3)]
    assert commands(harness.advance(39)) == []
    assert commands(harness.advance(1)) == [released("flight", 4)]
    assert published(harness.give(undo("flight", 2).done())) == [
        ItineraryUndone("Trip", "42", "full", "hotel", ("flight",))
    ]


def test_undo_pauses_no_longer_than_an_hour(begun: MakeHarness) -> None:
    """Pauses double up to an hour."""
    harness = begun(step("flight", undo_attempts=None), HOTEL)
    harness.give(slip("flight").done())
    harness.give(slip("hotel").failed("full"))
    harness.advance(timedelta(days=10))
    (due,) = harness.timers.values()
    assert due - harness.now <= timedelta(hours=1)
    assert harness.state.itinerary.steps["flight"].undo_asked > 200


def test_itinerary_whose_undo_is_refused_to_the_end_is_abandoned_and_says_what_is_left(begun: MakeHarness) -> None:
    """It stops there, since what is before may depend on it, and names all that still stands."""
    harness = begun(FLIGHT, step("hotel", undo_attempts=2), step("car"))
    harness.give(slip("flight").done())
    harness.give(slip("hotel").done())
    harness.give(slip("car").failed("none left"))
    harness.give(undo("hotel").failed("closed"))
    harness.advance(10)
    left = harness.advance(20)
    reason = "closed; it had turned back because: none left"
    assert published(left) == [ItineraryAbandoned("Trip", "42", "hotel", True, reason, ("hotel", "flight"))]
    assert harness.completed


# -- late answers -----------------------------------------------------------------------------------------------------


def test_step_done_after_its_undo_was_sent_is_undone_again(begun: MakeHarness) -> None:
    """The undo may have come before the step was done, so the answer to that one does not count any more."""
    harness = begun(step("flight", attempts=1))
    harness.advance(10)
    assert commands(harness.give(slip("flight").done(number="LH1"))) == [released("flight", 2, "LH1")]
    assert harness.give(undo("flight").done()) == []
    assert len(published(harness.give(undo("flight", 2).done()))) == 1


def test_step_done_after_it_was_undone_is_undone_again(begun: MakeHarness) -> None:
    """Also where the itinerary has gone on to an earlier step; it waits for both then, each with its own timer."""
    harness = begun(FLIGHT, step("hotel", attempts=1))
    harness.give(slip("flight").done())
    harness.advance(10)
    assert commands(harness.give(undo("hotel").done())) == [released("flight")]
    assert commands(harness.give(slip("hotel").done(number="H2"))) == [released("hotel", 2, "H2")]
    assert sorted(harness.timers) == ["flight", "hotel"]
    assert published(harness.give(undo("flight").done())) == []
    assert len(published(harness.give(undo("hotel", 2).done()))) == 1


def test_undo_put_off_by_another_is_still_asked_for_again(begun: MakeHarness) -> None:
    """The time of an earlier step's undo runs out while a later one is undone again: it is not forgotten."""
    harness = begun(FLIGHT, step("hotel", attempts=1))
    harness.give(slip("flight").done())
    harness.advance(10)
    harness.give(undo("hotel").done())
    harness.give(slip("hotel").done())
    assert commands(harness.advance(10)) == [released("hotel", 3)]
    assert commands(harness.give(undo("hotel", 3).done())) == [released("flight", 2)]


def test_step_done_after_the_end_is_undone_again(begun: MakeHarness) -> None:
    """Nothing stays booked behind the back of an itinerary that has ended; it says nothing twice."""
    harness = begun(step("flight", attempts=1))
    harness.advance(10)
    harness.give(undo("flight").done())
    assert harness.completed
    assert harness.give(slip("flight").done()) == [released("flight", 2)]
    assert harness.give(undo("flight", 2).done()) == []


def test_undo_refused_after_the_end_is_said_aloud(begun: MakeHarness) -> None:
    """Nobody tries again then, so people are told; a refusal that is older than the end is none of theirs."""
    harness = begun(step("flight", attempts=1))
    harness.advance(10)
    harness.give(undo("flight").done())
    harness.give(slip("flight").done())
    assert harness.give(undo("flight").failed("busy")) == []
    (failed,) = published(harness.give(undo("flight", 2).failed("gone")))
    assert failed == LateUndoFailed("Trip", "42", "flight", "gone")


def test_undo_that_the_itinerary_has_forgotten_makes_it_turn_back(begun: MakeHarness) -> None:
    """Only a store that lost a commit forgets one: what was undone is not passed over as done."""
    harness = begun(FLIGHT, HOTEL)
    harness.give(slip("flight").done())
    harness.give(undo("flight").done())
    left = harness.give(slip("hotel").done())
    assert commands(left) == [released("hotel")]
    (outcome,) = published(harness.give(undo("hotel").done()))
    assert outcome.reason == "flight was undone, and the store had lost that it was to be"
    assert outcome.undone == ("hotel", "flight")


def test_answer_to_an_attempt_that_the_itinerary_has_forgotten_counts(begun: MakeHarness) -> None:
    """An answer proves that it was asked."""
    harness = begun(FLIGHT)
    assert published(harness.give(slip("flight", 2).done())) == [ItineraryCompleted("Trip", "42", {"flight": {}})]


def test_answer_after_completion_changes_nothing(begun: MakeHarness) -> None:
    """What is done may be told again; it stays done."""
    harness = begun(FLIGHT)
    harness.give(slip("flight").done())
    assert harness.give(slip("flight").done()) == []


# -- the pivot --------------------------------------------------------------------------------------------------------

PAYMENT: Final = step("payment", undo=False, pivot=True)
TICKET: Final = step("ticket", undo=False, attempts=3)


def test_step_after_the_pivot_is_asked_for_again_when_it_is_refused(begun: MakeHarness) -> None:
    """Only forward is left: it comes again when its time is out, with pauses that double."""
    harness = begun(FLIGHT, PAYMENT, TICKET)
    harness.give(slip("flight").done())
    harness.give(slip("payment").done())
    assert harness.give(slip("ticket").failed("printer")) == []
    assert commands(harness.advance(10)) == [reserved("ticket", 2)]
    assert commands(harness.advance(19)) == []
    assert commands(harness.advance(1)) == [reserved("ticket", 3)]
    assert isinstance(published(harness.give(slip("ticket", 3).done()))[0], ItineraryCompleted)


def test_step_after_the_pivot_refused_to_the_end_is_abandoned(begun: MakeHarness) -> None:
    """Nothing is undone; people are told what is not done."""
    harness = begun(FLIGHT, PAYMENT, step("ticket", undo=False, attempts=1), step("letter", undo=False))
    harness.give(slip("flight").done())
    harness.give(slip("payment").done())
    harness.give(slip("ticket").failed("printer"))
    left = harness.advance(10)
    assert commands(left) == []
    assert published(left) == [ItineraryAbandoned("Trip", "42", "ticket", False, "printer", ("ticket", "letter"))]


def test_pivot_that_is_refused_lets_the_itinerary_turn_back(begun: MakeHarness) -> None:
    """Whoever has not paid may still go back."""
    harness = begun(FLIGHT, PAYMENT, TICKET)
    harness.give(slip("flight").done())
    assert commands(harness.give(slip("payment").failed("no funds"))) == [released("flight")]


def test_pivot_that_never_answers_is_abandoned_and_nothing_is_undone(begun: MakeHarness) -> None:
    """Nobody knows whether there is a way back, so nobody takes it."""
    harness = begun(FLIGHT, PAYMENT, TICKET)
    harness.give(slip("flight").done())
    assert commands(harness.advance(10)) == [reserved("payment", 2)]
    # One attempt is refused, the other may have been done.
    assert harness.give(slip("payment", 2).failed("no funds")) == []
    left = harness.advance(20)
    assert commands(left) == []
    assert published(left) == [ItineraryAbandoned("Trip", "42", "payment", False, "no funds", ("payment", "ticket"))]


# -- asked to turn back -----------------------------------------------------------------------------------------------


def test_itinerary_asked_to_turn_back_waits_for_the_step_under_way(begun: MakeHarness) -> None:
    """Its answer says whether it is to be undone."""
    harness = begun(FLIGHT, HOTEL)
    assert harness.give(CancelTrip("42")) == []
    assert commands(harness.give(slip("flight").done())) == [released("flight")]
    (outcome,) = published(harness.give(undo("flight").done()))
    assert outcome == ItineraryUndone("Trip", "42", "cancelled by the customer", "", ("flight",))


def test_itinerary_asked_to_turn_back_waits_for_one_attempt_only(begun: MakeHarness) -> None:
    """A step without an answer is not asked for again, but undone."""
    harness = begun(FLIGHT, HOTEL)
    harness.give(CancelTrip("42"))
    assert commands(harness.advance(10)) == [released("flight")]


def test_itinerary_asked_to_turn_back_waits_for_nobody_who_may_take_for_ever(begun: MakeHarness) -> None:
    """A step without a time is undone at once."""
    harness = begun(step("approval", within=None))
    assert commands(harness.give(CancelTrip("42"))) == [released("approval")]


def test_itinerary_asked_to_turn_back_at_its_last_step_is_undone(begun: MakeHarness) -> None:
    """The last answer does not make it forget the request."""
    harness = begun(FLIGHT)
    harness.give(CancelTrip("42"))
    assert commands(harness.give(slip("flight").done())) == [released("flight")]


def test_itinerary_asked_to_turn_back_names_no_step_that_failed_meanwhile(begun: MakeHarness) -> None:
    """The first reason counts, and nobody looks for a fault in the step."""
    harness = begun(FLIGHT)
    harness.give(CancelTrip("42"))
    (outcome,) = published(harness.give(slip("flight").failed("full")))
    assert outcome == ItineraryUndone("Trip", "42", "cancelled by the customer")


def test_itinerary_asked_to_turn_back_behind_its_pivot_goes_on(begun: MakeHarness) -> None:
    """There is no way back; it says that it is completed."""
    harness = begun(PAYMENT, TICKET)
    harness.give(CancelTrip("42"))
    assert commands(harness.give(slip("payment").done())) == [reserved("ticket")]
    harness.give(CancelTrip("42"))
    assert isinstance(published(harness.give(slip("ticket").done()))[0], ItineraryCompleted)


# -- the end ----------------------------------------------------------------------------------------------------------


def test_itinerary_says_more_about_its_end_in_the_same_write(saga_harness: MakeHarness) -> None:
    """`ended` may answer who started it, so that an itinerary can be a step of another."""

    class Answering(Itinerary[TripState], key="trip"):
        steps = (FLIGHT,)

        @starts
        def requested(self, m: BookTrip) -> None:
            self.state.city = m.city

        def ended(self, outcome: ItineraryOutcome) -> None:
            self.reply_to_starter(Slip("Tour", "7", "trip").done(result=type(outcome).__name__))

    harness = saga_harness(Answering)
    harness.give(BookTrip("42"), reply_to="tours")
    left = harness.give(Slip("Answering", "42", "flight").done())
    assert Replied(StepDone(Slip("Tour", "7", "trip"), {"result": "ItineraryCompleted"}), to="tours") in left


# -- mistakes ---------------------------------------------------------------------------------------------------------


def test_command_without_the_slip_is_an_error_that_says_so(saga_harness: MakeHarness) -> None:
    """Nobody could answer it."""
    harness = saga_harness(trip(Step("flight", lambda state, slip: Nameless(state.city), to="airline")))
    with pytest.raises(ItineraryError, match="Nameless does not carry the slip"):
        harness.give(BookTrip("42"))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (StepDone(Slip("Trip", "43", "flight")), "a slip of Trip/43/flight"),
        (StepDone(Slip("Tour", "42", "flight")), "a slip of Tour/42/flight"),
        (StepFailed(Slip("Trip", "42", "boat"), "sunk"), "no such step"),
    ],
)
def test_answer_with_a_slip_that_was_never_given_out_is_an_error(begun: MakeHarness, answer: Any, problem: str) -> None:
    """It is refused, and so dead-lettered, rather than taken for another."""
    with pytest.raises(ItineraryError, match=problem):
        begun(FLIGHT).give(answer)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: step("a/b"), "other characters"),
        (lambda: step(""), "is empty"),
        (lambda: step("a", pivot=True), "no way back"),
        (lambda: step("a", within=timedelta(0)), "no time to wait"),
        (lambda: step("a", undo_within=timedelta(0)), "no time to wait"),
        (lambda: step("a", attempts=0), "no number of attempts"),
        (lambda: step("a", undo_attempts=0), "no number of attempts"),
        (lambda: trip(), "at least one Step"),
        (lambda: trip(FLIGHT, FLIGHT), "two steps are called 'flight'"),
        (lambda: trip(PAYMENT, FLIGHT), "its undo never runs"),
        (lambda: trip(PAYMENT, step("b", undo=False, pivot=True)), "second pivot"),
        (lambda: trip(PAYMENT, step("b", undo=False, within=None)), "has no within="),
    ],
)
def test_route_that_contradicts_itself_is_refused_when_it_is_defined(make: Callable[[], object], problem: str) -> None:
    """Every mistake is found at import, with the mend."""
    with pytest.raises(DefinitionError, match=problem):
        make()


@pytest.mark.parametrize(
    ("argument", "value", "mend"),
    [
        ("name", 5, "choose a plain one"),
        ("do", 5, r"Write do=lambda state, slip: SomeCommand\(slip\)"),
        ("undo", "x", r"Write undo=lambda state, slip: SomeCommand\(slip\)"),
        ("to", 5, "Give the name of one"),
        ("to", "", "Give the name of one"),
        ("undo_to", FLIGHT, "Give the name of one"),
        ("within", 5, "positive timedelta, or None for ever"),
        ("undo_within", 5, "Write a positive timedelta$"),
        ("undo_within", None, "Write a positive timedelta$"),
        ("attempts", "3", "Write 1 or more, or None"),
        ("attempts", True, "Write 1 or more, or None"),
        ("undo_attempts", 1.5, "Write 1 or more, or None"),
        ("pivot", "yes", "Write pivot=True, or leave it out"),
    ],
)
def test_step_with_an_argument_of_another_kind_is_refused_by_name(argument: str, value: Any, mend: str) -> None:
    """Who runs no type checker is told at import which argument it is, and what to write."""
    arguments: dict[str, Any] = {"name": "a", "do": lambda state, slip: Reserve(slip)}
    with pytest.raises(DefinitionError, match=mend) as refused:
        Step(**arguments | {argument: value})
    assert refused.value.subject == f"step {value if argument == 'name' else 'a'!r}"
    assert argument == "name" or f"{argument}={value!r}" in refused.value.problem


@pytest.mark.parametrize("route", [FLIGHT, 5, None, "flight", {FLIGHT.name: FLIGHT}, (FLIGHT, "hotel"), iter([FLIGHT])])
def test_steps_that_are_no_sequence_of_steps_are_refused(route: Any) -> None:
    """A comma that was forgotten is told as such."""
    with pytest.raises(DefinitionError, match=r"of a single one, \(Step\(\.\.\.\),\)"):

        class Wrong(Itinerary[TripState], key="trip"):
            steps = route

            @starts
            def requested(self, m: BookTrip) -> None: ...


def test_itinerary_with_a_decision_of_its_own_is_refused() -> None:
    """It would take the place of the one that asks for the steps; also where a base brings it along."""

    class Deciding:
        def decide(self) -> None:
            """Say nothing."""

    for bases in ((Itinerary,), (Deciding, Itinerary)):
        body = {"steps": (FLIGHT,)} | ({} if Deciding in bases else {"decide": Deciding.decide})
        with pytest.raises(DefinitionError, match=r"say more about the end in ended\(outcome\)"):
            new_class("Wrong", bases, {"key": "trip"}, lambda names, body=body: names.update(body))  # type: ignore[misc]


@pytest.mark.parametrize("option", [{"merger": max}, {"restartable": True}])
def test_itinerary_refuses_what_would_break_it(option: dict[str, Any]) -> None:
    """It is serial, and its idempotency keys are for one life."""
    with pytest.raises(DefinitionError, match=f"Leave out {next(iter(option))}="):

        class Wrong(Itinerary[TripState], key="trip", **option):
            steps = (FLIGHT,)

            @starts
            def requested(self, m: BookTrip) -> None: ...


def test_itinerary_over_another_state_is_refused() -> None:
    """Its state has to have room for what the itinerary knows."""

    @define
    class Bare:
        city: str = ""

    with pytest.raises(DefinitionError, match=r"Write class .*Bare\(ItineraryState\)"):

        class Wrong(Itinerary[Bare], key="trip"):  # type: ignore[type-var]
            steps = (FLIGHT,)

            @starts
            def requested(self, m: BookTrip) -> None: ...


def test_itinerary_without_steps_is_refused_where_it_has_handlers() -> None:
    """A base of one's own has neither."""

    class Base(Itinerary[TripState]):
        pass

    assert issubclass(Base, Saga)
    with pytest.raises(DefinitionError, match="no steps"):

        class Empty(Base, key="trip"):
            @starts
            def requested(self, m: BookTrip) -> None: ...


def test_turning_back_needs_a_reason(saga_harness: MakeHarness) -> None:
    """The outcome will say it."""

    class Silent(Itinerary[TripState], key="trip"):
        steps = (FLIGHT,)

        @starts
        def requested(self, m: BookTrip) -> None:
            self.turn_back("")

    with pytest.raises(ItineraryError, match="no reason"):
        saga_harness(Silent).give(BookTrip("42"))


def test_itinerary_inherits_steps_and_takes_the_name_it_is_given(saga_harness: MakeHarness) -> None:
    """Slips name the saga as the store does."""
    base = trip(FLIGHT)

    class Longer(base, key="trip", name="tour"):  # type: ignore[misc, valid-type]
        pass

    (command, _) = saga_harness(Longer).give(BookTrip("42"))
    assert command.message.slip == Slip("tour", "42", "flight")
