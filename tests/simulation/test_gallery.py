"""The gallery of broken sagas: the simulator finds the fault of each, and nothing in the same saga done right."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

import pytest

from sagabus.testing import Exploration, ExplorationError, explore
from sagabus.testing.exploration import inquiry_of
from sagabus.testing.simulator.report import Failure
from sagabus.testing.simulator.schedule import LeavesOut, schedule_of
from tests.simulation import broken
from tests.simulation.broken.exhibit import Exhibit

GALLERY: Final[list[ModuleType]] = [
    importlib.import_module(f"{broken.__name__}.{module.name}")
    for module in pkgutil.iter_modules(broken.__path__)
    if module.name != "exhibit"
]
RANDOM_AT_LEAST: Final = 10


def name_of(module: ModuleType) -> str:
    """Return the last part of a module's name."""
    return module.__name__.rpartition(".")[2]


def explored(exhibit: Exhibit, **more: Any) -> Exploration:
    """Return what an exploration of one side of an exhibit finds."""
    return explore(exhibit.subject, **{**exhibit.arguments, **more})


def fails(exhibit: Exhibit, failure: Failure, events: Sequence[Any]) -> bool:
    """Return whether a schedule, played as it stands and no further, fails; a step that cannot happen is left out."""
    left_out = [step for step in schedule_of(failure.token) if isinstance(step, LeavesOut)]
    _, found = inquiry_of(exhibit.subject, **exhibit.arguments).follow((*left_out, *events), finish=False)
    return found.fault is not None and found.fault.kind in exhibit.kinds


each = pytest.mark.parametrize("module", GALLERY, ids=name_of)


def test_gallery_has_twelve_faults_or_more_each_told_and_with_a_mended_twin() -> None:
    """A module of the gallery tells its fault, names what must be found, and holds a twin without it."""
    assert len(GALLERY) >= 12
    for module in GALLERY:
        assert module.__doc__
        assert "looks right" in module.__doc__
        assert "Mend:" in module.__doc__
        assert module.BROKEN.kinds
        assert not module.MENDED.kinds


@each
def test_explore_broken_saga_is_found_by_the_shortest_schedule(module: ModuleType) -> None:
    """Looking at every schedule finds the fault, by a trace of the stated kind and length."""
    exhibit = module.BROKEN
    result = explored(exhibit, mode="exhaustive")
    assert result.failure is not None, f"{exhibit.title}: nothing was found in {result}"
    assert result.failure.kind == exhibit.kinds[0], result.failure.report
    assert len(result.failure.events) == exhibit.length, result.failure.report


@each
def test_explore_broken_saga_shows_a_schedule_of_which_every_event_is_needed(module: ModuleType) -> None:
    """The schedule shows the failure; without any one of its events it does not."""
    exhibit = module.BROKEN
    failure = explored(exhibit, mode="exhaustive").failure
    assert failure is not None
    assert fails(exhibit, failure, failure.events), failure.report
    for dropped in range(len(failure.events)):
        rest = [event for number, event in enumerate(failure.events) if number != dropped]
        assert not fails(exhibit, failure, rest), f"event {dropped + 1} is not needed in:\n{failure.report}"


@each
def test_explore_broken_saga_gives_a_test_to_paste_that_fails(module: ModuleType) -> None:
    """The test at the end of a report runs as it stands, and fails by the schedule that was found."""
    failure = explored(module.BROKEN, mode="exhaustive").failure
    assert failure is not None
    pasted: dict[str, Any] = {}
    exec(failure.test, pasted)
    (test,) = (value for name, value in pasted.items() if name.startswith("test_"))
    if "to be given again" in failure.test:
        # A function without a name cannot be pasted; the report says which.
        assert any("<" in getattr(value, "__qualname__", "") for value in module.BROKEN.arguments.values())
    else:
        with pytest.raises(ExplorationError) as caught:
            test()
        assert caught.value.failure.kind in module.BROKEN.kinds


@each
def test_explore_mended_saga_finds_nothing_in_any_schedule(module: ModuleType) -> None:
    """Every schedule of the same saga done right is looked at, and is well."""
    result = explored(module.MENDED, mode="exhaustive")
    result.assert_ok()
    assert result.complete


def test_explore_at_random_finds_most_of_the_broken_sagas() -> None:
    """Random schedules from a fixed seed find at least ten of the faults."""
    found = []
    for module in GALLERY:
        failure = explored(module.BROKEN, mode="random", runs=2_000, seed=1).failure
        if failure is not None and failure.kind in module.BROKEN.kinds:
            found.append(name_of(module))
    assert len(found) >= RANDOM_AT_LEAST, found


@each
def test_explore_mended_saga_at_random_finds_nothing(module: ModuleType) -> None:
    """Random schedules of a saga done right are well too."""
    explored(module.MENDED, mode="random", runs=200, seed=1).assert_ok()
