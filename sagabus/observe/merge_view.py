"""A merge, looked at: the ancestor, each side, the result, and what the merger ignored. Pure.

Of siblings that are live, or of a merge that has been: a commit of two or more parents. The states of past versions are
made again by today's code (`sagabus.observe.states`), and each says how sure it is. The result is that of today's
merger, over these states; what was stored by that commit comes after it, with what handlers and `decide()` made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from sagabus.codec import shown_state
from sagabus.commit import HistoryEntry, Snapshot, StoredVersion
from sagabus.definition import SagaDefinition
from sagabus.envelope import SagaKey
from sagabus.errors import NothingToMergeError
from sagabus.merging import merge_order, merged
from sagabus.observe.changes import Change, changes
from sagabus.observe.ignored import Ignored, ignored
from sagabus.observe.lineage import common_origin
from sagabus.observe.record import RecordedSaga
from sagabus.observe.states import PastState, PastStates, Proof, kept_parents, past_states
from sagabus.observe.what_if import check_mergeable, in_a_line
from sagabus.versions import Dot


@frozen
class Side:
    """One of the versions that are merged.

    Attributes:
        version: its state.
        changed: what it changed since the ancestor; nothing where that is not known.
        ignored: what of that the result does not have.
    """

    version: PastState
    changed: tuple[Change, ...]
    ignored: tuple[Ignored, ...]


@frozen
class MergeView:
    """One merge.

    Attributes:
        key: which saga.
        at: the commit that merged; None for siblings that are live.
        ancestor: the latest version that all sides descend from; None where they were first writes, or none is known.
        ancestor_state: its state as plain data, the initial one for first writes; None where it is not known.
        sides: what is merged, in dot order.
        result: what today's merger makes of them, as plain data, secrets encrypted; None where there is none.
        error: why there is none, in a line; else empty.
        written: the state that the commit stored, after handlers and decision; None for siblings that are live.
        remarks: what is not sure, a sentence each.
    """

    key: SagaKey
    at: HistoryEntry | None
    ancestor: PastState | None
    ancestor_state: Any
    sides: tuple[Side, ...]
    result: Any
    error: str
    written: PastState | None
    remarks: tuple[str, ...]

    @property
    def ignored(self) -> tuple[tuple[Dot, Ignored], ...]:
        """Return what the merger ignored, with the side whose change it was."""
        return tuple((side.version.dot, one) for side in self.sides for one in side.ignored)


def view_siblings(definition: SagaDefinition, snapshot: Snapshot, recorded: RecordedSaga) -> MergeView:
    """Return how today's merger would merge the siblings in *snapshot*, of which *recorded* is the history.

    Raises:
        NothingToMergeError: there are no siblings, or the saga has no merger.
    """
    check_mergeable(definition, snapshot)
    past = past_states(definition, recorded, kept_parents(snapshot, recorded.history))
    states = [past.states.get(v.dot) or PastState(v.dot, v.state, Proof.STORED) for v in snapshot.versions]
    return _view(definition, past, states, snapshot.versions, None)


def view_merge(definition: SagaDefinition, past: PastStates, dot: Dot) -> MergeView:
    """Return the merge that wrote the version *dot*.

    Raises:
        VersionNotFoundError: the history does not name it.
        NothingToMergeError: it was computed from one version, or none; or the saga has no merger any more.
    """
    entry = past.at(dot).entry
    if entry is None or len(entry.parents) < 2:
        what = "its history does not reach back to it" if entry is None else "it was computed from one version alone"
        raise NothingToMergeError(f"{past.recorded.key} at {dot}", what)
    if definition.merger is None:
        raise NothingToMergeError(f"{past.recorded.key} at {dot}", f"{definition.name} has no merger any more")
    states = [past.at(parent) for parent in entry.parents]
    return _view(definition, past, states, _versions(past, states), entry)


def past_merges(recorded: RecordedSaga) -> tuple[HistoryEntry, ...]:
    """Return the commits of a history that merged, oldest first."""
    return tuple(entry for entry in recorded.history if len(entry.parents) > 1 and entry.dot is not None)


def _versions(past: PastStates, states: Sequence[PastState]) -> tuple[StoredVersion, ...]:
    """Return the versions of *states* as the merging run had loaded them; nothing where one is not known."""
    found = []
    for state in states:
        made = past.reruns.get(state.dot)
        if state.state is None:
            return ()
        context = made.commit.context if made else {}
        found.append(StoredVersion(state.dot, context, state.state, made.commit.parent if made else None))
    return tuple(found)


def _view(
    definition: SagaDefinition,
    past: PastStates,
    states: Sequence[PastState],
    versions: Sequence[StoredVersion],
    entry: HistoryEntry | None,
) -> MergeView:
    origin = common_origin(past.recorded.history, [state.dot for state in states])
    ancestor = past.states.get(origin.dots[-1]) if origin.dots else None
    initial = shown_state(definition.codec.encode(definition.codec.state_type())) if origin.first else None
    base = initial if ancestor is None else ancestor.plain
    result, error = _result(definition, versions)
    known = base is not None and all(state.state is not None for state in states)
    lost = ignored(base, [state.plain for state in states], result) if known and not error else [() for _ in states]
    sides = tuple(
        Side(state, tuple(changes(base, state.plain)) if known else (), ignoring)
        for state, ignoring in zip(states, lost, strict=True)
    )
    written = past.states.get(entry.dot) if entry is not None and entry.dot is not None else None
    remarks = [f"{state.dot}: {state.remark}" for state in (*states, ancestor, written) if state and state.remark]
    if len(origin.dots) > 1:
        others = ", ".join(map(str, origin.dots[:-1]))
        remarks.append(f"the sides descend from {others} too; they are compared with {origin.dots[-1]}")
    if base is None and not origin.dots:
        remarks.append("the history is trimmed: it does not reach back to what the sides have in common")
    return MergeView(
        past.recorded.key, entry, ancestor, base, sides, result, error, written, tuple(dict.fromkeys(remarks))
    )


def _result(definition: SagaDefinition, versions: Sequence[StoredVersion]) -> tuple[Any, str]:
    if not versions:
        return None, "the state of a side is not known"
    try:
        state = merged(definition, merge_order(definition, versions))
        return shown_state(definition.codec.encode(state)), ""
    except Exception as error:
        return None, in_a_line(error)
