"""The stage: plays a schedule on a real store, with the ids, dots and clock that production would see.

The search works on canonical worlds; what it has found is played here once more, step by step, and both must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from attrs import define, evolve, field, frozen

from sagabus.advance import advance
from sagabus.commit import Commit, HistoryEntry, Outcome, Result, Snapshot, Want
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, Incoming, SagaKey
from sagabus.outgoing import Outgoing, posted_merge
from sagabus.store.memory import MemoryStore, Record
from sagabus.store.protocol import Bookkeeping, Store
from sagabus.testing.simulator.errands import Ends, run
from sagabus.testing.simulator.scene import START_MS, Scene, envelope_of


class FailingStore(MemoryStore):
    """A store in memory that can fail over and lose the last commit of a saga."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(now_ms=lambda: clock.now_ms, actor="v")
        self._before: dict[SagaKey, list[Record | None]] = {}

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        before = [self._records.get(commit.key) for commit in commits]
        results = super().commit(commits, by=by)
        for commit, record in zip(commits, before, strict=True):
            if self._records.get(commit.key) is not record:
                self._before.setdefault(commit.key, []).append(record)
        return results

    def fail_over(self, key: SagaKey) -> None:
        """Forget the last commit of a saga, as a replica does that never got it. The new primary is another actor."""
        record = self._before[key].pop()
        if record is None:
            del self._records[key]
        else:
            self._records[key] = record
        self.actor += "'"


@define
class Clock:
    """The stage's time, ms since 1970."""

    now_ms: int = START_MS


@frozen
class Held:
    """What a worker has in hand."""

    snapshot: Snapshot
    commit: Commit


@frozen
class Committed:
    """What became of a commit.

    Attributes:
        held: what was committed.
        result: what the store said.
        facts, decision: what left with it; the MergeSagaState that the store posted is the last of the facts.
    """

    held: Held
    result: Result
    facts: tuple[Outgoing, ...] = ()
    decision: tuple[Outgoing, ...] = ()


@define
class Stage:
    """Drives sagas on a store by hand: who loads, who commits, in which order.

    Attributes:
        definitions: saga name -> its definition.
        store: a real store.
        clock: the time that a store in memory goes by.
    """

    definitions: Mapping[str, SagaDefinition]
    store: Store
    clock: Clock = field(factory=Clock)

    @classmethod
    def of(cls, scene: Scene) -> Stage:
        """Return a stage on a clean store in memory, whose records remember everything."""
        whole = {name: evolve(d, limits=evolve(d.limits, history=10_000)) for name, d in scene.definitions.items()}
        clock = Clock()
        return cls(whole, FailingStore(clock), clock)

    def load(self, key: SagaKey, messages: Sequence[Envelope]) -> Held:
        """Have a worker load a saga and run it on *messages*."""
        incoming = [Incoming(envelope) for envelope in messages]
        (snapshot,) = self.store.load([Want(key, tuple(message.id for message in incoming))])
        return Held(snapshot, advance(self.definitions[key.name], snapshot, incoming))

    def commit(self, held: Held, worker: str) -> Committed:
        """Have it commit; what leaves is handed to the caller and counts as dispatched."""
        commit = held.commit
        (result,) = self.store.commit([commit], by=worker)
        if result.outcome in (Outcome.AGAIN, Outcome.DUPLICATE):
            return Committed(held, result)
        facts = [message for sent in commit.facts.outgoing.values() for message in sent]
        decision: list[Outgoing] = []
        if result.outcome is Outcome.STORED and commit.decision is not None:
            decision = [message for sent in commit.decision.outgoing.values() for message in sent]
        if result.posted_merge:
            endpoint = self.definitions[commit.key.name].endpoint
            facts.append(posted_merge(commit.key, commit.life, commit.ids[-1], endpoint, held.snapshot.now_ms))
        self.store.note(Bookkeeping(dispatched={commit.key: commit.ids}))
        return Committed(held, result, tuple(facts), tuple(decision))

    def fail_over(self, key: SagaKey) -> None:
        """Have the store lose the last commit of a saga."""
        assert isinstance(self.store, FailingStore)
        self.store.fail_over(key)

    def history(self, key: SagaKey) -> list[HistoryEntry]:
        """Return what the record of a saga remembers."""
        return self.store.history(key)


def deliveries(scene: Scene, outgoing: Outgoing) -> list[tuple[SagaKey, Envelope]]:
    """Return what reaches sagas of one message that left, in order.

    The answers of consumers that ask for no documents are included.
    """
    envelope = envelope_of(outgoing)
    keys, consumers = scene.recipients(outgoing, envelope)
    found = [(key, envelope) for key in keys]
    for endpoint, consumer in consumers:
        turn = run(scene, endpoint, consumer, envelope)
        for answer in turn.outgoing if isinstance(turn, Ends) else ():
            found += deliveries(scene, answer)
    return found


def renamed(envelope: Envelope, name: str) -> Envelope:
    """Return the same body under another id."""
    return msgspec.structs.replace(envelope, id=name)
