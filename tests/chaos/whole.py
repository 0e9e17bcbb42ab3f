"""Is every saga whole: do its state, its consumed ids, its outbox and its history speak of the same commits?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from examples.credit_check.saga import CreditCheck
from sagabus import Bus
from sagabus.commit import Lifecycle, Outcome, Snapshot, Want
from sagabus.definition import definition_of
from sagabus.envelope import Incoming, SagaKey
from sagabus.link import Command
from sagabus.store.layout import Keys
from tests.chaos.load.sagas import Gathering, Watch

Written = dict[tuple[str, int, str], tuple[str, ...]]
"""(saga, life, dot) -> the ids of the messages that a version was written for."""


def written(bus: Bus) -> Written:
    """Return every version that the histories of all sagas tell of."""
    found: Written = {}
    for row in bus.store.sagas():
        for entry in bus.store.history(row.key):
            if entry.dot is not None:
                found[str(row.key), entry.life, str(entry.dot)] = tuple(m.id for m in entry.messages)
    return found


def completed(bus: Bus) -> set[SagaKey]:
    """Return the sagas that have completed."""
    return {row.key for row in bus.store.sagas() if row.lifecycle is Lifecycle.COMPLETED}


def halves(bus: Bus) -> Iterator[str]:
    """Yield what is half there, a line each; nothing where every commit is there whole, or not at all.

    Nobody may write meanwhile. Histories must not have been trimmed.
    """
    store: Any = bus.store
    keys = Keys(bus.namespace)
    for row in store.sagas():
        prefix = keys.saga(row.key)
        consumed, outbox = store.link.round(
            [Command(("ZRANGE", f"{prefix}i", 0, -1), f"{prefix}i"), Command(("HKEYS", f"{prefix}o"), f"{prefix}o")]
        )
        ids = {id_.decode() for id_ in consumed}
        history = store.history(row.key)
        told = {message.id for entry in history for message in entry.messages}
        (snapshot,) = store.load([Want(row.key)])
        # An id that comes twice in history was consumed again by the merge that was posted again.
        if ids - told or told - ids - {snapshot.pending_merge}:
            yield f"{row.key}: consumed {sorted(ids ^ told)} in one book only"
        if unknown := {id_.decode() for id_ in outbox} - ids:
            yield f"{row.key}: an outbox of {sorted(unknown)}, which were not consumed"
        dots = {entry.dot for entry in history if entry.dot is not None}
        if missing := {version.dot for version in snapshot.versions} - dots:
            yield f"{row.key}: versions {sorted(map(str, missing))} that no commit wrote"
        if sum(snapshot.clock.values()) != len(dots):
            yield f"{row.key}: a clock of {snapshot.clock}, and {len(dots)} commits that wrote"
        yield from _states(row.key, snapshot, history)


def _states(key: SagaKey, snapshot: Snapshot, history: Any) -> Iterator[str]:
    """Yield where the states, taken together, are not what the messages in history say."""
    handled = [Incoming(m) for entry in history if entry.outcome is not Outcome.LATE for m in entry.messages]
    if key.name == "CreditCheck":
        states = [definition_of(CreditCheck).codec.decode(version.state) for version in snapshot.versions]
        told = {m.message.bureau for m in handled if m.envelope.type == "credit.score-reported"}
        known = {bureau for state in states for bureau in state.scores}
    elif key.name == "Gathering":
        states = [definition_of(Gathering).codec.decode(version.state) for version in snapshot.versions]
        told = {m.message.part for m in handled if m.envelope.type == "chaos.piece-made"}
        known = {part for state in states for part in state.made}
    else:
        states = [definition_of(Watch).codec.decode(version.state) for version in snapshot.versions]
        told = {m.envelope.type for m in handled} & {"chaos.bell", "chaos.call-off"}
        known = {name for state in states for name, is_so in _marks(state) if is_so}
    if told != known:
        yield f"{key}: its state knows {sorted(known)}, its history tells of {sorted(told)}"


def _marks(state: Any) -> tuple[tuple[str, bool], ...]:
    return ("chaos.bell", state.rung), ("chaos.call-off", state.called_off)
