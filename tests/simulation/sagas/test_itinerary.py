"""Itineraries in every order that two workers can meet: time-outs, late answers, undoes that overtake their steps.

The suite looks at 320,000 states: two steps with time-outs, second deliveries, batches of two, retries, a pivot and a
request to turn back; three steps plainly; and each step failing.
`SAGABUS_RULES=whole` (`make rules`) adds another million, in a minute. With an office, where nothing is refused: three
steps, two with a second delivery or in batches of two, one with a message sent twice or with two attempts to undo. With
consumers: two steps with a message sent twice, with a duplicate in batches of two (240,000 states, a quarter of a
minute), and with retries where nothing is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import pytest

from sagabus.testing import Exploration, explore
from sagas import Step, StepDone, StepFailed
from sagas.itinerary.course import Move
from tests.simulation.sagas.itinerary_world import (
    TRIP,
    Begin,
    Cancel,
    OpenOffice,
    Trip,
    in_order,
    office_agrees,
    one_outcome_at_most,
    outcome_of,
    step,
    with_consumers,
    with_office,
)

TWO: Final = (step("flight"), step("hotel"))
CAR: Final = step("car")
THREE: Final = (*TWO, CAR)
ALL: Final = {"ItineraryCompleted", "ItineraryUndone", "ItineraryAbandoned"}
NOT_DONE: Final = ALL - {"ItineraryCompleted"}


def name_of(moment: Any) -> str:
    """Return what kind of outcome was published."""
    return type(outcome_of(moment)).__name__


def at_the_office(
    route: tuple[Step, ...], refuses: str = "", base: type[Trip] = Trip, **circumstances: Any
) -> Exploration:
    """Return what becomes of a trip whose steps an office does that hears of them in any order."""
    return explore(
        with_office(route, refuses, base),
        start=[OpenOffice(TRIP)],
        outcome=name_of,
        outcomes=ALL,
        always=[one_outcome_at_most],
        finally_=[office_agrees(route)],
        must_end=False,  # the office never closes; that the trip ends is what `outcome` asks
        mode="exhaustive",
        **circumstances,
    )


def by_consumers(
    route: tuple[Step, ...],
    refuses: str = "",
    base: type[Trip] = Trip,
    always: Sequence[Any] = (),
    **circumstances: Any,
) -> Exploration:
    """Return what becomes of a trip whose steps consumers do, who answer in any order."""
    return explore(
        with_consumers(route, refuses, base),
        start=[Begin(TRIP)],
        outcome=name_of,
        outcomes=ALL,
        always=[one_outcome_at_most, in_order(route), *always],
        mode="exhaustive",
        **circumstances,
    )


def all_seen(result: Exploration, outcomes: set[str]) -> None:
    """Make sure that nothing broke, that no schedule was left out, and that it ended in each of these ways."""
    result.assert_ok()
    assert result.complete
    assert set(result.outcomes) == outcomes


# -- an office that knows what is true ---------------------------------------------------------------------------------


WHOLE: Final = os.environ.get("SAGABUS_RULES") == "whole"


def large(*cases: Any) -> list[Any]:
    """Return *cases*, which take seconds each, for `make rules`, and none of them for the suite."""
    return list(cases) if WHOLE else []


@pytest.mark.parametrize("route", [pytest.param(TWO, id="two-steps"), *large(pytest.param(THREE, id="three-steps"))])
def test_itinerary_in_every_order_ends_as_the_office_has_it(route: tuple[Step, ...]) -> None:
    """Whatever is late or overtaken, what stands in the end is what the one outcome says."""
    all_seen(at_the_office(route), ALL)


@pytest.mark.parametrize(
    ("route", "refuses"),
    [
        pytest.param(route, failing.name, id=f"{len(route)}-{failing.name}")
        for route in (TWO, THREE)
        for failing in route
    ],
)
def test_itinerary_with_a_failing_step_leaves_nothing_booked(route: tuple[Step, ...], refuses: str) -> None:
    """Wherever it fails, nothing that was ever done stands in the end, or people are told that it may."""
    all_seen(at_the_office(route, refuses), NOT_DONE)


@pytest.mark.parametrize("refuses", ["hotel", *large("")])
def test_itinerary_in_batches_of_two_ends_as_the_office_has_it(refuses: str) -> None:
    """An answer and the end of its time in one batch are one run and one decision."""
    all_seen(at_the_office(TWO, refuses, batch=2), NOT_DONE if refuses else ALL)


def test_itinerary_with_three_workers_ends_as_the_office_has_it() -> None:
    """A third worker on the same saga changes nothing: the itinerary is serial."""
    all_seen(at_the_office(TWO, "hotel", workers=3), NOT_DONE)


@pytest.mark.parametrize("refuses", ["flight", "hotel", *large("")])
def test_itinerary_with_a_message_delivered_twice_ends_as_the_office_has_it(refuses: str) -> None:
    """A second copy of any message changes nothing."""
    all_seen(at_the_office(TWO, refuses, duplicates=1), NOT_DONE if refuses else ALL)


@pytest.mark.parametrize("refuses", ["flight", *large("")])
def test_itinerary_with_a_message_sent_twice_ends_as_the_office_has_it(refuses: str) -> None:
    """A command or an answer that comes again under another id, at any time later, changes nothing in the end."""
    all_seen(at_the_office(TWO[:1], refuses, resends=1), NOT_DONE if refuses else ALL)


@pytest.mark.parametrize("attempts", ["attempts", *large("undo_attempts")])
def test_itinerary_that_tries_again_ends_as_the_office_has_it(attempts: str) -> None:
    """The second attempt and the first may both be done, or undone, in any order, and are one thing."""
    all_seen(at_the_office((step("flight", **{attempts: 2}),)), ALL)


# -- retries, pivots, cancellations: consumers -------------------------------------------------------------------------

RETRIED: Final = (step("flight"), step("hotel", attempts=2))
PAID: Final = (step("flight"), step("payment", undo=False, pivot=True), step("ticket", undo=False, attempts=2))
NOTED: Final = (step("flight"), step("letter", undo=False), step("hotel"))


@pytest.mark.parametrize(
    "circumstances",
    [
        pytest.param({}, id="two-workers"),
        pytest.param({"workers": 3}, id="three-workers"),
        pytest.param({"batch": 2}, id="batches-of-two"),
        pytest.param({"duplicates": 1}, id="a-message-delivered-twice"),
        *large(
            pytest.param({"resends": 1}, id="a-message-sent-twice"),
            pytest.param({"batch": 2, "duplicates": 1, "max_states": 500_000}, id="batches-and-copies"),
        ),
    ],
)
@pytest.mark.parametrize("refuses", ["", "flight", "hotel"])
def test_itinerary_asks_in_order_and_undoes_in_reverse(refuses: str, circumstances: dict[str, Any]) -> None:
    """No step begins before the one before is done, and none is undone before those behind it; one outcome."""
    all_seen(by_consumers(TWO, refuses, **circumstances), NOT_DONE if refuses else ALL)


@pytest.mark.parametrize("refuses", ["", "flight", "hotel", "car"])
def test_itinerary_of_three_steps_asks_in_order_and_undoes_in_reverse(refuses: str) -> None:
    """The same with three steps, and with each of them failing."""
    all_seen(by_consumers(THREE, refuses), NOT_DONE if refuses else ALL)


@pytest.mark.parametrize("refuses", ["hotel", *large("")])
def test_itinerary_with_retries_keeps_the_order(refuses: str) -> None:
    """Answers to a first attempt come after those to the second, or after the undo."""
    all_seen(by_consumers(RETRIED, refuses), NOT_DONE if refuses else ALL)


@pytest.mark.parametrize(
    ("refuses", "outcomes"),
    [("", ALL), ("flight", NOT_DONE), ("payment", NOT_DONE), ("ticket", NOT_DONE)],
)
def test_itinerary_never_goes_back_behind_its_pivot(refuses: str, outcomes: set[str]) -> None:
    """Once the payment may be done, the flight stays booked: the ticket comes, or people are called."""

    def stays(moment: Any) -> None:
        for state in moment.states:
            if state.itinerary.of("payment").may_stand:
                assert not state.itinerary.of("flight").undo_asked

    all_seen(by_consumers(PAID, refuses, always=[stays]), outcomes)


@pytest.mark.parametrize("refuses", ["", "hotel"])
def test_itinerary_with_a_step_for_good_keeps_that_alone(refuses: str) -> None:
    """A letter that was sent stays sent; what stands around it is undone."""
    all_seen(at_the_office(NOTED, refuses), NOT_DONE if refuses else ALL)


def test_itinerary_cancelled_at_any_time_is_done_or_undone() -> None:
    """A request to turn back comes at any moment: before, while or after a step is asked for, or too late."""
    all_seen(by_consumers(TWO, messages=[Cancel(TRIP)]), ALL)
    all_seen(by_consumers(TWO, messages=[Cancel(TRIP)], timeouts=False), {"ItineraryCompleted", "ItineraryUndone"})


@pytest.mark.parametrize(("refuses", "word"), [("", "completed"), ("hotel", "undone")])
def test_itinerary_after_a_failover_that_loses_a_commit_still_ends(refuses: str, word: str) -> None:
    """What the store forgets is told again, or follows from later answers; an outcome that has left may leave again."""
    explore(
        with_consumers(TWO, refuses),
        start=[Begin(TRIP)],
        rollbacks=1,
        timeouts=False,
        outcome=lambda moment: moment.state.itinerary.outcome,
        outcomes=[word],
        mode="exhaustive",
    ).assert_ok()


# -- itineraries that are wrong ----------------------------------------------------------------------------------------


class DeafAfterwards(Trip):
    """Believes that nothing can be done any more when it has ended."""

    def on_late(self, message: Any) -> None:
        """Ignore it."""


class Hopeful(Trip):
    """Takes a step that did not answer for one that was not done."""

    def _overdue(self, m: Any) -> None:
        if m.slip.undo:
            super()._overdue(m)
        else:
            self._refused(StepFailed(m.slip, "no answer"))


class Impatient(Trip):
    """Takes an undo that was sent before the step was done for enough."""

    def _answered(self, m: StepDone) -> None:
        known = self.state.itinerary.begin(m.slip.step)
        before = known.undo_from, known.undone
        super()._answered(m)
        if not m.slip.undo:
            known.undo_from, known.undone = before


@pytest.mark.parametrize("base", [DeafAfterwards, Hopeful, Impatient])
def test_explorer_finds_what_is_left_booked_by(base: type[Trip]) -> None:
    """Each way of being careless with late answers leaves something booked, or undoes it too late."""
    result = at_the_office(TWO, base=base)
    assert result.failure is not None
    assert result.failure.kind == "finally"


class Forward(Trip):
    """Undoes the first step first."""

    def _undo(self, move: Move) -> None:
        first = next(s for s in self._route if self.state.itinerary.of(s.name).may_stand)
        super()._undo(Move(move.kind, first))


def test_explorer_finds_an_itinerary_that_undoes_in_the_wrong_order() -> None:
    """The law of the order can fail."""
    result = by_consumers(THREE, "car", base=Forward, timeouts=False)
    assert result.failure is not None
    assert "was undone early" in result.failure.problem
