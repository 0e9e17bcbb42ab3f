"""The commit rules in Python, over a dict: for tests and the simulator. `commit.lua` is the same rules in Lua."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field
from msgspec.structs import replace

from sagabus.commit import (
    Commit,
    Half,
    HistoryEntry,
    Lifecycle,
    Outcome,
    Result,
    Snapshot,
    StoredVersion,
    Want,
    sort_dots,
)
from sagabus.digest import digests
from sagabus.envelope import SagaKey
from sagabus.outgoing import MERGE_LINE, merge_id, to_lines
from sagabus.store.memory_documents import MemoryDocuments
from sagabus.store.memory_index import MemoryIndex
from sagabus.store.memory_leases import MemoryLeases
from sagabus.store.memory_letters import MemoryLetters
from sagabus.store.memory_presence import MemoryPresence
from sagabus.store.memory_waiting import MemoryWaiting
from sagabus.store.protocol import Bookkeeping, DeadLetter, SagaRow, Scheduled
from sagabus.versions import Dot, VersionSet, covers, includes

if TYPE_CHECKING:
    from sagabus.errors import CorruptRecordError
    from sagabus.link import Command, ServerIdentity


def wall_clock_ms() -> int:
    """Return the time, ms since 1970."""
    return time.time_ns() // 1_000_000


@define
class Record:
    """All that is stored of one saga."""

    life: int = 0
    completed: bool = False
    versions: VersionSet[StoredVersion] = field(factory=VersionSet)
    consumed: dict[str, int] = field(factory=dict)
    outbox: dict[str, bytes] = field(factory=dict)
    timers: dict[str, str] = field(factory=dict)
    pending_merge: str = ""
    starter: bytes = b""
    history: list[HistoryEntry] = field(factory=list)
    expires_ms: int | None = None


class MemoryStore:
    """A store in this process. Everything is gone with it.

    Args:
        now_ms: its clock, ms since 1970.
        actor: the actor in its dots; another one after a simulated failover.
        records: what it has stored already.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
        actor: str = "memory",
        records: Mapping[SagaKey, Record] | None = None,
    ) -> None:
        self.actor = actor
        self._now_ms = now_ms
        self._records: dict[SagaKey, Record] = dict(records or {})
        self._lock = threading.RLock()
        self.documents = MemoryDocuments(now_ms, lambda: self.actor)
        self.leases = MemoryLeases(now_ms)
        self.letters = MemoryLetters(now_ms)
        self.waiting = MemoryWaiting(now_ms, self._forget_timer)
        self.presence = MemoryPresence(now_ms)
        self.index = MemoryIndex(now_ms, self._record, lambda: self._records, self._lock)

    @property
    def url(self) -> str:
        return "memory:"

    @property
    def server(self) -> ServerIdentity | None:
        return None

    def open(self) -> None:
        return None

    def close(self) -> None:
        return None

    # -- sagas ---------------------------------------------------------------------------------------------------

    def load(self, wants: Sequence[Want], noting: Bookkeeping | None = None) -> list[Snapshot]:
        with self._lock:
            if noting:
                self.note(noting)
            now = self._now_ms()
            snapshots = []
            for want in wants:
                grant = self.leases.grant(want.key, want.lease.holder, want.lease.ttl_ms) if want.lease else None
                snapshot = take_snapshot(self._record(want.key, now), want, now)
                snapshots.append(replace(snapshot, grant=grant) if grant else snapshot)
            return snapshots

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        with self._lock:
            now = self._now_ms()
            results = []
            for commit in commits:
                record = self._record(commit.key, now)
                result, after = apply_commit(record, commit, actor=self.actor, now_ms=now, by=by)
                if after is not None:
                    facts, decision = digests(commit)
                    after.history[-1] = evolve(after.history[-1], facts=facts, decision=decision)
                    self._records[commit.key] = after
                    if not commit.late:
                        self.index.note(commit.key, record, after, now)
                if commit.gives_back and commit.grant is not None:
                    self.leases.release({commit.key: commit.grant})
                results.append(result)
            return results

    def history(self, key: SagaKey) -> list[HistoryEntry]:
        with self._lock:
            record = self._record(key, self._now_ms())
            return list(record.history) if record else []

    def sagas(
        self, name: str | None = None, *, unreadable: list[CorruptRecordError] | None = None
    ) -> Iterator[SagaRow]:
        with self._lock:
            now = self._now_ms()
            rows = [
                SagaRow(
                    key,
                    Lifecycle.COMPLETED if record.completed else Lifecycle.LIVE,
                    len(record.versions.live),
                    record.life,
                    sum(record.versions.clock.values()),
                )
                for key in list(self._records)
                if (name is None or key.name == name) and (record := self._record(key, now)) is not None
            ]
        yield from rows

    def _record(self, key: SagaKey, now: int) -> Record | None:
        record = self._records.get(key)
        if record is not None and record.expires_ms is not None and record.expires_ms <= now:
            del self._records[key]
            return None
        return record

    # -- timers and dead letters ---------------------------------------------------------------------------------

    def note(self, bookkeeping: Bookkeeping) -> None:
        with self._lock:
            for item in bookkeeping.scheduled:
                self.waiting.schedule(item)
            for id_ in bookkeeping.unscheduled:
                self.waiting.unschedule(id_)
            self.letters.bury(bookkeeping.buried)
            for key, ids in bookkeeping.dispatched.items():
                record = self._records.get(key)
                for id_ in ids if record else ():
                    record.outbox.pop(id_, None)  # type: ignore[union-attr]

    def note_commands(self, bookkeeping: Bookkeeping) -> list[Command]:
        raise NotImplementedError("a store in memory shares no server with any transport; call note()")

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        return self.waiting.due(limit, lease_s)

    def next_due_ms(self) -> tuple[int, int | None]:
        return self._now_ms(), next((waiting.at_ms for waiting in self.waiting.find()), None)

    def scheduled(self, limit: int = 1000) -> list[Scheduled]:
        return [waiting.item for waiting in islice(self.waiting.find(), limit)]

    def _forget_timer(self, key: SagaKey, timer: str, message_id: str) -> bool:
        with self._lock:
            record = self._record(key, self._now_ms())
            if record is None or record.timers.get(timer) != message_id:
                return False
            del record.timers[timer]
            return True

    def dead(self, limit: int = 1000) -> list[DeadLetter]:
        return list(islice(self.letters.find(), limit))


# -- the rules ---------------------------------------------------------------------------------------------------


def take_snapshot(record: Record | None, want: Want, now_ms: int) -> Snapshot:
    """Return what a load of *record* says; None is a saga that is absent. Pure."""
    if record is None:
        return Snapshot(want.key, now_ms)
    return Snapshot(
        key=want.key,
        now_ms=now_ms,
        lifecycle=Lifecycle.COMPLETED if record.completed else Lifecycle.LIVE,
        life=record.life,
        clock=dict(record.versions.clock),
        versions=tuple(record.versions.live[dot] for dot in sort_dots(record.versions.live)),
        consumed={id_: record.outbox.get(id_, b"") for id_ in want.ids if id_ in record.consumed},
        timers=dict(record.timers),
        pending_merge=record.pending_merge,
        starter=record.starter,
    )


def apply_commit(
    record: Record | None, commit: Commit, *, actor: str, now_ms: int, by: str
) -> tuple[Result, Record | None]:
    """Return what becomes of *commit* on *record*, and the record after it; None where nothing changes. Pure.

    Its history has no digests; the store adds them, for those who look at histories.

    The order of the tests is that of the commit rules; each comment has the rule's number.
    """
    live = record.versions.live if record else {}
    consumed = {id_: record.outbox.get(id_, b"") for id_ in commit.ids if id_ in record.consumed} if record else {}
    if consumed:  # 1
        outcome = Outcome.DUPLICATE if len(consumed) == len(commit.ids) else Outcome.AGAIN
        reason = "" if outcome is Outcome.DUPLICATE else "consumed"
        return Result(outcome, reason, live=len(live), consumed=consumed), None
    if commit.grant is not None and now_ms >= commit.grant.until_ms:
        return Result(Outcome.AGAIN, "fence", live=len(live)), None
    again = _refusal(record, commit)
    if again:
        return Result(Outcome.AGAIN, again, live=len(live)), None
    live = {} if record is None or _begins_anew(record, commit) else record.versions.live
    if commit.late:  # 2
        after = _copy(record, commit)
        _consume(after, commit, commit.facts.outgoing, {}, now_ms)
        _remember(after, commit, Outcome.LATE, None, now_ms, by)
        return Result(Outcome.LATE, live=len(live)), after
    settles = all(covers(commit.context, dot) for dot in live)
    if commit.merged and not all(dot in live for dot in commit.parents):  # 5
        return Result(Outcome.AGAIN, "merged", live=len(live)), None
    if not settles and commit.facts.state is not None:  # 4
        if commit.must_settle:
            return Result(Outcome.AGAIN, "settle", live=len(live)), None
        if not commit.merged and len(live) >= commit.limits.siblings:
            return Result(Outcome.AGAIN, "siblings", live=len(live)), None
    if commit.completes and commit.facts.state is None and not (settles and len(live) == 1):  # 7
        return Result(Outcome.AGAIN, "settle", live=len(live)), None
    after = _copy(record, commit)
    decided = settles and commit.decision is not None
    last = commit.decision if decided else commit.facts
    assert last is not None
    dot = _write(after, commit, last, actor)
    _set_timers(after, commit, [commit.facts, last] if decided else [commit.facts])
    if settles and commit.completes:  # 7
        after.completed, after.timers, after.pending_merge = True, {}, ""
        after.expires_ms = now_ms + round(commit.limits.retention_s * 1000)
    posted = _post_merge(after, commit)
    _consume(after, commit, commit.facts.outgoing, last.outgoing if decided else {}, now_ms)
    if posted:
        after.outbox[commit.ids[-1]] = after.outbox.get(commit.ids[-1], b"") + MERGE_LINE + b"\n"
        # One of this id may have been handled already, with nothing to merge: a failover lost the fork that posted it,
        # not the message. It must count for the fork that comes again.
        after.consumed.pop(after.pending_merge, None)
    outcome = Outcome.STORED if settles or commit.facts.state is None else Outcome.FORKED
    _remember(after, commit, outcome, dot, now_ms, by)
    return Result(outcome, dot=dot, live=len(after.versions.live), posted_merge=posted), after


def _refusal(record: Record | None, commit: Commit) -> str:
    """Return why the run must be made again before its versions are even looked at; empty where it need not."""
    if record is None:
        return "clock" if commit.late or commit.life != 1 or not commit.begins_life or commit.context else ""  # 3
    if commit.late:
        return "" if record.completed or commit.life != record.life else "life"
    if record.completed:  # 2
        if not (commit.begins_life and commit.life == record.life + 1):  # 7
            return "completed"
    elif commit.life != record.life:  # 7
        return "life"
    return "" if includes(record.versions.clock, commit.context) else "clock"  # 3


def _begins_anew(record: Record, commit: Commit) -> bool:
    return record.completed and not commit.late


def _copy(record: Record | None, commit: Commit) -> Record:
    """Return a record that may be changed, begun anew where the commit begins a life."""
    if record is None:
        return Record(life=1, starter=commit.starter)
    after = Record(
        record.life,
        record.completed,
        record.versions,
        dict(record.consumed),
        dict(record.outbox),
        dict(record.timers),
        record.pending_merge,
        record.starter,
        list(record.history),
        record.expires_ms,
    )
    if _begins_anew(record, commit):
        after.life, after.completed, after.expires_ms, after.starter = commit.life, False, None, commit.starter
        after.versions, after.timers = VersionSet(record.versions.clock), {}
    return after


_UNNAMED: Final = StoredVersion(Dot("", 0), {}, b"")


def _write(record: Record, commit: Commit, half: Half, actor: str) -> Dot | None:
    """Store the version and return its dot; None for none, or for the bytes of the one live version."""
    if half.state is None:
        return None
    live = record.versions.live
    if len(live) == 1 and commit.parents == tuple(live) and next(iter(live.values())).state == half.state:  # 8
        return None
    versions, dot = record.versions.put(commit.context, actor, _UNNAMED)
    version = StoredVersion(dot, commit.context, half.state, commit.parent)
    record.versions = VersionSet(versions.clock, {**versions.live, dot: version})
    return dot


def _set_timers(record: Record, commit: Commit, halves: Sequence[Half]) -> None:
    for name, id_ in commit.fired.items():
        if record.timers.get(name) == id_:
            del record.timers[name]
    for half in halves:
        for name in half.cancelled:
            record.timers.pop(name, None)
        record.timers.update(half.timers)


def _post_merge(record: Record, commit: Commit) -> bool:
    """Keep exactly one MergeSagaState under way while there are siblings; return whether one was posted now."""
    if record.pending_merge in commit.ids:
        record.pending_merge = ""
    if len(record.versions.live) > 1 and not record.pending_merge:  # 6
        record.pending_merge = merge_id(commit.key, commit.life, commit.ids[-1])
        return True
    return False


def _consume(
    record: Record,
    commit: Commit,
    facts: Mapping[str, tuple[object, ...]],
    decision: Mapping[str, tuple[object, ...]],
    now_ms: int,
) -> None:
    for outgoing in (facts, decision):
        for id_, messages in outgoing.items():
            if messages:
                record.outbox[id_] = record.outbox.get(id_, b"") + to_lines(messages)  # type: ignore[arg-type]
    horizon = now_ms - round(commit.limits.dedupe_window_s * 1000)
    record.consumed = {
        id_: when for id_, when in record.consumed.items() if when > horizon or id_ in record.outbox
    } | dict.fromkeys(commit.ids, now_ms)


def _remember(record: Record, commit: Commit, outcome: Outcome, dot: Dot | None, now_ms: int, by: str) -> None:
    dropped = outcome is Outcome.FORKED and commit.decision is not None
    completed = record.completed and outcome is not Outcome.LATE
    entry = HistoryEntry(
        dot, outcome, now_ms, commit.parents, by, commit.messages, completed, dropped, commit.life, commit.loaded_ms
    )
    record.history.append(entry)
    del record.history[: -commit.limits.history]
