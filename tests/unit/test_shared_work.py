"""What lanes of one worker share: they take turns at a saga, and who waits goes on showing signs of life."""

from __future__ import annotations

import threading

import pytest

from sagabus.envelope import SagaKey
from sagabus.runtime.shared_work import SharedWork

PATIENCE_S = 10.0
ONE, TWO, THREE = (SagaKey("S", str(number)) for number in range(3))


def nothing() -> None:
    """Wait on."""


def test_lanes_with_different_sagas_do_not_wait_for_each_other() -> None:
    """Only what both have in hand keeps one waiting."""
    shared = SharedWork()
    with shared.holding([ONE], nothing), shared.holding([TWO, THREE], nothing):
        pass


def test_lane_waits_until_no_other_has_one_of_its_sagas_in_hand() -> None:
    """And gets all of them at once then."""
    shared, began, order = SharedWork(), threading.Event(), list[str]()

    def second() -> None:
        began.set()
        with shared.holding([TWO, ONE], nothing):
            order.append("second")

    with shared.holding([ONE], nothing):
        thread = threading.Thread(target=second)
        thread.start()
        assert began.wait(PATIENCE_S)
        with shared.holding([THREE], nothing):
            order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_lane_that_waits_says_so_and_may_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one may be waiting for a server, and this one be told to end."""
    monkeypatch.setattr("sagabus.runtime.shared_work._BEAT_S", 0.001)
    shared, beats = SharedWork(), list[int]()

    def gives_up() -> None:
        beats.append(1)
        if len(beats) == 3:
            raise TimeoutError

    with shared.holding([ONE], nothing):
        with pytest.raises(TimeoutError), shared.holding([ONE], gives_up):
            pytest.fail("both have it in hand")
        assert len(beats) == 3
    with shared.holding([ONE], nothing):
        pass
