"""What handlers raise: whatever it is, the letter says what and where, and the worker goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from attrs import define

from sagabus import Bus, RetryPolicy, Saga, message, starts
from sagabus.runtime.ticket import let_go


@message("errors.owed")
class Owed:
    """Cannot be handled."""

    key: str


@define
class Nothing:
    """No state."""


@dataclasses.dataclass(frozen=True)
class InsufficientError(Exception):
    """Refuses every assignment, to what Python itself keeps on exceptions too."""

    missing: int


POOL_ERROR = ConnectionError("the pool could not be made")
"""One object for all who fail by it, as of a failed future."""


def lacks() -> None:
    """Raise what is frozen, because of what is frozen."""
    try:
        raise InsufficientError(1)
    except InsufficientError as error:
        raise InsufficientError(5) from error


def fails_as_others() -> None:
    """Raise what others raise, too."""
    raise POOL_ERROR


class Owing(Saga[Nothing], key="key"):
    """Raises."""

    error: Callable[[], None] = staticmethod(lacks)

    @starts
    def begun(self, m: Owed) -> None:
        type(self).error()


def consumes(fail: Callable[[], None]) -> Callable[[Owed], None]:
    """Return a consumer that raises."""

    def consumed(m: Owed) -> None:
        fail()

    return consumed


def traces(bus: Bus, ids: list[str]) -> list[str]:
    """Have *ids* handled in one batch; return the tracebacks of the letters."""
    for id_ in ids:
        bus.send(Owed("1"), to="e", id=id_)
    bus.worker().run_until_idle()
    return [letter.traceback for letter in bus.dead_letters.find()]


@pytest.mark.parametrize("by_saga", [True, False], ids=["saga", "consumer"])
@pytest.mark.parametrize(
    ("fail", "ids"),
    [(lacks, ["a"]), (lacks, ["a", "b", "c"]), (lacks, ["a", "a"]), (fails_as_others, ["a", "b", "c"])],
    ids=["frozen", "frozen, three", "one id twice", "one error for all"],
)
def test_each_letter_says_where_its_message_failed(
    fail: Callable[[], None], ids: list[str], by_saga: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors are let go of by and by, and not before all that came to grief by them is on record."""
    bus = Bus(store="memory:", transport="memory:")
    endpoint = bus.endpoint("e", *([Owing] if by_saga else []), retry=RetryPolicy(1))
    monkeypatch.setattr(Owing, "error", staticmethod(fail))
    if not by_saga:
        endpoint.consumer(consumes(fail))
    found = traces(bus, ids)
    assert len(found) == len(set(ids))
    assert all(f"in {fail.__name__}" in trace for trace in found)


def test_error_is_let_go_of_with_all_that_led_to_it() -> None:
    """Causes and contexts hold frames, too, and may be each other's."""
    first, second, third = ValueError("first"), KeyError("second"), OSError("third")
    for error in (first, second, third):
        with pytest.raises(type(error)) as caught:
            raise error
        assert caught.value.__traceback__ is not None
    first.__cause__, first.__context__, second.__context__ = second, third, first
    let_go(first)
    assert [error.__traceback__ for error in (first, second, third)] == [None] * 3
