"""Which messages of a batch a run takes, which life it is in, and what becomes of the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sagabus.commit import Lifecycle, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, Incoming
from sagabus.messages import MERGE
from sagabus.records import Record


class Plan(Record, frozen=True):
    """Which messages a run takes, which life it is in, and what becomes of the others."""

    batch: tuple[Incoming, ...] = ()
    life: int = 1
    begins: bool = False
    late: tuple[Incoming, ...] = ()
    early: tuple[Incoming, ...] = ()
    stale: tuple[Incoming, ...] = ()
    leftover: tuple[Incoming, ...] = ()


def plan_run(definition: SagaDefinition, snapshot: Snapshot, fresh: Sequence[Incoming]) -> Plan:
    """Return what becomes of *fresh*, messages that *snapshot* has not consumed, each once."""
    if snapshot.lifecycle is Lifecycle.LIVE and all(_is_plain(m.envelope, snapshot.life) for m in fresh):
        return Plan(batch=tuple(fresh), life=snapshot.life)
    absent = snapshot.lifecycle is Lifecycle.ABSENT
    if absent and len(fresh) == 1 and starts_saga(definition, fresh[0]) and _is_plain(fresh[0].envelope, 1):
        return Plan(batch=tuple(fresh), begins=True)
    stale = tuple(m for m in fresh if _is_stale(m.envelope, snapshot))
    rest = [m for m in fresh if m not in stale]
    if snapshot.lifecycle is Lifecycle.LIVE:
        late = [m for m in rest if m.envelope.sagalife not in (0, snapshot.life)]
        if late:
            first_life = late[0].envelope.sagalife
            same = tuple(m for m in late if m.envelope.sagalife == first_life)
            return Plan(life=first_life, late=same, stale=stale, leftover=tuple(m for m in rest if m not in same))
        return Plan(batch=tuple(rest), life=snapshot.life, stale=stale)
    ours, _ = start_first(definition, [m for m in rest if m.envelope.sagalife in (0, snapshot.life + 1)])
    start = ours[0] if ours else None
    if snapshot.lifecycle is Lifecycle.COMPLETED:
        before = rest if start is None or not definition.restartable else rest[: rest.index(start)]
        if before:
            return Plan(life=snapshot.life, late=tuple(before), stale=stale, leftover=tuple(rest[len(before) :]))
    if start is None:
        return Plan(early=tuple(rest), stale=stale)
    # Nothing orders messages, so what came in one batch with the start is handled after it.
    others = tuple(m for m in rest if m not in ours)
    return Plan(batch=tuple(ours), life=snapshot.life + 1, begins=True, stale=stale, leftover=others)


def start_first(definition: SagaDefinition, batch: Sequence[Incoming]) -> tuple[list[Incoming], list[Incoming]]:
    """Return *batch* with what starts the saga in front; where nothing does, no batch, and all of it."""
    start = next((m for m in batch if starts_saga(definition, m)), None)
    if start is None:
        return [], list(batch)
    return [start, *(m for m in batch if m is not start)], []


def _is_plain(envelope: Envelope, life: int) -> bool:
    """Return whether *envelope*, for a saga that lives its *life*, is neither late nor can be stale."""
    return not envelope.timer and envelope.sagalife in (0, life) and envelope.type != MERGE


def _is_stale(envelope: Envelope, snapshot: Snapshot) -> bool:
    """Return whether *envelope* is a timer that was cancelled or replaced, or a merge for a saga that has ended."""
    if envelope.timer:
        current = snapshot.lifecycle is Lifecycle.LIVE and envelope.sagalife == snapshot.life
        return not current or snapshot.timers.get(envelope.timer) != envelope.id
    return envelope.type == MERGE and (snapshot.lifecycle is not Lifecycle.LIVE or envelope.sagalife != snapshot.life)


def starts_saga(definition: SagaDefinition, incoming: Incoming) -> bool:
    """Return whether *incoming* may start a saga of that class."""
    handler = definition.handlers.get(incoming.envelope.type)
    return handler is not None and handler.starts
