"""What handlers make of messages. A run is made once for all that begins alike, whatever the saga went through before.

Of siblings, a run sees what they merge to and, where its class is told of merges, that there were some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from attrs import field, frozen
from msgspec.structs import replace

from sagabus.advance import advance
from sagabus.commit import Commit, Half, Lifecycle, Snapshot, StoredVersion, Want
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming, SagaKey
from sagabus.messages import MERGE
from sagabus.outgoing import posted_merge
from sagabus.store.memory import take_snapshot
from sagabus.testing.simulator.mail import Mail, Sketch
from sagabus.testing.simulator.records import Kept
from sagabus.testing.simulator.scene import START_MS, envelope_of
from sagabus.versions import Dot, VersionVector

_DOT: Final = Dot("alone", 1)


@frozen
class Fault:
    """Something that must not be.

    Attributes:
        kind: a stable word.
        problem: what is wrong, for people.
    """

    kind: str
    problem: str


@frozen(eq=False)
class Run:
    """What one run asks of the store, whatever the versions that it was computed from are called.

    Attributes:
        number: tells it from other runs.
        commit: as the functional core made it.
        items: the messages that it consumes.
        facts: what it sends with its facts, with the ids that they have in the commit.
        decision: likewise with its decision.
        told: whether the class has made something of its own of the merge that it began with.
    """

    number: int
    commit: Commit
    items: tuple[int, ...]
    facts: tuple[tuple[str, Sketch], ...]
    decision: tuple[tuple[str, Sketch], ...]
    told: bool = False


@frozen(eq=False)
class Loaded:
    """What came of a load.

    Attributes:
        hold: the number of what is in hand then; None where there is nothing to commit.
        reason: why not: `early`, `stale`, `consumed`, `failed`, `unmergeable`, or `partly` where only some of the
            messages are handled.
        error: what was raised.
        fault: what must not be.
    """

    hold: int | None
    reason: str = ""
    error: BaseException | None = None
    fault: Fault | None = None


class Examination:
    """Looks for what must not be; this one finds nothing."""

    def siblings(self, kept: Kept) -> Fault | None:
        """Return what is wrong with how the siblings of a record merge."""
        return None

    def run(self, snapshot: Snapshot, incoming: Sequence[Incoming], commit: Commit) -> Fault | None:
        """Return what is wrong with a run."""
        return None


class Opening(NamedTuple):
    """All that a run can see: where it is equal, so is the commit, but for the names and number of its parents.

    Attributes:
        ended: whether the saga has completed.
        life: of which life; 0 where it is absent.
        state: its state, or what its siblings merge to; None where it is absent. Where that takes more than the
            siblings' states, or fails: the looks of the record.
        starter: who started it.
        siblings: whether there are siblings, where that makes a difference.
        current: which of the messages are no timers that were cancelled or replaced.
        consumed: which of them were consumed before.
        items: the messages.
        now_ms: the time.
    """

    ended: bool
    life: int
    state: bytes | int | None
    starter: bytes
    siblings: bool
    current: tuple[bool, ...]
    consumed: tuple[bool, ...]
    items: tuple[int, ...]
    now_ms: int


@frozen(eq=False)
class Runs:
    """All runs that an exploration has met of one saga.

    Attributes:
        key: which saga.
        definition: its class.
        mail: the messages.
        examination: looks at siblings and at each new run.
    """

    key: SagaKey
    definition: SagaDefinition
    mail: Mail
    examination: Examination
    _runs: list[Run] = field(factory=list, init=False)
    _number_of: dict[Any, int] = field(factory=dict, init=False)
    _made: dict[Any, Loaded | Run] = field(factory=dict, init=False)
    _begun: dict[tuple[Opening, int, bool], Run] = field(factory=dict, init=False)
    _examined: dict[Opening, Commit | Fault] = field(factory=dict, init=False)
    _alone: dict[Opening, Commit] = field(factory=dict, init=False)
    _merged: dict[tuple[bytes, ...], bytes | None] = field(factory=dict, init=False)
    _watched: set[bytes] = field(factory=set, init=False)
    _told: dict[Any, bool] = field(factory=dict, init=False)

    def __getitem__(self, number: int) -> Run:
        return self._runs[number]

    def make(self, kept: Kept, items: tuple[int, ...], now_ms: int) -> Loaded | Run:
        """Run *items* on a record; return the run, or why there is nothing to commit."""
        known = kept.looks, items, now_ms, self._consumed(kept, items)
        found = self._made.get(known)
        if found is None:
            found = self._made[known] = self._make(kept, items, now_ms)
        return found

    def alone(self, life: int, state: bytes | None, starter: bytes, item: int) -> Commit:
        """Return the commit of one message handled on one version with *state*, or begun with where there is none.

        Args:
            life: of the run.
        """
        ended, before = False, life - 1 if state is None else life
        opening = Opening(ended, before, state, starter, False, (True,), (False,), (item,), START_MS)
        found = self._examined.get(opening) or self._alone.get(opening)
        if not isinstance(found, Commit):
            incoming = Incoming(self.mail.items[item].incoming.envelope)
            timers = {incoming.envelope.timer: incoming.id} if incoming.envelope.timer else {}
            if state is None:
                snapshot = Snapshot(self.key, START_MS, life=before)
            else:
                live, versions = Lifecycle.LIVE, (StoredVersion(_DOT, {}, state),)
                clock = {_DOT.actor: _DOT.counter}
                snapshot = Snapshot(self.key, START_MS, live, life, clock, versions, timers=timers, starter=starter)
            found = self._alone[opening] = advance(self.definition, snapshot, [incoming])
        return found

    # -- what a run begins with ----------------------------------------------------------------------------------

    def _opening(self, kept: Kept, items: tuple[int, ...], now_ms: int, merged: bytes | None) -> Opening:
        record, messages = kept.record, [self.mail.items[number] for number in items]
        consumed = self._consumed(kept, items)
        if record is None:
            return Opening(False, 0, None, b"", False, (True,) * len(items), consumed, items, now_ms)
        timers = [(m.incoming.envelope.timer, m.name) for m in messages]
        current = tuple([not timer or record.timers.get(timer) == name for timer, name in timers])
        siblings = len(kept.states) > 1
        state: bytes | int = kept.looks if siblings else kept.states[0]
        if merged is not None:
            state, siblings = merged, MERGE in self.definition.handlers or all(m.is_merge for m in messages)
        return Opening(kept.ended, record.life, state, record.starter, siblings, current, consumed, items, now_ms)

    def _consumed(self, kept: Kept, items: tuple[int, ...]) -> tuple[bool, ...]:
        consumed = kept.record.consumed if kept.record is not None else {}
        return tuple([self.mail.items[number].name in consumed for number in items])

    def _merge(self, kept: Kept) -> bytes | None:
        """Return what siblings merge to; None where there are none, or their merger takes an ancestor, or fails."""
        merger, codec = self.definition.merger, self.definition.codec
        if len(kept.states) < 2 or merger is None or self.definition.ancestral:
            return None
        if kept.states not in self._merged:
            try:
                self._merged[kept.states] = codec.encode(merger([codec.decode(state) for state in kept.states]))
            except Exception:
                # What the merger raises, the run raises too, and tells: `Commit.unmergeable`.
                self._merged[kept.states] = None
        return self._merged[kept.states]

    # -- making runs ---------------------------------------------------------------------------------------------

    def _make(self, kept: Kept, items: tuple[int, ...], now_ms: int) -> Loaded | Run:
        fault = self.examination.siblings(kept)
        if fault is not None:
            return Loaded(None, fault=fault)
        merged = self._merge(kept)
        opening = self._opening(kept, items, now_ms, merged)
        commit = self._examined.get(opening)
        if commit is None or (merged is not None and merged not in self._watched):
            commit = self._examined[opening] = self._examine(kept, opening, merged)
        if isinstance(commit, Fault):
            return Loaded(None, fault=commit)
        if len(commit.ids) == len(items):
            return self._run(kept, opening, commit, merged)
        if commit.ids or len(items) > 1:
            return Loaded(None, "partly")
        if commit.failures:
            return Loaded(None, "failed", commit.failures[0].error)
        if commit.unmergeable is not None:
            return Loaded(None, "unmergeable", commit.unmergeable)
        return Loaded(None, "early" if commit.early else "stale" if commit.stale else "consumed")

    def _examine(self, kept: Kept, opening: Opening, merged: bytes | None) -> Commit | Fault:
        snapshot, incoming = self._snapshot(kept, opening)
        commit = self._alone.pop(opening, None)
        if merged is not None:
            if merged in self._watched and not opening.siblings:
                # The merger was seen at work on these or others; what it makes is as good as a version.
                snapshot = replace(snapshot, versions=(StoredVersion(_DOT, {}, merged),))
            else:
                commit = None
            self._watched.add(merged)
        if commit is None:
            commit = advance(self.definition, snapshot, incoming)
        return self.examination.run(snapshot, incoming, commit) or commit

    def _snapshot(self, kept: Kept, opening: Opening) -> tuple[Snapshot, list[Incoming]]:
        """Return what the store says of a record, and the messages about to be handled."""
        incoming = [Incoming(self.mail.items[number].incoming.envelope) for number in opening.items]
        want = Want(self.key, tuple(message.id for message in incoming))
        return take_snapshot(kept.record, want, opening.now_ms), incoming

    def _run(self, kept: Kept, opening: Opening, commit: Commit, merged: bytes | None) -> Run:
        parents = kept.states if commit.parents else ()
        told = len(parents) > 1 and self._is_told(kept, opening, commit, merged)
        known = opening, len(parents), told
        found = self._begun.get(known)
        if found is None:
            if kept.record is not None and len(commit.parents) != len(parents):
                commit = with_parents(commit, commit.context, tuple(kept.record.versions.live))
            found = self._begun[known] = self._runs[self._number(opening, commit, told)]
        return found

    def _is_told(self, kept: Kept, opening: Opening, commit: Commit, merged: bytes | None) -> bool:
        """Return whether the class changes the state when it is told of this merge: then no serial order has it."""
        if MERGE not in self.definition.handlers:
            return False
        if merged is None:
            return True
        known = merged, commit.life, opening.starter, opening.now_ms
        found = self._told.get(known)
        if found is None:
            snapshot, _ = self._snapshot(kept, opening)
            posted = posted_merge(self.key, commit.life, "told", self.definition.endpoint, snapshot.now_ms)
            alone = advance(self.definition, snapshot, [Incoming(envelope_of(posted))])
            found = self._told[known] = alone.facts.state != merged
        return found

    def _number(self, opening: Opening, commit: Commit, told: bool) -> int:
        halves = [self._sketched(half, opening.now_ms) for half in (commit.facts, commit.decision)]
        known = (
            opening.items,
            commit.life,
            commit.begins_life,
            commit.late,
            commit.completes,
            commit.must_settle,
            tuple(commit.fired.items()),
            commit.starter,
            len(commit.parents),
            commit.parent,
            told,
            *(_half_known(*pair) for pair in zip((commit.facts, commit.decision), halves, strict=True)),
        )
        number = self._number_of.get(known)
        if number is None:
            number = self._number_of[known] = len(self._runs)
            self._runs.append(Run(number, commit, opening.items, halves[0], halves[1], told))
        return number

    def _sketched(self, half: Half | None, now_ms: int) -> tuple[tuple[str, Sketch], ...]:
        if half is None:
            return ()
        return tuple((m.id, self.mail.sketch(m, now_ms)) for sent in half.outgoing.values() for m in sent)


def with_parents(commit: Commit, context: VersionVector, parents: tuple[Dot, ...]) -> Commit:
    """Return *commit* as one that has seen *context*, and was computed from *parents*."""
    return replace(commit, context=context, parents=parents)


def _half_known(half: Half | None, sketched: tuple[tuple[str, Sketch], ...]) -> Any:
    if half is None:
        return None
    saying = dict(sketched)
    timers = tuple((saying[id_].number, "" if name == id_ else name) for name, id_ in half.timers.items())
    return half.state, tuple(sketch.number for _, sketch in sketched), timers, half.cancelled
