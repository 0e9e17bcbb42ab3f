"""A naive enumerator of schedules: depth first, on real records, ids and dots, nothing reduced or remembered.

It knows the functional core and the commit rules, and nothing of the simulator, which it is there to check. Two
schedules that lead to the same world are walked twice; messages that can make no difference any more are handled all
the same. Only what changes nothing at all is no step: a load all of whose messages go back to the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from attrs import define, field, frozen

from sagabus.advance import advance
from sagabus.commit import Commit, Outcome, Want
from sagabus.definition import SagaDefinition, definition_of
from sagabus.envelope import MAX_BYTES, Envelope, Incoming, SagaKey, decode, wrap
from sagabus.messages import MERGE
from sagabus.outgoing import Outgoing, OutgoingKind, posted_merge
from sagabus.saga import Saga
from sagabus.store.memory import Record, apply_commit, take_snapshot

NOW_MS = 1_767_225_600_000
AT_MOST = 4
"""Of equal messages that have left, so many are counted; more count as so many."""
_WINDOW_S = 1e9


class TooManySchedulesError(Exception):
    """There are more steps to take than were allowed."""


class Ending(NamedTuple):
    """What one schedule amounts to.

    Attributes:
        decisions: (wire name, body) -> how many left with decisions, as sorted pairs.
        sent: likewise, what left with facts to where nobody listens.
        sagas: of each saga that has begun: its key, its live states (of a completed one its last), sorted, and whether
            it has completed.
        dead: (wire name, body, reason) -> how many would be dead letters, as sorted pairs.
    """

    decisions: tuple[Any, ...]
    sent: tuple[Any, ...]
    sagas: tuple[tuple[str, tuple[bytes, ...], bool], ...]
    dead: tuple[Any, ...]


@define
class Walk:
    """What walking all schedules has shown.

    Attributes:
        endings: in which ways schedules end.
        stuck: whether one ends with a saga that is not completed and that nothing can reach any more.
        endless: whether one is longer than allowed; the others are then not all looked at.
        schedules: how many there are.
        steps: how many steps were taken in all.
        happened: what happened on the way -> how often.
    """

    endings: set[Ending] = field(factory=set)
    stuck: bool = False
    endless: bool = False
    schedules: int = 0
    steps: int = 0
    happened: Counter[str] = field(factory=Counter)


class Delivery(NamedTuple):
    """One envelope on its way to one saga."""

    key: SagaKey
    envelope: Envelope


class Held(NamedTuple):
    """What a worker has in hand: a commit, the deliveries that it consumes, and those that go back afterwards."""

    key: SagaKey
    commit: Commit
    consumes: tuple[Delivery, ...]
    back: tuple[Delivery, ...]


class Past(NamedTuple):
    """What a failover takes back: the record before a commit, and all that was acked since."""

    record: Record | None
    acked: tuple[Delivery, ...]


class World(NamedTuple):
    """Everything, at one moment of one schedule."""

    records: Mapping[SagaKey, Record | None]
    past: Mapping[SagaKey, tuple[Past, ...]]
    queue: tuple[Delivery, ...]
    held: tuple[Held, ...]
    taken: tuple[Delivery, ...]
    decisions: tuple[Outgoing, ...]
    sent: tuple[Outgoing, ...]
    duplicates: int
    resends: int
    rollbacks: int
    failovers: int


@frozen
class Naive:
    """Walks all schedules of some sagas.

    Attributes:
        subject: the saga classes; each class is an endpoint of its own name.
        start, messages: in the queues from the beginning; each names its saga by its key field.
        workers: how many may hold one saga at once.
        batch: the most messages that one load takes.
        duplicates, resends, rollbacks: how many messages that were taken may come again, may come again under another
            id, and how many commits may be lost.
        timeouts: whether timers fire.
    """

    subject: Sequence[type[Saga[Any]]]
    start: Sequence[Any]
    messages: Sequence[Any]
    workers: int = 2
    batch: int = 1
    duplicates: int = 0
    resends: int = 0
    timeouts: bool = True
    rollbacks: int = 0
    definitions: dict[str, SagaDefinition] = field(init=False)

    @definitions.default
    def _bound(self) -> dict[str, SagaDefinition]:
        found = [definition_of(cls) for cls in self.subject]
        window = {"dedupe_window_s": _WINDOW_S, "retention_s": _WINDOW_S}
        return {d.name: d.bound(d.name, {}, **window, max_bytes=MAX_BYTES) for d in found}

    def walk(self, *, most_steps: int, longest: int) -> Walk:
        """Return what all schedules show, or all before the first that takes more than *longest* steps.

        Raises:
            TooManySchedulesError: there are more than *most_steps* to take.
        """
        walk = Walk()
        stack = [iter([self._opening()])]
        while stack:
            world = next(stack[-1], None)
            if world is None:
                stack.pop()
                continue
            walk.steps += 1
            if walk.steps > most_steps:
                raise TooManySchedulesError
            if len(stack) > longest:
                walk.endless = True
                return walk
            needed = list(self._steps(world, walk.happened))
            if not needed:
                walk.schedules += 1
                walk.endings.add(self._ending(world))
                walk.stuck = walk.stuck or self._is_stuck(world)
            stack.append(iter([*needed, *self._mishaps(world)]))
        return walk

    # -- the beginning and the end -------------------------------------------------------------------------------

    def _opening(self) -> World:
        queue: list[Delivery] = []
        for number, message in enumerate([*self.start, *self.messages], 1):
            envelope = wrap(message, id=f"m{number}", source="/client", now_ms=NOW_MS, replyto="client")
            queue += _addressed([d for d in self.definitions.values() if envelope.type in d.handlers], envelope)
        budget = self.duplicates, self.resends, self.rollbacks
        return World({}, {}, tuple(queue), (), (), (), (), *budget, failovers=0)

    def _ending(self, world: World) -> Ending:
        sagas = []
        for key, record in sorted(world.records.items()):
            if record is not None:
                states = sorted(version.state for version in record.versions.live.values())
                sagas.append((str(key), tuple(states), record.completed))
        dead = {(d.key, d.envelope.id): d for d in world.queue}.values()
        return Ending(
            counted((_said(decode(m.body)) for m in world.decisions), AT_MOST),
            counted((_said(decode(m.body)) for m in world.sent), AT_MOST),
            tuple(sagas),
            counted((*_said(d.envelope), self._reason(world, d)) for d in dead),
        )

    def _reason(self, world: World, delivery: Delivery) -> str:
        commit = self._run(world, (delivery,))
        return "unmergeable" if commit.unmergeable is not None else "failed" if commit.failures else "no-saga"

    def _is_stuck(self, world: World) -> bool:
        live = [record for record in world.records.values() if record is not None and not record.completed]
        return any(self.timeouts or not record.timers for record in live)

    # -- what can happen -----------------------------------------------------------------------------------------

    def _steps(self, world: World, happened: Counter[str]) -> Iterator[World]:
        """Yield what comes of every step but mishaps."""
        for number in range(len(world.held)):
            yield self._commit(world, number, happened)
        busy = Counter(held.key for held in world.held)
        for first, delivery in enumerate(world.queue):
            if busy[delivery.key] >= self.workers:
                continue
            yield from self._load(world, (first,), happened)
            for second, other in enumerate(world.queue if self.batch > 1 else ()):
                if second != first and other.key == delivery.key:
                    yield from self._load(world, (first, second), happened)

    def _mishaps(self, world: World) -> Iterator[World]:
        """Yield what comes of what need not happen: a message comes again, or its body does, or a commit is lost."""
        taken = list({(d.key, d.envelope.id): d for d in world.taken}.values())
        if world.duplicates:
            for delivery in taken:
                yield world._replace(queue=(*world.queue, delivery), duplicates=world.duplicates - 1)
        if world.resends:
            for key, envelope in taken:
                if not envelope.timer and envelope.type != MERGE:
                    twin = Delivery(key, msgspec.structs.replace(envelope, id=f"{envelope.id}-twin"))
                    yield world._replace(queue=(*world.queue, twin), resends=world.resends - 1)
        if world.rollbacks:
            for key in world.past:
                if world.past[key]:
                    yield self._fail_over(world, key)

    def _run(self, world: World, deliveries: Sequence[Delivery]) -> Commit:
        key = deliveries[0].key
        want = Want(key, tuple(d.envelope.id for d in deliveries))
        snapshot = take_snapshot(world.records.get(key), want, NOW_MS)
        return advance(self.definitions[key.name], snapshot, [Incoming(d.envelope) for d in deliveries])

    def _load(self, world: World, places: tuple[int, ...], happened: Counter[str]) -> Iterator[World]:
        deliveries = tuple(world.queue[place] for place in places)
        commit = self._run(world, deliveries)
        again = {m.id for m in (*commit.early, *commit.leftover, *(failure.incoming for failure in commit.failures))}
        back = tuple(d for d in deliveries if d.envelope.id in again)
        consumes = tuple(d for d in deliveries if d.envelope.id in commit.ids)
        acked = tuple(d for d in deliveries if d not in back and d not in consumes)
        happened.update(_noted(commit, acked))
        if len(back) == len(deliveries):
            return
        queue = tuple(d for place, d in enumerate(world.queue) if place not in places)
        world = self._acked(world._replace(queue=queue if consumes else queue + back), acked)
        if consumes:
            held = Held(deliveries[0].key, commit, consumes, back)
            world = world._replace(held=(*world.held, held), taken=world.taken + consumes)
        yield world

    def _commit(self, world: World, number: int, happened: Counter[str]) -> World:
        key, commit, consumes, back = world.held[number]
        before = world.records.get(key)
        actor = f"v{world.failovers}"
        result, after = apply_commit(before, commit, actor=actor, now_ms=NOW_MS, by="")
        happened[" ".join(filter(None, (result.outcome.value, result.reason)))] += 1
        held = world.held[:number] + world.held[number + 1 :]
        world = world._replace(held=held, queue=world.queue + back)
        if result.outcome is Outcome.AGAIN:
            return world._replace(queue=world.queue + consumes)
        if result.outcome is Outcome.DUPLICATE:
            return self._acked(world, consumes)
        assert after is not None
        happened["completed"] += after.completed and result.outcome is not Outcome.LATE
        happened["restarted"] += commit.begins_life and commit.life > 1
        happened["three siblings"] += result.live > 2
        past = (*world.past.get(key, ()), Past(before, consumes))
        world = world._replace(records={**world.records, key: after}, past={**world.past, key: past})
        facts = [m for sent in commit.facts.outgoing.values() for m in sent]
        if result.posted_merge:
            facts.append(posted_merge(key, commit.life, commit.ids[-1], self.definitions[key.name].endpoint, NOW_MS))
        for message in facts:
            world = self._dispatch(world, message, happened, decided=False)
        if result.outcome is Outcome.STORED and commit.decision is not None:
            for message in (m for sent in commit.decision.outgoing.values() for m in sent):
                world = self._dispatch(world, message, happened, decided=True)
        return world

    def _fail_over(self, world: World, key: SagaKey) -> World:
        *past, lost = world.past[key]
        return world._replace(
            records={**world.records, key: lost.record},
            past={**world.past, key: tuple(past)},
            queue=world.queue + lost.acked,
            rollbacks=world.rollbacks - 1,
            failovers=world.failovers + 1,
        )

    @staticmethod
    def _acked(world: World, deliveries: tuple[Delivery, ...]) -> World:
        """Note that *deliveries* are over; who loses the commit that they came after loses the note too."""
        for delivery in deliveries:
            past = world.past.get(delivery.key, ())
            if past:
                latest = past[-1]._replace(acked=(*past[-1].acked, delivery))
                world = world._replace(past={**world.past, delivery.key: (*past[:-1], latest)})
        return world

    # -- where messages go ---------------------------------------------------------------------------------------

    def _dispatch(self, world: World, message: Outgoing, happened: Counter[str], *, decided: bool) -> World:
        envelope = decode(message.body)
        if message.kind is OutgoingKind.TIMER:
            happened["timer set"] += 1
            timer = Delivery(SagaKey.parse(envelope.saga), envelope)
            return world._replace(queue=(*world.queue, timer)) if self.timeouts else world
        if envelope.type == MERGE:
            return world._replace(queue=(*world.queue, Delivery(SagaKey.parse(envelope.saga), envelope)))
        takers = [d for d in self.definitions.values() if envelope.type in d.handlers]
        if message.kind is OutgoingKind.COMMAND:
            # Without a bus, a command finds who handles it by its type, unless it is an answer to a client.
            at_home = [d for d in takers if d.endpoint == message.to]
            takers = at_home if at_home or message.to == "client" else takers
        deliveries = _addressed(takers, envelope)
        if decided:
            world = world._replace(decisions=(*world.decisions, message))
        elif not deliveries:
            world = world._replace(sent=(*world.sent, message))
        for delivery in deliveries:
            itself = delivery.key.name == envelope.source.removeprefix("/")
            happened["sent to itself" if itself else "sent to another saga"] += 1
        return world._replace(queue=world.queue + deliveries)


def _addressed(takers: Sequence[SagaDefinition], envelope: Envelope) -> tuple[Delivery, ...]:
    """Return the deliveries of *envelope* to those of *takers* of which it says which saga it is for."""
    found = [(d.name, d.locate(Incoming(envelope))) for d in takers]
    return tuple(Delivery(SagaKey(name, saga_id), envelope) for name, saga_id in found if saga_id is not None)


def _noted(commit: Commit, acked: Sequence[Delivery]) -> Iterator[str]:
    """Yield what is worth counting of a run."""
    if len(commit.ids) > 1:
        yield "batch of two"
    if commit.merged:
        yield "merged"
    if commit.fired:
        yield "timer fired"
    if commit.unmergeable is not None:
        yield "unmergeable"
    if commit.failures:
        yield "failed"
    if commit.early:
        yield "early"
    if acked:
        yield "acked"
    if any(life not in (0, commit.life) for life in (m.sagalife for m in commit.messages)):
        yield "another life"


def _said(envelope: Envelope) -> tuple[str, bytes]:
    return envelope.type, bytes(envelope.data)


def counted(things: Any, most: int | None = None) -> tuple[Any, ...]:
    """Return sorted pairs of thing and how many there are of it, at most *most*."""
    return tuple(
        sorted((thing, count if most is None else min(count, most)) for thing, count in Counter(things).items())
    )
