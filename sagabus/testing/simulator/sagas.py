"""What can happen to one saga, worked out once for each thing that can be seen of it.

`advance` and `apply_commit` are called for every step that was not taken before, on real records and commits. What is
remembered is canonical: see `records.py`. Of what a load has seen, it is kept which of the versions that still count it
covers, whether those it was computed from are live, and whether it has seen what a failover lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from attrs import evolve, field, frozen

from sagabus.commit import Commit, Outcome, Result
from sagabus.definition import SagaDefinition
from sagabus.envelope import SagaKey
from sagabus.outgoing import merge_id, posted_merge
from sagabus.saga import Saga
from sagabus.store.memory import Record, apply_commit
from sagabus.testing.simulator.mail import Mail, Sketch
from sagabus.testing.simulator.records import Kept, Lost, Records, actor_of
from sagabus.testing.simulator.runs import Examination, Fault, Loaded, Runs, with_parents
from sagabus.testing.simulator.scene import START_MS
from sagabus.versions import Dot

_LOST: Final = Dot("lost", 1)


class Rules(Protocol):
    """What a store does with a commit: `apply_commit`, or another one to be checked."""

    def __call__(
        self, record: Record | None, commit: Commit, *, actor: str, now_ms: int, by: str
    ) -> tuple[Result, Record | None]:
        """Return what becomes of *commit*, and the record after it."""
        ...


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


class View(NamedTuple):
    """What a hold has seen; see there."""

    seen: int
    parents: tuple[int, ...]
    lost: bool


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
        seen_as: view before -> view afterwards, as far as it was asked for.
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
    seen_as: dict[int, int] = field(factory=dict)


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
    runs: Runs = field(init=False)
    holds: list[Hold] = field(factory=list, init=False)
    _loads: dict[Any, Loaded] = field(factory=dict, init=False)
    _hold_of: dict[tuple[int, int], int] = field(factory=dict, init=False)
    _views: list[View] = field(factory=list, init=False)
    _view_of: dict[View, int] = field(factory=dict, init=False)
    _view_of_hold: list[int] = field(factory=list, init=False)
    _refused: dict[tuple[int, Outcome, str], Move] = field(factory=dict, init=False)
    _merges: dict[tuple[int, str], Sketch] = field(factory=dict, init=False)
    _concrete: dict[int, Commit] = field(factory=dict, init=False)
    _rollbacks: dict[Any, Move] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        records = Records(self.mail.exact, self.definition.ancestral, self.dot_order)
        object.__setattr__(self, "records", records)
        object.__setattr__(self, "runs", Runs(self.key, self.definition, self.mail, self.examination))

    # -- loads ---------------------------------------------------------------------------------------------------

    def load(self, record: int, items: tuple[int, ...], clock_ms: int) -> Loaded:
        """Return what a worker holds that loads the saga for *items*, in this order, at a time after the start."""
        known = record, items, clock_ms
        found = self._loads.get(known)
        if found is None:
            found = self._loads[known] = self._load(self.records[record], items, START_MS + clock_ms)
        return found

    def _load(self, kept: Kept, items: tuple[int, ...], now_ms: int) -> Loaded:
        made = self.runs.make(kept, items, now_ms)
        if isinstance(made, Loaded):
            return made
        seen = sum(1 << number for number, dot in enumerate(kept.dots) if kept.clock.get(dot.actor))
        parents = kept.live if made.commit.parents else ()
        return Loaded(self._hold(made.number, self._view(seen, parents, False)))

    def _view(self, seen: int, parents: tuple[int, ...], lost: bool) -> int:
        view = View(seen, parents, lost)
        number = self._view_of.get(view)
        if number is None:
            number = self._view_of[view] = len(self._views)
            self._views.append(view)
        return number

    def _hold(self, run: int, view: int) -> int:
        number = self._hold_of.get((run, view))
        if number is None:
            number = self._hold_of[run, view] = len(self.holds)
            self.holds.append(Hold(run, *self._views[view]))
            self._view_of_hold.append(view)
        return number

    def items_of(self, hold: int) -> tuple[int, ...]:
        """Return the items that a hold will consume."""
        return self.runs[self.holds[hold].run].items

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
            return self._refusal(kept, result)
        stored = result.outcome is Outcome.STORED
        facts = tuple(sketch for _, sketch in run.facts if not sketch.is_timer)
        decided = stored and commit.decision is not None
        decision = tuple(sketch for _, sketch in run.decision if not sketch.is_timer) if decided else ()
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
            merge = self.mail.fresh(self.key, self._posted(commit), ())
            names[merge_id(self.key, commit.life, commit.ids[-1])] = self.mail.items[merge].name
        past = (*kept.past, Lost(kept.record, run.items, story))[-self.rollbacks :] if self.rollbacks else ()
        number, renamed = self.records.keep(_renamed_ids(after, names), past, kept.dots)
        # By name: of two timers that say different things, both may have it, one after the other.
        live = set((self.records[number].record or Record()).timers.values()) if timers else ()
        return Move(
            result.outcome,
            result.reason,
            number,
            renamed,
            facts,
            decision,
            tuple(timer for timer in timers if self.mail.items[timer].name in live),
            merge,
            True,
            self._judge(kept, commit, result, after, bool(decision)),
        )

    def _refusal(self, kept: Kept, result: Result) -> Move:
        """Return what becomes of a commit that changes nothing."""
        known = kept.number, result.outcome, result.reason
        found = self._refused.get(known)
        if found is None:
            same = tuple(range(len(kept.dots)))
            found = self._refused[known] = Move(result.outcome, result.reason, kept.number, same)
        return found

    def _posted(self, commit: Commit) -> Sketch:
        """Return the MergeSagaState that is posted with a commit: another for each only where ids are exact."""
        known = commit.life, commit.ids[-1] if self.mail.exact else ""
        found = self._merges.get(known)
        if found is None:
            posted = posted_merge(self.key, commit.life, commit.ids[-1], self.definition.endpoint, START_MS)
            found = self._merges[known] = self.mail.sketch(posted, START_MS)
        return found

    def concrete(self, hold: int) -> Commit:
        """Return the commit of a run as one that was computed from the versions as they are called now."""
        found = self._concrete.get(hold)
        if found is None:
            run, seen, parents, lost = self.holds[hold]
            context = {actor_of(number): 1 for number in range(seen.bit_length()) if seen >> number & 1}
            if lost:
                context[_LOST.actor] = _LOST.counter
            dots = tuple(Dot(actor_of(n) if n >= 0 else f"gone{place}", 1) for place, n in enumerate(parents))
            found = self._concrete[hold] = with_parents(self.runs[run].commit, context, dots)
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

    def rename(self, hold: int, move: Move) -> int:
        """Return a hold as it is after somebody else's commit, or after a failover."""
        view = self._view_of_hold[hold]
        after = move.seen_as.get(view)
        if after is None:
            after = move.seen_as[view] = self._seen_as(self._views[view], move)
        return self._hold(self.holds[hold].run, after)

    def _seen_as(self, view: View, move: Move) -> int:
        seen, lost = 0, view.lost
        for before, now in enumerate(move.renamed):
            if view.seen >> before & 1:
                if now >= 0:
                    seen |= 1 << now
                elif now == _TAKEN_BACK:
                    lost = True
        parents = tuple(max(move.renamed[number], -1) if number >= 0 else -1 for number in view.parents)
        return self._view(seen, parents, lost)

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
