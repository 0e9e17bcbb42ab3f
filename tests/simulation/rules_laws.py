"""What must hold of every single commit, looked at where it is made: what no later schedule would give away."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from sagabus.commit import Commit, Half, Outcome, Result
from sagabus.outgoing import MERGE_LINE, to_lines
from sagabus.store.memory import Record
from sagabus.testing.simulator.sagas import Rules


class BrokenLawError(AssertionError):
    """A commit did what it must not.

    Attributes:
        law: the law's name.
    """

    def __init__(self, law: str, problem: str) -> None:
        super().__init__(f"{law}: {problem}")
        self.law = law


@frozen
class Watched:
    """Rules, each of whose answers is held against the laws.

    Raises:
        BrokenLawError: by a call whose answer breaks one.
    """

    rules: Rules

    def __call__(
        self, record: Record | None, commit: Commit, *, actor: str, now_ms: int, by: str
    ) -> tuple[Result, Record | None]:
        before = _books(record)
        result, after = self.rules(record, commit, actor=actor, now_ms=now_ms, by=by)
        for law, problem in broken(record, commit, result, after):
            raise BrokenLawError(law, problem)
        if _books(record) != before:
            raise BrokenLawError("pure", "the rules changed the record that they were given")
        return result, after


def _books(record: Record | None) -> object:
    """Return what the rules might change in place of a record that they are given."""
    if record is None:
        return None
    return (
        dict(record.consumed),
        dict(record.outbox),
        dict(record.timers),
        record.versions,
        record.life,
        record.completed,
        record.pending_merge,
        len(record.history),
    )


def broken(record: Record | None, commit: Commit, result: Result, after: Record | None) -> Iterator[tuple[str, str]]:
    """Yield each law that one commit breaks, with the problem."""
    known = record.consumed if record is not None else {}
    all_known = bool(commit.ids) and all(id_ in known for id_ in commit.ids)
    if all_known is not (result.outcome is Outcome.DUPLICATE):
        yield "duplicate", f"all ids were consumed: {all_known}; the outcome is {result.outcome.value}"
    if after is None:
        yield from _refused(record, commit, result)
    else:
        yield from _released(record, commit, result, after)
        yield from _kept(record, commit, result, after)


def _refused(record: Record | None, commit: Commit, result: Result) -> Iterator[tuple[str, str]]:
    """What may be run again: only what must."""
    if result.outcome not in (Outcome.AGAIN, Outcome.DUPLICATE):
        yield "no-trace", f"a commit came out as {result.outcome.value} and left no trace"
    if result.reason == "settle" and not commit.must_settle:
        yield "concurrent", "a run that may fork was asked to settle"
    if result.reason == "siblings" and commit.merged:
        yield "merge-limit", "a merge was refused for the number of siblings, which it does not raise"


def _released(record: Record | None, commit: Commit, result: Result, after: Record) -> Iterator[tuple[str, str]]:
    """What a crash would leave to be dispatched is what the outcome says."""
    stored = result.outcome is Outcome.STORED
    halves = [commit.facts, *([commit.decision] if stored and commit.decision is not None else [])]
    for id_ in commit.ids:
        lines = b"".join(to_lines(half.outgoing.get(id_, ())) for half in halves)
        lines += MERGE_LINE + b"\n" if result.posted_merge and id_ == commit.ids[-1] else b""
        if after.outbox.get(id_, b"") != lines:
            yield "outbox", f"{result.outcome.value}: {id_} left {after.outbox.get(id_, b'')!r}, not {lines!r}"
    set_now = {id_ for half in halves for id_ in _timers(half)}
    set_before = set(record.timers.values()) if record is not None else set()
    if not set(after.timers.values()) <= set_before | set_now:
        yield "timers", "a timer stands in the record that nothing sends"


def _timers(half: Half) -> Iterator[str]:
    yield from half.timers.values()


def _kept(record: Record | None, commit: Commit, result: Result, after: Record) -> Iterator[tuple[str, str]]:
    """What a record that was changed says."""
    for id_ in commit.ids:
        if id_ not in after.consumed and id_ != after.pending_merge:
            yield "consumed", f"{id_} was handled and is not remembered"
    for id_ in record.consumed if record is not None else ():
        # A failover may have left the id of a MergeSagaState consumed that is posted only now.
        if id_ not in after.consumed and id_ != after.pending_merge:
            yield "consumed", f"{id_} is forgotten"
    live, was_live = len(after.versions.live), len(record.versions.live) if record is not None else 0
    if commit.merged and live > was_live:
        yield "merge-forks", f"a merge made {live} versions of {was_live}"
    if commit.merged and result.outcome is Outcome.STORED and live != 1:
        yield "merged", f"siblings were merged, that settles, and {live} versions are live"
    if result.posted_merge and record is not None and record.pending_merge not in ("", *commit.ids):
        yield "one-merge", "a MergeSagaState was posted while another was under way"
    if after.pending_merge in commit.ids and after.pending_merge in after.consumed:
        yield "one-merge", "a MergeSagaState that was handled counts as under way"
    if after.completed and (after.timers or after.pending_merge):
        yield "tombstone", "a completed saga has timers or a merge under way"
    if after.completed and result.outcome is not Outcome.LATE and after.expires_ms is None:
        yield "tombstone", "a completed saga is kept for ever"
    if result.outcome is Outcome.LATE and record is not None and not record.completed and commit.life == record.life:
        yield "late", "a message was late for a saga that has not completed"
    if commit.begins_life and record is not None and record.completed and after.life != record.life + 1:
        yield "life", f"life {after.life} began after life {record.life}"
