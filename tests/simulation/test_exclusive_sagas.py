"""Exclusive sagas under test: `explore` and `SagaHarness` run them as serial ones, whose schedules include theirs."""

from __future__ import annotations

import time

import pytest
from attrs import define, field

from sagabus import Saga, handles, message, starts
from sagabus.testing import SagaHarness, explore
from sagabus.testing.harness.released import Published


@message("exclusive-saga.booked")
class Booked:
    trip: str


@message("exclusive-saga.paid")
class Paid:
    part: int


@message("exclusive-saga.confirmed")
class Confirmed:
    parts: list[int]


@define
class Trip:
    parts: list[int] = field(factory=list)


class Booking(Saga[Trip], key="trip", exclusive=True):
    @starts
    def booked(self, m: Booked) -> None: ...

    @handles
    def paid(self, m: Paid) -> None:
        self.state.parts = sorted([*self.state.parts, m.part])

    def decide(self) -> None:
        if len(self.state.parts) == 3:
            self.publish(Confirmed(self.state.parts))
            self.complete()


class Impatient(Booking, key="trip", exclusive=True, name="Impatient"):
    def decide(self) -> None:
        if time.time() > 0 and len(self.state.parts) == 3:
            self.complete()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("workers", [2, 3])
def test_explore_of_an_exclusive_saga_tries_every_schedule(workers: int, batch: int) -> None:
    """Whoever gets the saga first, all its messages are handled once, alone, and it ends once."""
    result = explore(
        Booking,
        start=[Booked("t")],
        messages=[Paid(1), Paid(2), Paid(3)],
        workers=workers,
        batch=batch,
        duplicates=1,
        always=[lambda moment: len(moment.states) <= 1],
        outcomes=[(Confirmed([1, 2, 3]),)],
    )
    result.assert_ok()
    assert result.complete
    assert result.states > 10


def test_explore_finds_an_exclusive_saga_that_is_impure() -> None:
    """Its handlers are run again after a crash, so a run must depend on nothing but state and message here too."""
    result = explore(Impatient, start=[Booked("t")], messages=[Paid(1), Paid(2), Paid(3)])
    with pytest.raises(AssertionError, match=r"time\.time\(\)"):
        result.assert_ok()


def test_harness_runs_an_exclusive_saga_without_a_fork() -> None:
    """Of several workers at once each gets its turn, and the last one decides."""
    harness = SagaHarness(Booking)
    harness.give(Booked("t"))
    harness.together(Paid(1), Paid(2), Paid(3), saga="t")
    assert harness.saga("t").completed
    assert harness.saga("t").state.parts == [1, 2, 3]
    assert harness.effects == [Published(Confirmed([1, 2, 3]))]
