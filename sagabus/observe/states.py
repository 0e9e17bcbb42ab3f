"""The state of a saga at any of its versions, also at those that no store has any more. Pure.

A record keeps the states of live versions, and of all others the messages and digests. So past states are made again:
today's code runs the history, as `sagabus replay` does. The digest says whether that gives what was stored then.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from sagabus.codec import shown_state
from sagabus.commit import HistoryEntry, Outcome, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.digest import HalfDigest, hashed
from sagabus.errors import SagabusError, VersionNotFoundError
from sagabus.observe.changes import Change, changes
from sagabus.observe.graph import short_names
from sagabus.observe.record import RecordedSaga
from sagabus.observe.rerun import Comparison, Rerun, rerun
from sagabus.versions import Dot


class Proof(enum.Enum):
    """How sure it is that a state is the one that was stored.

    STORED: the store has it.
    REMADE: today's code has made it again, and its digest is that of what was stored.
    UNSURE: today's code has made it again, and nothing tells whether it was the same then.
    DIFFERS: today's code gives another state than what was stored.
    UNKNOWN: there is none to show.
    """

    STORED = "stored"
    REMADE = "re-made"
    UNSURE = "unsure"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


class UnknownStateError(SagabusError):
    """The state of a version is not known any more.

    Attributes:
        dot: which version.
    """

    def __init__(self, key: object, state: PastState) -> None:
        super().__init__(f"the state of {key} at {state.dot} is not known: {state.remark}")
        self.dot = state.dot


@frozen
class PastState:
    """The state of one version.

    Attributes:
        dot: which version.
        state: as its codec wrote it, secrets encrypted; None where there is none to show.
        proof: how sure it is.
        remark: what there is to say of that; empty for what is certain.
        entry: the commit that wrote it; None where the history does not reach back to it.
    """

    dot: Dot
    state: bytes | None
    proof: Proof
    remark: str = ""
    entry: HistoryEntry | None = None

    @property
    def plain(self) -> Any:
        """Return the state as plain data for people, what is encrypted as it is stored; None where there is none."""
        return None if self.state is None else shown_state(self.state)


@frozen
class PastStates:
    """The states of all versions that a history names.

    Attributes:
        recorded: the saga.
        states: dot -> state, in the order of the history; those it only names as parents first.
        reruns: dot -> the commit that wrote it, made again.
        comparison: what today's code makes of the history.
    """

    recorded: RecordedSaga
    states: Mapping[Dot, PastState]
    reruns: Mapping[Dot, Rerun] = field(repr=False)
    comparison: Comparison = field(repr=False)

    def named(self, name: str) -> Dot:
        """Return the dot that people call *name*: whole, as graphs show it, or by its number alone where one has it.

        Raises:
            VersionNotFoundError: there is none, or more than one.
        """
        shown = short_names(self.recorded.history)
        exact = [dot for dot in self.states if name in (str(dot), shown.get(dot))]
        found = exact or [dot for dot in self.states if str(dot.counter) == name]
        if len(found) != 1:
            raise VersionNotFoundError(str(self.recorded.key), name, [shown.get(dot, str(dot)) for dot in self.states])
        return found[0]

    def at(self, dot: Dot) -> PastState:
        """Return the state at *dot*.

        Raises:
            VersionNotFoundError: the history does not name it.
        """
        if dot not in self.states:
            raise VersionNotFoundError(str(self.recorded.key), str(dot), [str(known) for known in self.states])
        return self.states[dot]

    def parents(self, dot: Dot) -> tuple[PastState, ...]:
        """Return the states that the one at *dot* was computed from."""
        entry = self.at(dot).entry
        return tuple(self.states[parent] for parent in entry.parents) if entry else ()

    def changed(self, before: Dot, after: Dot) -> tuple[Change, ...]:
        """Return where the state at *after* differs from that at *before*; nothing where one is not known."""
        return difference(self.at(before), self.at(after))


def difference(before: PastState, after: PastState) -> tuple[Change, ...]:
    """Return where *after* differs from *before*; nothing where one is not known."""
    if before.state is None or after.state is None:
        return ()
    return tuple(changes(before.plain, after.plain))


def at(definition: SagaDefinition, recorded: RecordedSaga, dot: Dot) -> PastState:
    """Return the state of a recorded saga at *dot*; of several, ask `past_states` once.

    Raises:
        VersionNotFoundError: its history does not name it.
    """
    return past_states(definition, recorded).at(dot)


def past_states(
    definition: SagaDefinition, recorded: RecordedSaga, kept: Mapping[Dot, bytes] | None = None
) -> PastStates:
    """Return the states of all versions that the history of a recorded saga names.

    Args:
        kept: further states that the store has, as `kept_parents` finds them.
    """
    stored = {**(kept or {}), **{version.dot: version.stored for version in recorded.versions}}
    comparison = rerun(definition, recorded)
    reruns = {rerun.entry.dot: rerun for rerun in comparison.commits if rerun.entry.dot is not None}
    entries = {entry.dot: entry for entry in recorded.history if entry.dot is not None}
    trimmed = dict.fromkeys(dot for e in recorded.history for dot in e.parents if dot not in entries)
    states = {dot: _trimmed(dot, stored.get(dot)) for dot in (*trimmed, *(d for d in stored if d not in entries))}
    for dot, entry in entries.items():
        if dot in stored:
            states[dot] = PastState(dot, stored[dot], Proof.STORED, entry=entry)
        else:
            states[dot] = _remade(dot, entry, reruns.get(dot), comparison)
    return PastStates(recorded, states, reruns, comparison)


def kept_parents(snapshot: Snapshot, history: Sequence[HistoryEntry]) -> dict[Dot, bytes]:
    """Return the states of past versions that a record keeps, as parents of siblings whose merger wants ancestors."""
    parents = {entry.dot: entry.parents for entry in history if entry.dot is not None}
    return {
        parents[version.dot][0]: version.parent
        for version in snapshot.versions
        if version.parent is not None and len(parents.get(version.dot, ())) == 1
    }


def _trimmed(dot: Dot, stored: bytes | None) -> PastState:
    if stored is not None:
        return PastState(dot, stored, Proof.STORED)
    return PastState(dot, None, Proof.UNKNOWN, "the history is trimmed: it does not reach back to this version")


def _remade(dot: Dot, entry: HistoryEntry, made: Rerun | None, comparison: Comparison) -> PastState:
    if made is None:
        return PastState(dot, None, Proof.UNKNOWN, _unreplayed(entry, comparison), entry)
    state = made.written
    if state is None:
        said = "; ".join(difference.text for difference in made.differences) or "today's code stores no version there"
        return PastState(dot, None, Proof.UNKNOWN, said, entry)
    digest = _state_digest(entry)
    if digest == hashed(state):
        return PastState(dot, state, Proof.REMADE, entry=entry)
    if comparison.evolved:
        why = "the class of the state has changed since, so nothing tells whether it was the same"
    elif not digest:
        why = "an older sagabus stored it without a digest, so nothing tells whether it was the same"
    else:
        return PastState(dot, state, Proof.DIFFERS, "today's code gives another state than what was stored", entry)
    return PastState(dot, state, Proof.UNSURE, why, entry)


def _unreplayed(entry: HistoryEntry, comparison: Comparison) -> str:
    if comparison.refusal:
        return comparison.refusal
    return f"its life, the {entry.life}., is not remembered from its start"


def _state_digest(entry: HistoryEntry) -> bytes:
    """Return the digest of the state that was stored with *entry*; empty where it has none."""
    decided = entry.outcome is Outcome.STORED and entry.decision is not None
    half: HalfDigest | None = entry.decision if decided else entry.facts
    return half.state if half is not None else b""
