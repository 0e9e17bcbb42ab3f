"""Damaged sagas that people look at: what is shown says so, and nothing ends in an error that nobody expects."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import pytest

from sagabus.ending import Cancellation, cancellation, ended
from sagabus.errors import SagabusError
from sagabus.observe.as_test import as_test
from sagabus.observe.merge_view import past_merges, view_merge, view_siblings
from sagabus.observe.record import Look, RecordedVersion, look
from sagabus.observe.states import kept_parents, past_states
from sagabus.observe.waits_for import gather
from sagabus.observe.what_if import what_if
from tests.changes import evolve
from tests.unit import test_record as races

SEEDS = range(80)


def damaged(random: Random, data: bytes) -> bytes:
    """Return *data* with something in it changed, cut, put in, or all of it replaced."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(found) + 1)
        match random.randrange(4):
            case 0:
                found[at : at + 1] = random.randbytes(1)
            case 1:
                del found[at:]
            case 2:
                found.insert(at, random.randrange(256))
            case _:
                found = bytearray(random.randbytes(random.randrange(20)))
    return bytes(found)


def harmed(random: Random, seen: Look) -> Look:
    """Return a look at the same saga with damage in its states, its starter, its outbox and its history."""

    def perhaps(data: bytes | None) -> Any:
        return damaged(random, data) if data and random.random() < 0.6 else data

    snapshot = evolve(
        seen.snapshot,
        versions=tuple(evolve(v, state=perhaps(v.state), parent=perhaps(v.parent)) for v in seen.snapshot.versions),
        starter=perhaps(seen.snapshot.starter),
        consumed={id_: perhaps(lines) for id_, lines in seen.snapshot.consumed.items()},
    )
    history = list(seen.recorded.history)
    if random.random() < 0.3:
        del history[random.randrange(len(history))]
    versions = tuple(RecordedVersion(version.dot, version.state) for version in snapshot.versions)
    return Look(snapshot, evolve(seen.recorded, versions=versions, history=tuple(history)))


@pytest.mark.parametrize("merger", [races.best, races.by_change])
def test_looking_at_a_damaged_saga_shows_what_there_is(merger: Any) -> None:
    """What it waits for and its states always come; what cannot be merged or made a test is an expected error."""
    definition = races.changed(merger=merger)
    for seed in SEEDS:
        store = races.chance(definition, seed)
        if not store.history(races.KEY):
            continue
        seen = harmed(Random(seed), look(store, races.KEY, "some.app:bus"))
        snapshot, recorded = seen.snapshot, seen.recorded
        gather(store, definition, seen)
        past = past_states(definition, recorded, kept_parents(snapshot, recorded.history))
        for state in past.states.values():
            assert state.state is None or state.plain is not None
        for entry in past_merges(recorded):
            assert entry.dot is not None
            view_merge(definition, past, entry.dot)
        with suppress(SagabusError):
            view_siblings(definition, snapshot, recorded)
        with suppress(SagabusError):
            assert what_if(definition, snapshot).answers
        with suppress(SagabusError):
            compile(as_test(definition, recorded), "generated", "exec")
        ended(definition, snapshot, cancellation(snapshot.key, snapshot.life, "x", Cancellation("ann"), 0))
