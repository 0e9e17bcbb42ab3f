"""What each way of writing promises two writers who have read the same document."""

from __future__ import annotations

import subprocess
import sys

import pytest

from examples.optimistic_update.guests import NEWCOMERS, race
from sagabus import Bus, Documents


@pytest.fixture
def documents(sagabus_bus: Bus) -> Documents:
    """Return the documents of a bus on a server of its own."""
    return sagabus_bus.documents


def test_put_with_etag_refuses_the_slower_and_names_both_etags(documents: Documents) -> None:
    """Exactly one of two gets through; the other hears what it expected, and what is there instead."""
    outcome = race(documents, "put(etag=)")
    ((name, error),) = outcome.refused.items()
    assert outcome.names == {"Zoe", *NEWCOMERS} - {name}
    assert outcome.lost == []
    assert error.expected == outcome.read
    assert error.actual not in (None, outcome.read)
    assert str(error.expected) in str(error)
    assert str(error.actual) in str(error)


def test_overwrite_loses_an_update(documents: Documents) -> None:
    """Nobody is refused, and one of the two is invited by nobody."""
    outcome = race(documents, "overwrite()")
    assert outcome.refused == {}
    assert len(outcome.lost) == 1
    assert outcome.names == {"Zoe", *NEWCOMERS} - set(outcome.lost)


def test_put_with_what_was_seen_keeps_both(documents: Documents) -> None:
    """Nobody is refused, nothing is lost, and no siblings are left."""
    outcome = race(documents, "put(seen=) + merger")
    assert (outcome.refused, outcome.lost) == ({}, [])
    assert outcome.names == {"Zoe", *NEWCOMERS}


def test_example_prints_the_three_side_by_side() -> None:
    """One line each, and the error of the one who was refused."""
    command = [sys.executable, "-m", "examples.optimistic_update"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    first, second, third = (line.split() for line in lines[3:6])
    assert first[1] in NEWCOMERS
    assert (second[1], second[2] in NEWCOMERS) == ("-", True)
    assert third[-5:] == ["-", "-", "Ann,", "Ben,", "Zoe"]
    assert "was expected as" in lines[-1]
