"""The simulator against the real thing: a random schedule, forced on real stores and real workers, ends alike.

A failure names its seed and its schedule; `draw(CASES[name].inquiry(), seed)` makes it again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.differential.cases import CASES
from tests.simulation.differential.foretelling import foretell
from tests.simulation.differential.playing import Server, assert_stores_agree, assert_workers_agree, walks

SEEDS = range(48)
SEEDS_FOR_WORKERS = range(20)
SEEDS_FOR_REDIS = range(4)

of_every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def server(valkey_url: str, namespace: str) -> Iterator[Server]:
    """Yield a part of a private Valkey."""
    with Server.at(valkey_url, namespace) as server:
        yield server


@pytest.fixture
def old_server(redis7_url: str, namespace: str) -> Iterator[Server]:
    """Yield a part of a private Redis, the oldest that is supported."""
    with Server.at(redis7_url, namespace) as server:
        yield server


@of_every_case
def test_schedule_forced_on_stores_comes_out_as_simulated(name: str, server: Server) -> None:
    """On every commit memory, Valkey and the simulator agree: outcome, states, timers, effects, decisions, merges."""
    assert_stores_agree(name, SEEDS, server)


@of_every_case
def test_schedule_forced_on_workers_comes_out_as_simulated(name: str, server: Server) -> None:
    """Real workers on Valkey do what the simulator says, and what it leaves out as idle changes nothing there."""
    assert_workers_agree(name, SEEDS_FOR_WORKERS, server)


@of_every_case
def test_schedule_forced_on_redis_comes_out_as_simulated(name: str, old_server: Server) -> None:
    """The oldest Redis that is supported agrees too, by hand and with workers."""
    assert_stores_agree(name, SEEDS_FOR_REDIS, old_server)
    assert_workers_agree(name, SEEDS_FOR_REDIS, old_server)


@of_every_case
def test_schedules_of_a_case_meet_what_it_is_for(name: str) -> None:
    """The random schedules are no idle ones: each case meets the outcomes and refusals that it is there for."""
    seen = set[str]()
    for _, walk in walks(name, SEEDS_FOR_WORKERS):
        seen |= {word for told in foretell(walk) for word in (told.outcome, told.reason)}
    assert CASES[name].sees - seen == set()


def test_refused_runs_are_made_again_in_process_and_after_a_crash(server: Server) -> None:
    """Both ways in which a refused run is made again are taken: by the same worker, and by another when it has died."""
    played = assert_workers_agree("late", SEEDS_FOR_WORKERS, server)
    assert sum(each.in_process for each in played) > 0
    assert sum(each.killed for each in played) > 0
