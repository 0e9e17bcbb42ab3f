"""When a worker looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from attrs import define

from sagabus import Bus, RetryPolicy, Saga, message, starts
from sagabus.cli.collecting import YOUNG_OBJECTS, collect_rarely
from sagabus.errors import ConcurrencyError


@message("collecting.heavy")
class Heavy:
    """Cannot be handled."""

    key: str


@define
class Nothing:
    """No state."""


class Fails(Saga[Nothing], key="key"):
    """Raises."""

    @starts
    def begun(self, m: Heavy) -> None:
        raise ValueError(m.key)


def fails(m: Heavy) -> None:
    """Raise."""
    raise ValueError(m.key)


class Overtaken:
    """A consumer that others are faster than, once a message."""

    def __init__(self) -> None:
        self.overtaken: set[str] = set()

    def handle(self, m: Heavy) -> None:
        """Find that somebody else was faster."""
        if m.key not in self.overtaken:
            self.overtaken.add(m.key)
            raise ConcurrencyError({m.key: (None, "etag")})

    async def handle_async(self, m: Heavy) -> None:
        """Find likewise."""
        self.handle(m)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_collections_become_rare_and_pass_over_what_is_there() -> None:
    """Only the youngest are looked for less often: how old objects are is judged as before."""
    before = gc.get_threshold()
    collect_rarely(before)
    assert gc.get_threshold() == (YOUNG_OBJECTS, *before[1:])
    assert gc.get_freeze_count() > 0


def test_thresholds_that_the_app_has_set_stay() -> None:
    """Who has measured for themselves knows better."""
    before = gc.get_threshold()
    gc.set_threshold(1234, 5, 6)
    collect_rarely(before)
    assert gc.get_threshold() == (1234, 5, 6)


def left_behind(bus: Bus) -> int:
    """Have a worker handle twenty messages; return how many of them only a collection would free."""
    worker = bus.worker()
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            bus.send(Heavy(str(number)), to="e")
        worker.run_until_idle()
        del worker
        return sum(isinstance(each, Heavy) for each in gc.get_objects())
    finally:
        gc.enable()


def test_failures_leave_nothing_that_only_a_collection_would_free() -> None:
    """Errors of sagas and consumers hold the frames they came from; messages of a megabyte must not wait for that."""
    bus = Bus(store="memory:", transport="memory:")
    bus.endpoint("e", Fails, retry=RetryPolicy(1)).consumer(fails)
    assert left_behind(bus) == 0
    assert len(list(bus.dead_letters.find())) == 20


@pytest.mark.parametrize("is_async", [False, True])
def test_races_leave_nothing_that_only_a_collection_would_free(is_async: bool) -> None:
    """A handler that is run again, and gets through, has had an error, too."""
    bus = Bus(store="memory:", transport="memory:")
    consumer = Overtaken()
    bus.endpoint("e").consumer(consumer.handle_async if is_async else consumer.handle)
    assert left_behind(bus) == 0
    assert len(consumer.overtaken) == 20
    assert (list(bus.dead_letters.find()), bus.store.scheduled()) == ([], [])
