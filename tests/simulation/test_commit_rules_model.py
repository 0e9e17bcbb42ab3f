"""The commit rules are model-checked: every schedule of small sagas, and every rule is needed for what is promised.

The rules that stand in the memory store are run in every configuration, and then once more with each of them dropped,
bent or swapped. `SAGABUS_RULES=whole` (`make rules`) searches the largest configurations too, which are sampled
otherwise: together they take several minutes, and no mutant needs one of them to be caught.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import pytest

from sagabus.messages import MERGE
from sagabus.saga import Saga
from sagabus.store.memory import apply_commit
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.search import Search
from tests.simulation.mutants import SOURCE, Mutant, mutated, rules_of
from tests.simulation.mutants_of_rules import MUTANTS, SWAPPED_REFUSALS
from tests.simulation.rules_cases import Case
from tests.simulation.rules_laws import BrokenLawError, Watched
from tests.simulation.rules_saga import (
    Ballot,
    Count,
    Folding,
    Graceful,
    Narrow,
    Prompt,
    Quiet,
    Restarting,
    Serial,
    Wider,
)

_WHOLE: Final = os.environ.get("SAGABUS_RULES") == "whole"
_RUNS: Final = 100
_LARGE: Final = 7
_MAX_STATES: Final = 10_000_000


_CONSUMED_MERGES: Final = (
    Case(Quiet, votes=3, needs=3, rollbacks=1),
    Case(Quiet, votes=3, needs=3, rollbacks=1, workers=3),
    Case(Quiet, opens=2, rollbacks=1, batch=2),
    Case(Quiet, votes=1, opens=2, patient=True, rollbacks=1, batch=2, workers=3),
    *(
        Case(saga, duplicates=1, rollbacks=1, batch=batch, workers=3)
        for saga in (Quiet, Ballot, Folding, Prompt, Count)
        for batch in (1, 2)
    ),
)
"""Failovers that lose the commit by which a MergeSagaState was posted, which then comes all the same."""


def _main() -> Iterator[Case]:
    """Yield every configuration of the main saga."""
    for votes, duplicates, patient, opens, batch, workers in product(
        (1, 2, 3), (0, 1), (False, True), (1, 2), (1, 2), (1, 2, 3)
    ):
        # Counts and notes say all that serial orders would; where a case is large, leaving those out saves a third.
        yield Case(Quiet, votes, duplicates, patient, opens, batch, workers, serial=votes < 3 and opens == 1)


def _is_large(case: Case) -> bool:
    size = case.votes + case.duplicates + case.patient + 2 * (case.opens - 1) + (case.workers - 2) + (case.batch - 1)
    return size >= _LARGE and case.workers > 1


def _variants() -> Iterator[Case]:
    sagas: tuple[type[Saga[Any]], ...] = (Ballot, Folding, Serial, Narrow, Wider, Prompt, Graceful, Restarting, Count)
    for saga, votes, duplicates, patient, opens, batch, workers in product(
        sagas, (1, 2, 3), (0, 1), (False, True), (1, 2), (1, 2), (2, 3)
    ):
        size = votes + duplicates + patient + 2 * (opens - 1) + (workers - 2) + (batch - 1) / 2
        # These two end each life by a timer.
        if size <= (5 if _WHOLE else 4.5) and (patient or saga not in (Graceful, Restarting)):
            yield Case(saga, votes, duplicates, patient, opens, batch, workers)


def _failovers() -> Iterator[Case]:
    sagas: tuple[type[Saga[Any]], ...] = (Quiet, Ballot, Folding, Serial, Prompt, Count)
    for saga, votes, duplicates, batch, workers in product(sagas, (1, 2), (0, 1), (1, 2), (1, 2, 3)):
        case = Case(saga, votes, duplicates, batch=batch, workers=workers, rollbacks=1)
        if case not in _CONSUMED_MERGES:
            yield case


_SEARCHED: Final = [case for case in _main() if _WHOLE or not _is_large(case)]
_SAMPLED: Final = [case for case in _main() if not _WHOLE and _is_large(case)]


def _judged(case: Case) -> tuple[Inquiry, Search]:
    inquiry, search = case.inquiry(Watched(apply_commit)).search(_MAX_STATES)
    print(f"{case}: {search.states:,} states, {search.transitions:,} transitions")
    return inquiry, search


def _assert_well(search: Search) -> None:
    assert search.failure is None, search.failure and search.failure.fault
    assert search.complete
    assert search.endings


@pytest.mark.parametrize("case", _SEARCHED, ids=str)
def test_rules_in_every_configuration_keep_what_they_promise(case: Case) -> None:
    """Every message is handled once, every saga ends once, and nothing is decided on part of the picture."""
    _, search = _judged(case)
    _assert_well(search)


@pytest.mark.parametrize("case", _SAMPLED, ids=str)
def test_rules_in_the_largest_configurations_keep_what_they_promise_at_random(case: Case) -> None:
    """Likewise, in some of the schedules; `make rules` tries all."""
    _, sampling = case.inquiry(Watched(apply_commit)).sample(_RUNS, 0)
    assert sampling.failure is None, sampling.failure and sampling.failure.fault
    assert sampling.endings


@pytest.mark.parametrize("case", list(_variants()), ids=str)
def test_rules_with_other_sagas_keep_what_they_promise(case: Case) -> None:
    """The same for sagas that are serial, ancestral, narrow, restartable, or end in a handler."""
    _, search = _judged(case)
    _assert_well(search)


@pytest.mark.parametrize("case", list(_failovers()), ids=str)
def test_rules_when_a_failover_loses_a_commit_keep_every_message_in_the_state(case: Case) -> None:
    """What was lost is handled again, and nothing is built upon what was lost."""
    _, search = _judged(case)
    _assert_well(search)


@pytest.mark.parametrize("case", _CONSUMED_MERGES, ids=str)
def test_merge_whose_post_a_failover_lost_is_handled_when_it_is_posted_again(case: Case) -> None:
    """A MergeSagaState is never taken for an earlier one that had nothing to merge."""
    _, search = _judged(case)
    _assert_well(search)


@pytest.mark.parametrize(
    "case",
    [Case(Quiet, votes=3, needs=3, workers=3), Case(Quiet, opens=2, workers=3), Case(Folding, patient=True)],
    ids=str,
)
def test_saga_with_siblings_has_one_merge_on_its_way(case: Case) -> None:
    """While there are siblings, one MergeSagaState is in the queue or in a worker's hands; there are never two."""
    inquiry, search = _judged(case)
    worlds = inquiry.ready().worlds
    seen: set[int] = set()
    for world in search._found:
        for cell, table in zip(worlds.cells_of(world), worlds.tables, strict=True):
            record = table.records[cell.record].record
            held = [item for hold in cell.holds for item in table.items_of(hold)]
            merges = [i for i in (*cell.queue, *held) if worlds.mail.items[i].incoming.envelope.type == MERGE]
            siblings = record is not None and len(record.versions.live) > 1
            assert len(merges) <= 1
            assert merges or not siblings
            seen.add(len(merges))
    assert seen == {0, 1}


# -- mutants ---------------------------------------------------------------------------------------------------------


def _found(mutant: Mutant) -> str:
    """Return how broken rules show: a failure of the exploration, or, where it finds none, a law."""
    rules = mutant.rules()
    if not mutant.kind.startswith("law "):
        failure = mutant.case.search(rules).failure
        return failure.fault.kind if failure is not None and failure.fault is not None else "nothing"
    try:
        mutant.case.search(Watched(rules))
    except BrokenLawError as error:
        return f"law {error.law}"
    return "nothing"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule} {mutant.name}")
def test_rule_that_is_broken_is_caught(mutant: Mutant) -> None:
    """No rule can be dropped, bent or swapped with its neighbour without a schedule that shows it."""
    assert _found(mutant) == mutant.kind


@pytest.mark.parametrize("case", list(dict.fromkeys(mutant.case for mutant in MUTANTS)), ids=str)
def test_case_that_catches_a_mutant_is_well_with_the_rules_as_they_are(case: Case) -> None:
    """It is the mutation that is caught, and nothing else."""
    _, search = _judged(case)
    _assert_well(search)


def test_every_rule_has_a_mutant() -> None:
    """All eight rules are mutated, and no mutant is checked twice in the same way."""
    assert {mutant.rule for mutant in MUTANTS} == set(range(1, 9))
    sources = [mutated(mutant.changes) for mutant in MUTANTS]
    assert SOURCE not in sources
    shown = {(source, mutant.case) for source, mutant in zip(sources, MUTANTS, strict=True)}
    assert len(shown) == len(MUTANTS)


@pytest.mark.parametrize("name", SWAPPED_REFUSALS)
def test_swapped_refusals_change_nothing_but_the_reason(name: str) -> None:
    """Of two tests that both refuse, either may come first: the message is handled again, in the same worlds."""
    rules = rules_of(mutated(SWAPPED_REFUSALS[name]))
    for case in (
        Case(Prompt, patient=True, workers=3),
        Case(Narrow, votes=3, needs=3, workers=3),
        Case(Ballot, rollbacks=1),
    ):
        search, other = case.search(), case.search(Watched(rules))
        _assert_well(other)
        assert (other.states, other.transitions) == (search.states, search.transitions)
