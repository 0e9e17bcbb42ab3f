"""What can happen to one saga, worked out once for each thing that can be seen of it.

`advance` and `apply_commit` are called for every step that was not taken before, on real records and commits. What is
remembered is canonical: see `records.py`. Of what a load has seen, it is kept which of the versions that still count it
covers, whether those it was computed from are live, and whether it has seen what a failover lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from attrs import evolve, field, frozen

from sagabus.advance import advance
from sagabus.commit import Commit, Half, Outcome, Result, Snapshot, Want
from sagabus.definition import SagaDefinition
from sagabus.envelope import Incoming, SagaKey
from sagabus.messages import MERGE
from sagabus.outgoing import posted_merge
from sagabus.saga import Saga
from sagabus.store.memory import Record, apply_commit, take_snapshot
from sagabus.testing.simulator.mail import Mail, Sketch
from sagabus.testing.simulator.records import Kept, Lost, Records, actor_of
from sagabus.testing.simulator.scene import START_MS, envelope_of
from sagabus.versions import Dot

_LOST: Final = Dot("lost", 1)


class Rules(Protocol):
    """What a store does with a commit: `apply_commit`, or another one to be checked."""

    def __call__(
        self, record: Record | None, commit: Commit, *, actor: str, now_ms: int, by: str
    ) -> tuple[Result, Record | None]:
        """Return what becomes of *commit*, and the record after it."""
        ...


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


class Hold(NamedTuple):
    """A run that is not committed yet, and what it has seen.

    Attributes:
        run: its number.
        seen: bit i is set where it has seen version number i of those that count.
        parents: the numbers of the versions that it was computed from; -1 for one that counts no more.
        lost: whether it has seen what a failover has lost.
    """

    run: int
    seen: int
    parents: tuple[int, ...]
    lost: bool


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


@frozen(eq=False)
class Move:
    """What came of a commit.

    Attributes:
        outcome, reason: of its result.
        after: the number of the record afterwards.
        renamed: number of a version before -> its number afterwards; -1 for one that counts no more.
        facts: what left with the facts, but for timers.
        decision: what left with the decision, but for timers.
        timers: the items of timers that were set.
        merge: the item of the MergeSagaState that was posted; None where none was.
        changed: whether the record is another one now.
        fault: what must not be.
    """

    outcome: Outcome
    reason: str
    after: int
    renamed: tuple[int, ...]
    facts: tuple[Sketch, ...] = ()
    decision: tuple[Sketch, ...] = ()
    timers: tuple[int, ...] = ()
    merge: int | None = None
    changed: bool = False
    fault: Fault | None = None


class Examination:
    """Looks for what must not be; this one finds nothing."""

    def siblings(self, kept: Kept) -> Fault | None:
        """Return what is wrong with how the siblings of a record merge."""
        return None

    def run(
        self, snapshot: Snapshot, incoming: Sequence[Incoming], commit: Commit, merged: bytes | None
    ) -> Fault | None:
        """Return what is wrong with a run; *merged* is what its siblings merge to, where they are merged at once."""
        return None


@frozen(eq=False)
class SagaTables:
    """What was worked out for one saga.

    Attributes:
        key: which.
        definition: its class.
        mail: the messages.
        rules: what the store does.
        examination: looks at siblings and at each new run.
        rollbacks: how many commits a failover may lose.
        dot_order: whether the order of siblings may make a difference. It makes none where *examination* sees that
            the merger is commutative on every set of siblings that is reached.
    """

    key: SagaKey
    definition: SagaDefinition
    mail: Mail
    rules: Rules = apply_commit
    examination: Examination = field(factory=Examination)
    rollbacks: int = 0
    dot_order: bool = True
    records: Records = field(init=False)
    runs: list[Run] = field(factory=list, init=False)
    holds: list[Hold] = field(factory=list, init=False)
    _run_of: dict[Any, int] = field(factory=dict, init=False)
    _loads: dict[Any, Loaded] = field(factory=dict, init=False)
    _hold_of: dict[Hold, int] = field(factory=dict, init=False)
    _concrete: dict[int, Commit] = field(factory=dict, init=False)
    _made: dict[Any, Loaded | Run] = field(factory=dict, init=False)
    _merged: dict[tuple[bytes, ...], bytes | None] = field(factory=dict, init=False)
    _merging: dict[Any, Loaded | Run] = field(factory=dict, init=False)
    _told: dict[Any, bool] = field(factory=dict, init=False)
    _rollbacks: dict[Any, Move] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        records = Records(self.mail.exact, self.definition.ancestral, self.dot_order)
        object.__setattr__(self, "records", records)

    # -- loads ---------------------------------------------------------------------------------------------------

    def load(self, record: int, items: tuple[int, ...], clock_ms: int) -> Loaded:
        """Return what a worker holds that loads the saga for *items*, in this order, at a time after the start."""
        known = record, items, clock_ms
        found = self._loads.get(known)
        if found is None:
            found = self._loads[known] = self._load(self.records[record], items, START_MS + clock_ms)
        return found

    def snapshot(self, kept: Kept, items: Sequence[int], now_ms: int) -> tuple[Snapshot, list[Incoming]]:
        """Return what the store says of a record, and the messages about to be handled."""
        incoming = [Incoming(self.mail.items[number].incoming.envelope) for number in items]
        want = Want(self.key, tuple(message.id for message in incoming))
        return take_snapshot(kept.record, want, now_ms), incoming

    def _load(self, kept: Kept, items: tuple[int, ...], now_ms: int) -> Loaded:
        # What a run comes to depends on what it can see alone, so it is made once for all records that look alike.
        consumed = kept.record.consumed if kept.record is not None else {}
        known = kept.looks, items, now_ms, tuple(self.mail.items[number].name in consumed for number in items)
        made = self._made.get(known)
        if made is None:
            made = self._made[known] = self._make(kept, items, now_ms)
        if isinstance(made, Loaded):
            return made
        seen = sum(1 << number for number, dot in enumerate(kept.dots) if kept.clock.get(dot.actor))
        parents = kept.live if made.commit.parents else ()
        return Loaded(self._hold(Hold(made.number, seen, parents, False)))

    def _make(self, kept: Kept, items: tuple[int, ...], now_ms: int) -> Loaded | Run:
        """Run *items*; return the run, or why there is nothing to commit."""
        fault = self.examination.siblings(kept)
        if fault is not None:
            return Loaded(None, fault=fault)
        merged = self._merge(kept)
        if merged is None or kept.record is None:
            return self._run(kept, items, now_ms, None)
        # Of siblings a run sees what they merge to and, where it is told, that there were some; a commit, how many.
        record = kept.record
        consumed = tuple(self.mail.items[number].name in record.consumed for number in items)
        timers = tuple(sorted(record.timers.items()))
        known = record.life, merged, len(kept.states), record.starter, timers, consumed, items, now_ms
        made = self._merging.get(known)
        if made is None:
            made = self._merging[known] = self._run(kept, items, now_ms, merged)
        return made

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

    def _run(self, kept: Kept, items: tuple[int, ...], now_ms: int, merged: bytes | None) -> Loaded | Run:
        snapshot, incoming = self.snapshot(kept, items, now_ms)
        commit = advance(self.definition, snapshot, incoming)
        fault = self.examination.run(snapshot, incoming, commit, merged)
        if fault is not None:
            return Loaded(None, fault=fault)
        if len(commit.ids) == len(items):
            return self.runs[self._numbered(commit, items, now_ms, told=self._is_told(snapshot, commit, merged))]
        if commit.ids or len(items) > 1:
            return Loaded(None, "partly")
        if commit.failures:
            return Loaded(None, "failed", commit.failures[0].error)
        if commit.unmergeable is not None:
            return Loaded(None, "unmergeable", commit.unmergeable)
        return Loaded(None, "early" if commit.early else "stale" if commit.stale else "consumed")

    def _hold(self, hold: Hold) -> int:
        number = self._hold_of.get(hold)
        if number is None:
            number = self._hold_of[hold] = len(self.holds)
            self.holds.append(hold)
        return number

    def items_of(self, hold: int) -> tuple[int, ...]:
        """Return the items that a hold will consume."""
        return self.runs[self.holds[hold].run].items

    def _is_told(self, snapshot: Snapshot, commit: Commit, merged: bytes | None) -> bool:
        """Return whether the class changes the state when it is told of this merge: then no serial order has it."""
        if not commit.merged or MERGE not in self.definition.handlers:
            return False
        if merged is None:
            return True
        known = merged, commit.life, snapshot.starter, snapshot.now_ms
        found = self._told.get(known)
        if found is None:
            posted = posted_merge(self.key, commit.life, "told", self.definition.endpoint, snapshot.now_ms)
            alone = advance(self.definition, snapshot, [Incoming(envelope_of(posted))])
            found = self._told[known] = alone.facts.state != merged
        return found

    def _numbered(self, commit: Commit, items: tuple[int, ...], now_ms: int, *, told: bool) -> int:
        halves = [self._sketched(half, now_ms) for half in (commit.facts, commit.decision)]
        known = (
            items,
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
            *(self._half_known(*pair) for pair in zip((commit.facts, commit.decision), halves, strict=True)),
        )
        number = self._run_of.get(known)
        if number is None:
            number = self._run_of[known] = len(self.runs)
            self.runs.append(Run(number, commit, items, halves[0], halves[1], told))
        return number

    def _sketched(self, half: Half | None, now_ms: int) -> tuple[tuple[str, Sketch], ...]:
        if half is None:
            return ()
        return tuple((m.id, self.mail.sketch(m, now_ms)) for sent in half.outgoing.values() for m in sent)

    @staticmethod
    def _half_known(half: Half | None, sketched: tuple[tuple[str, Sketch], ...]) -> Any:
        if half is None:
            return None
        saying = dict(sketched)
        timers = tuple((saying[id_].number, "" if name == id_ else name) for name, id_ in half.timers.items())
        return half.state, tuple(sketch.number for _, sketch in sketched), timers, half.cancelled

    def order_of(self, hold: int) -> tuple[Any, ...]:
        """Return what orders holds of the same messages alike in every exploration."""
        run, seen, parents, lost = self.holds[hold]
        commit = self.runs[run].commit
        return seen, parents, lost, commit.late, commit.completes, commit.facts.state or b""

    # -- commits -------------------------------------------------------------------------------------------------

    def commit(self, record: int, hold: int, held_timers: tuple[int, ...], story: int) -> Move:
        """Return what becomes of a commit.

        Args:
            held_timers: items of timers that other workers have in hand; new ones are called otherwise.
            story: where the saga's tale stands, for what a failover takes back.
        """
        kept, run, commit = self.records[record], self.runs[self.holds[hold].run], self.concrete(hold)
        result, after = self.rules(kept.record, commit, actor=actor_of(len(kept.dots)), now_ms=START_MS, by="")
        if after is None:
            return self._move(result, kept.number, tuple(range(len(kept.dots))))
        stored = result.outcome is Outcome.STORED
        facts = [sketch for _, sketch in run.facts if not sketch.is_timer]
        decided = stored and commit.decision is not None
        decision = [sketch for _, sketch in run.decision if not sketch.is_timer] if decided else []
        names: dict[str, str] = {}
        timers: list[int] = []
        pending = {self.mail.named(self.key, id_) for id_ in after.timers.values()}
        for id_, sketch in (*run.facts, *(run.decision if decided else ())):
            if sketch.is_timer:
                # A timer replaces the pending one of its name; nameless ones stand beside each other.
                nameless = sketch.envelope.timer == sketch.envelope.id
                number = self.mail.fresh(self.key, sketch, (held_timers, *((pending, timers) if nameless else ())))
                names[id_] = self.mail.items[number].name
                timers.append(number)
        merge: int | None = None
        if result.posted_merge:
            posted = posted_merge(self.key, commit.life, commit.ids[-1], self.definition.endpoint, START_MS)
            merge = self.mail.fresh(self.key, self.mail.sketch(posted, START_MS), ())
            names[posted.id] = self.mail.items[merge].name
        past = (*kept.past, Lost(kept.record, run.items, story))[-self.rollbacks :] if self.rollbacks else ()
        number, renamed = self.records.keep(_renamed_ids(after, names), past, kept.dots)
        # By name: of two timers that say different things, both may have it, one after the other.
        live = set((self.records[number].record or Record()).timers.values())
        return self._move(
            result,
            number,
            renamed,
            tuple(facts),
            tuple(decision),
            tuple(timer for timer in timers if self.mail.items[timer].name in live),
            merge,
            self._judge(kept, commit, result, after, bool(decision)),
        )

    def concrete(self, hold: int) -> Commit:
        """Return the commit of a run as one that was computed from the versions as they are called now."""
        found = self._concrete.get(hold)
        if found is None:
            run, seen, parents, lost = self.holds[hold]
            context = {actor_of(number): 1 for number in range(seen.bit_length()) if seen >> number & 1}
            if lost:
                context[_LOST.actor] = _LOST.counter
            dots = tuple(Dot(actor_of(n) if n >= 0 else f"gone{place}", 1) for place, n in enumerate(parents))
            found = self._concrete[hold] = evolve(self.runs[run].commit, context=context, parents=dots)
        return found

    def _judge(self, kept: Kept, commit: Commit, result: Result, after: Record, decided: bool) -> Fault | None:
        before = kept.record
        live = len(after.versions.live)
        if result.outcome is Outcome.LATE:
            return None
        if before is not None and before.completed and not commit.begins_life:
            return Fault("completed-twice", f"{self.key} was changed after it had completed")
        if live > 1 and (decided or after.completed):
            return Fault("unsettled", f"{self.key} let a decision out while it had {live} versions")
        if live > self.definition.limits.siblings and not commit.merged:
            return Fault("siblings", f"{self.key} has {live} siblings; its limit is {self.definition.limits.siblings}")
        if live > 1 and not after.pending_merge:
            return Fault("unsettled", f"{self.key} has {live} versions and no MergeSagaState under way")
        return None

    @staticmethod
    def _move(result: Result, after: int, renamed: tuple[int, ...], *rest: Any) -> Move:
        changed = result.outcome not in (Outcome.AGAIN, Outcome.DUPLICATE)
        facts, decision, timers, merge, fault = rest or ((), (), (), None, None)
        return Move(result.outcome, result.reason, after, renamed, facts, decision, timers, merge, changed, fault)

    def rename(self, hold: int, move: Move) -> int:
        """Return a hold as it is after somebody else's commit, or after a failover."""
        run, seen, parents, lost = self.holds[hold]
        now_seen = 0
        for before, now in enumerate(move.renamed):
            if seen >> before & 1:
                if now >= 0:
                    now_seen |= 1 << now
                elif now == _TAKEN_BACK:
                    lost = True
        now_parents = tuple(max(move.renamed[number], -1) if number >= 0 else -1 for number in parents)
        return self._hold(Hold(run, now_seen, now_parents, lost))

    def roll_back(self, record: int) -> tuple[Move, Lost]:
        """Return what a failover makes of a record, and what it takes back."""
        kept = self.records[record]
        lost = kept.past[-1]
        found = self._rollbacks.get(record)
        if found is None:
            number, renamed = self.records.keep(lost.record, kept.past[:-1], kept.dots)
            clock = lost.record.versions.clock if lost.record else {}
            taken = tuple(
                _TAKEN_BACK if now < 0 and not clock.get(dot.actor) else now
                for dot, now in zip(kept.dots, renamed, strict=True)
            )
            found = Move(Outcome.STORED, "failover", number, taken, changed=True)
            self._rollbacks[record] = found
        return found, lost

    # -- what is no longer of interest ---------------------------------------------------------------------------

    @property
    def hears_late(self) -> bool:
        """Return whether the class does something about late messages."""
        return self.definition.cls.on_late is not Saga.on_late

    def is_idle(self, record: int, number: int) -> bool:
        """Return whether handling an item can make no difference any more, whatever happens."""
        kept, item = self.records[record], self.mail.items[number]
        if kept.record is None or item.name in kept.record.consumed:
            return kept.record is not None
        if self.rollbacks:
            return False
        envelope = item.incoming.envelope
        if not kept.ended and (not envelope.timer or kept.record.timers.get(envelope.timer) == item.name):
            return False
        if kept.ended and not (envelope.timer or item.is_merge or self.hears_late or self.definition.restartable):
            return True
        loaded = self.load(record, (number,), 0)
        if loaded.fault is not None or loaded.hold is None:
            return loaded.reason == "stale"
        run = self.runs[self.holds[loaded.hold].run]
        return run.commit.late and not run.facts and not self.definition.restartable


_TAKEN_BACK: Final = -2


def _renamed_ids(record: Record, names: Mapping[str, str]) -> Record:
    if not names:
        return record
    timers = {names.get(name, name): names.get(id_, id_) for name, id_ in record.timers.items()}
    return evolve(record, timers=timers, pending_merge=names.get(record.pending_merge, record.pending_merge))
