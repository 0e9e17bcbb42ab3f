"""A recorded saga run again by today's code: the same messages, loads, times and commits, in the same order. Pure.

History says which versions each commit was computed from, and so after which commits its run had loaded the saga. That
is all a run depends on, with the time and the messages: today's code gets the same, and the commit rules take what it
makes of them. Where something differs the replay goes on from what today's code stored, as a deployment would.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, field, frozen

from sagabus.advance import advance
from sagabus.commit import Commit, HistoryEntry, Lifecycle, Outcome, Result, Want
from sagabus.definition import SagaDefinition
from sagabus.ending import CANCEL, ended
from sagabus.envelope import Incoming
from sagabus.errors import CodecError, SagabusError
from sagabus.observe.differences import Difference, compare, compare_states, new_members, read_again
from sagabus.observe.record import RecordedSaga
from sagabus.store.memory import Record, apply_commit, take_snapshot
from sagabus.versions import Dot


class ChangedSagasError(SagabusError):
    """Today's code makes something else of recorded sagas.

    Attributes:
        keys: which, as `NAME/ID`.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
        super().__init__(
            f"{shown} came out otherwise than recorded. Mend the code, or record anew what happens with it"
        )
        self.keys = tuple(keys)


class NothingReplayedError(SagabusError):
    """Not one of the recorded sagas could be replayed, so nothing is known of today's code.

    Attributes:
        number: how many there were.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"none of the {number} recorded sagas could be replayed to its end; record others")
        self.number = number


@frozen
class Rerun:
    """One recorded commit, made again.

    Attributes:
        number: its place in the history, from 1.
        entry: as it was recorded.
        commit: what today's code asks for.
        result: what the commit rules make of that; None where there was nothing to commit.
        differences: where they differ.
        follows: whether an earlier difference may be why.
        loaded: after how many of the commits made again its run had loaded the saga.
    """

    number: int
    entry: HistoryEntry
    commit: Commit
    result: Result | None
    differences: tuple[Difference, ...]
    follows: bool
    loaded: int = 0

    @property
    def written(self) -> bytes | None:
        """Return the state that today's code stores with this commit; None where it stores none."""
        if self.result is None or self.result.outcome not in (Outcome.STORED, Outcome.FORKED):
            return None
        decided = self.result.outcome is Outcome.STORED and self.commit.decision is not None
        half = self.commit.decision if decided else self.commit.facts
        return half.state if half is not None else None


@frozen
class Comparison:
    """What today's code makes of a recorded saga.

    Attributes:
        recorded: the saga.
        commits: those that were made again, oldest first.
        end: where what the saga ends with differs.
        notes: what was not compared, and why.
        refusal: why it could not be replayed, or only up to somewhere; else empty.
        evolved: whether today's code would store the same states in other bytes, so that no digest tells anything.
    """

    recorded: RecordedSaga
    commits: tuple[Rerun, ...] = ()
    end: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""
    evolved: bool = False

    @property
    def differing(self) -> tuple[Rerun, ...]:
        """Return the commits that differ, oldest first."""
        return tuple(rerun for rerun in self.commits if rerun.differences)

    @property
    def verdict(self) -> str:
        """Return `differs`, `same`, or `not replayed` where no difference was found but not all could be replayed."""
        if self.differing or self.end:
            return "differs"
        return "not replayed" if self.refusal else "same"


@frozen
class _Stage:
    """Where the recorded saga stood after some of its commits."""

    life: int = 0
    completed: bool = False
    live: frozenset[Dot] = field(factory=frozenset)

    def after(self, entry: HistoryEntry) -> _Stage:
        if entry.outcome is Outcome.LATE:
            return self
        live = self.live if entry.life == self.life else frozenset()
        if entry.dot is not None:
            # A version that was live when the run loaded is its parent; others came later, and stay.
            live = live - set(entry.parents) | {entry.dot}
        return _Stage(entry.life, entry.completed, live)

    def is_seen_by(self, entry: HistoryEntry) -> bool:
        """Return whether the run of *entry* may have loaded the saga at this stage."""
        if entry.outcome is Outcome.LATE:
            return self.life > 0 and (self.completed or self.life != entry.life)
        if not entry.parents:
            return self.life == entry.life - 1 and (self.completed or self.life == 0)
        return self.life == entry.life and not self.completed and self.live == set(entry.parents)


def rerun(definition: SagaDefinition, recorded: RecordedSaga) -> Comparison:
    """Return what today's code, as *definition* has it, makes of a recorded saga. Nothing is connected or changed."""
    first = next((i for i, entry in enumerate(recorded.history) if _begins(entry)), None)
    if first is None:
        return Comparison(recorded, refusal=_trimmed(definition, recorded))
    return _Replay(definition, recorded, first).run()


def _begins(entry: HistoryEntry) -> bool:
    """Return whether a life begins with *entry*: whether it was computed from nothing, and nobody was faster."""
    return not entry.parents and entry.outcome is Outcome.STORED and entry.dot is not None


def _trimmed(definition: SagaDefinition, recorded: RecordedSaga) -> str:
    if not recorded.history:
        return "it has no history"
    return (
        f"its history does not reach back to its start: it keeps {definition.limits.history} commits; "
        f"raise history= of {definition.name} to have long sagas replayed"
    )


class _Replay:
    """Runs one recorded saga from entry *first* of its history on."""

    def __init__(self, definition: SagaDefinition, recorded: RecordedSaga, first: int) -> None:
        self._recorded, self._first = recorded, first
        # A batch is run as it was recorded, also where the saga has become exclusive since.
        self._definition = evolve(definition, exclusive=False)
        self._entries = recorded.history[first:]
        life = self._entries[0].life
        # Of an earlier life only matters that it is over.
        self._stages = [_Stage(life - 1, completed=life > 1)]
        self._records = [Record(life=life - 1, completed=True) if life > 1 else None]
        self._stored = {version.dot: version.stored for version in recorded.versions}
        self._evolved = self._new_state_class()

    def run(self) -> Comparison:
        """Return the comparison of all commits, and of what they end with."""
        commits: list[Rerun] = []
        lasting = False
        for index, entry in enumerate(self._entries):
            loads = self._loads(index)
            if not loads:
                versions = ", ".join(map(str, entry.parents)) or "nothing"
                refusal = f"commit {self._first + index + 1} was computed from {versions}, which this history never had"
                notes = self._notes()
                return Comparison(self._recorded, tuple(commits), notes=notes, refusal=refusal, evolved=self._evolved)
            commit, result, found, load = self._again(index, loads)
            commits.append(Rerun(self._first + index + 1, entry, commit, result, found, follows=lasting, loaded=load))
            lasting = lasting or any(difference.lasting for difference in found)
            self._stages.append(self._stages[-1].after(entry))
        end, notes = tuple(self._end()), self._notes()
        return Comparison(self._recorded, tuple(commits), end, notes, evolved=self._evolved)

    def _loads(self, index: int) -> list[int]:
        """Return after how many commits the run of an entry may have loaded the saga, the likeliest first."""
        entry, entries = self._entries[index], self._entries
        fits = [n for n, stage in enumerate(self._stages) if stage.is_seen_by(entry)]

        def in_time(n: int) -> bool:
            after = n == 0 or entries[n - 1].at_ms <= entry.loaded_ms
            return after and (n == index or entry.loaded_ms <= entries[n].at_ms)

        return sorted(fits, key=lambda n: (bool(entry.loaded_ms) and not in_time(n), -n))

    def _again(self, index: int, loads: Sequence[int]) -> tuple[Commit, Result | None, tuple[Difference, ...], int]:
        """Make one commit again, keep the record after it, and return what came of it, where it differs, its load."""
        entry = self._entries[index]
        incoming = [Incoming(envelope) for envelope in entry.messages]
        least: tuple[Commit, Result | None, tuple[Difference, ...], int] | None = None
        for load in loads:
            # Timers, and which life it was, tell between loads that saw the same versions.
            commit = self._advance(self._records[load], entry.loaded_ms or entry.at_ms, incoming)
            result, after = self._apply(self._records[index], commit, entry)
            found = self._compare(entry, commit, result)
            if least is None or len(found) < len(least[2]):
                least, record = (commit, result, found, load), after
            if not found:
                break
        assert least is not None
        self._records.append(self._left_over(record, entry, incoming))
        return least

    def _left_over(self, record: Record | None, entry: HistoryEntry, incoming: Sequence[Incoming]) -> Record | None:
        """Do what a worker would do then: run again what was not stored, on what is there now."""
        for _ in incoming:
            left = [m for m in incoming if record is None or m.id not in record.consumed]
            commit = self._advance(record, entry.at_ms, left)
            if not commit.ids:
                break
            _, record = self._apply(record, commit, entry)
        return record

    def _advance(self, record: Record | None, now_ms: int, incoming: Sequence[Incoming]) -> Commit:
        want = Want(self._recorded.key, tuple(message.id for message in incoming))
        snapshot = take_snapshot(record, want, now_ms)
        if [message.envelope.type for message in incoming] == [CANCEL]:
            return ended(self._definition, snapshot, incoming[0].envelope)
        return advance(self._definition, snapshot, incoming)

    def _apply(self, record: Record | None, commit: Commit, entry: HistoryEntry) -> tuple[Result | None, Record | None]:
        if not commit.ids:
            return None, record
        actor = entry.dot.actor if entry.dot else ""
        result, after = apply_commit(record, commit, actor=actor, now_ms=entry.at_ms, by=entry.by)
        return result, record if after is None else after

    def _compare(self, entry: HistoryEntry, commit: Commit, result: Result | None) -> tuple[Difference, ...]:
        stored = self._stored.get(entry.dot) if entry.dot else None
        return tuple(compare(entry, commit, result, stored, by_bytes=not self._evolved))

    # -- the end -----------------------------------------------------------------------------------------------

    def _new_state_class(self) -> bool:
        """Return whether today's code would store the recorded states in other bytes."""
        try:
            return any(read_again(self._definition.codec, stored) != stored for stored in self._stored.values())
        except CodecError:
            return True

    def _end(self) -> list[Difference]:
        record, recorded = self._records[-1], self._recorded
        now = Lifecycle.ABSENT if record is None else Lifecycle.COMPLETED if record.completed else Lifecycle.LIVE
        if now is not recorded.lifecycle:
            return [Difference("end", f"recorded {recorded.lifecycle.value}, now {now.value}")]
        return list(compare_states(self._definition.codec, [v.stored for v in recorded.versions], self._states()))

    def _states(self) -> list[bytes]:
        record = self._records[-1]
        return [v.state for v in take_snapshot(record, Want(self._recorded.key), 0).versions]

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self._first:
            notes.append(f"the first {self._first} commits are of a life that is not remembered from its start")
        bare = sum(entry.facts is None for entry in self._entries)
        if bare:
            notes.append(
                f"{bare} commits were stored by an older sagabus, without digests; of them only outcome and completion "
                f"are compared, and handlers see the time of the commit as now"
            )
        if self._evolved:
            notes.append("the class of the state has changed; states are compared at the end only")
        pairs = zip(self._recorded.versions, self._states(), strict=False)
        new = dict.fromkeys(name for version, state in pairs for name in new_members(version.stored, state))
        if new:
            notes.append(f"new in the state, and not compared: {', '.join(new)}")
        return tuple(notes)
