"""What became of a schedule on a store, in values that can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from sagabus.commit import Commit, HistoryEntry, Outcome, Result, Snapshot, Want
from sagabus.digest import HalfDigest
from sagabus.envelope import SagaKey, decode
from sagabus.outgoing import Outgoing, OutgoingKind, from_lines, merge_id
from sagabus.store.protocol import Store

_MANY: Final = 4


@frozen(order=True)
class Sent:
    """One message that a commit let out, without what differs from run to run.

    Attributes:
        id: its message id; empty where the simulator has a name of its own for it.
        delay_ms: of a timer: how long after the load it is due.
    """

    kind: str
    to: str
    id: str
    type: str
    data: bytes
    reply: tuple[str, str, int]
    saga: tuple[str, int]
    timer: str
    delay_ms: int

    @classmethod
    def of(cls, outgoing: Outgoing, loaded_ms: int) -> Sent:
        """Return *outgoing* of a run that loaded at *loaded_ms*."""
        said = decode(outgoing.body)
        return cls(
            outgoing.kind.value,
            outgoing.to,
            outgoing.id,
            said.type,
            bytes(said.data),
            (said.replyto, said.replysaga, said.replylife),
            (said.saga, said.sagalife),
            "" if said.timer == outgoing.id else said.timer,
            outgoing.due_ms - loaded_ms if outgoing.due_ms else 0,
        )


@frozen
class Standing:
    """Where a saga stands.

    Attributes:
        states: of its live versions, as bytes, in dot order.
        timers: name -> message id; a timer without a name is called after its id.
        pending_merge: the id of the MergeSagaState under way.
    """

    lifecycle: str
    life: int
    states: tuple[bytes, ...]
    timers: dict[str, str]
    pending_merge: str

    @classmethod
    def of(cls, snapshot: Snapshot) -> Standing:
        """Return what *snapshot* says."""
        return cls(
            snapshot.lifecycle.value,
            snapshot.life,
            tuple(version.state for version in snapshot.versions),
            dict(snapshot.timers),
            snapshot.pending_merge,
        )


@frozen
class Step:
    """What became of one commit.

    Attributes:
        ids: the messages that it was to consume.
        counter: of the version written; 0 for none.
        sent: what the store keeps in its outbox from then on: facts, decision and timers.
        decided: of these, what the decision sent.
    """

    key: SagaKey
    ids: tuple[str, ...]
    outcome: str
    reason: str
    counter: int
    live: int
    posted_merge: bool
    sent: tuple[Sent, ...]
    decided: tuple[Sent, ...]
    standing: Standing


class Watched:
    """A store that notes what becomes of each commit, from what it then says itself.

    Args:
        store: the store.
        note: takes it.
    """

    def __init__(self, store: Store, note: Callable[[Step], None]) -> None:
        self._store, self._note = store, note

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        (commit,) = commits
        assert commit.ids, f"what was loaded of {commit.key} leaves nothing to commit"
        results = self._store.commit(commits, by=by)
        self._note(self._step(commit, results[0]))
        return results

    def _step(self, commit: Commit, result: Result) -> Step:
        (snapshot,) = self._store.load([Want(commit.key, commit.ids)])
        changed = result.outcome not in (Outcome.AGAIN, Outcome.DUPLICATE)
        lines = b"".join(snapshot.consumed.get(id_, b"") for id_ in commit.ids) if changed else b""
        messages, merge = from_lines(lines)
        assert merge == result.posted_merge, "what a commit posted is what its outbox has"
        sent = [Sent.of(message, commit.loaded_ms) for message in messages]
        asked = commit.decision.outgoing.values() if commit.decision is not None else ()
        ids = {message.id for of_one in asked for message in of_one}
        return Step(
            commit.key,
            commit.ids,
            result.outcome.value,
            result.reason,
            result.dot.counter if result.dot else 0,
            result.live,
            result.posted_merge,
            tuple(sorted(sent)),
            tuple(sorted(message for message in sent if message.id in ids)),
            Standing.of(snapshot),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@define
class Account:
    """What became of a schedule on a store.

    Attributes:
        steps: of each commit.
        standings: saga -> where it stands in the end.
        versions: saga -> how many versions were ever written.
        histories: saga -> what its record remembers, without who wrote it and when.
    """

    steps: list[Step] = field(factory=list)
    standings: dict[SagaKey, Standing] = field(factory=dict)
    versions: dict[SagaKey, int] = field(factory=dict)
    histories: dict[SagaKey, list[Any]] = field(factory=dict)

    def close(self, store: Store, keys: Iterable[SagaKey]) -> None:
        """Note where the sagas stand in the end."""
        for key in keys:
            (snapshot,) = store.load([Want(key)])
            self.standings[key] = Standing.of(snapshot)
            self.versions[key] = sum(snapshot.clock.values())
            self.histories[key] = [_entry(entry) for entry in store.history(key)]

    def sent(self) -> Counter[Sent]:
        """Return all that has left, timers aside."""
        return Counter(sent for step in self.steps for sent in step.sent if travels(sent))

    def merges(self) -> Counter[str]:
        """Return the ids of the MergeSagaState messages that were posted."""
        posted = [step for step in self.steps if step.posted_merge]
        return Counter(merge_id(step.key, step.standing.life, step.ids[-1]) for step in posted)

    def decisions(self) -> Counter[tuple[str, bytes]]:
        """Return the decisions released, as type and body; each counts four times at most, as simulated."""
        found = Counter((sent.type, sent.data) for step in self.steps for sent in step.decided if travels(sent))
        return Counter({decision: min(times, _MANY) for decision, times in found.items()})


def travels(sent: Sent) -> bool:
    """Return whether a message leaves at once: all but timers do."""
    return sent.kind != OutgoingKind.TIMER.value


def _entry(entry: HistoryEntry) -> Any:
    counters = [dot.counter for dot in entry.parents]
    digests = [_without_times(half) for half in (entry.facts, entry.decision) if half is not None]
    ids = [envelope.id for envelope in entry.messages]
    written = entry.dot.counter if entry.dot else 0
    return written, entry.outcome.value, counters, ids, entry.completed, entry.dropped_decision, entry.life, digests


def _without_times(half: HalfDigest) -> Any:
    effects = [(e.kind, e.to, e.type, b"" if e.kind is OutgoingKind.TIMER else e.body) for e in half.effects]
    return half.state, half.completes, effects
