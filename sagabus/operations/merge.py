"""Having a saga merged now: its `MergeSagaState` is sent once more, the ordinary way, under the id that it has.

While a saga has siblings, one MergeSagaState is under way (rule 6); where the merger raised, it is parked and comes
again in a while. Once a mended merger is deployed, nobody has to wait for that: a second copy under the same id merges
at once, and whichever of the two comes later is a duplicate. So there is never a second merge pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from sagabus.commit import Lifecycle, Snapshot, Want
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, SagaKey, derive_id, encode, rfc3339
from sagabus.errors import NothingToMergeError, QueueFullError, SagabusError, UnknownEndpointError
from sagabus.messages import MERGE
from sagabus.observe.record import Look, look
from sagabus.observe.what_if import WhatIf, check_mergeable, what_if
from sagabus.operations import audit
from sagabus.operations.cancel import saga_definition
from sagabus.outgoing import Outgoing, OutgoingKind, merge_id, posted_merge
from sagabus.secrecy.signing import Signing, signed
from sagabus.transport import Refusal

if TYPE_CHECKING:
    from sagabus.bus import Bus


class MergerRefusesError(SagabusError):
    """Today's merger does not merge the siblings of a saga, so a MergeSagaState would only be parked again.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str, error: str) -> None:
        super().__init__(
            f"the merger of this app refuses the siblings of {key}: {error}. Mend it and deploy that first; "
            f"`sagabus merge --dry-run` shows what it is given"
        )
        self.key = key


class BrokenMergerError(SagabusError):
    """A merger does not give one state for the siblings of a saga.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key} has {why}; `sagabus.testing.check_merger` finds the smallest states that show it")
        self.key = key


class UnmergedSagasError(SagabusError):
    """A merger does not merge the siblings of some sagas, or not to one state.

    Attributes:
        keys: which, as `NAME/ID`.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
        super().__init__(f"this app does not merge {shown}; `sagabus merge --dry-run` shows why")
        self.keys = tuple(keys)


_SHOWN: Final = 5


@frozen
class RequestedMerge:
    """A merge that was asked for.

    Attributes:
        key: of which saga.
        id: of its MergeSagaState.
        endpoint: where that was sent.
        siblings: the versions that were live then.
    """

    key: SagaKey
    id: str
    endpoint: str
    siblings: tuple[str, ...]


def request_merge(bus: Bus, key: SagaKey, *, by: str | None = None) -> RequestedMerge:
    """Send a saga's MergeSagaState again now; a worker merges it as soon as it comes.

    Args:
        by: who wants it, for the audit trail; user and host of this process.

    Raises:
        SagaNotFoundError: there is no such saga.
        NothingToMergeError: it has no siblings, or no merger.
        MergerRefusesError: the merger of this app raises for them.
        QueueFullError: the queue of its endpoint is full.
        ConfigurationError: the bus has no such class.
    """
    definition = saga_definition(bus, key)
    seen = look(bus.store, key, whole=False)
    found = what_if(definition, seen.snapshot)
    if found.refused:
        raise MergerRefusesError(str(key), found.refused)
    message = merge_message(definition, seen, bus.signing)
    refused = bus.transport.send([message.parcel()])
    if refused.get(0) is Refusal.NO_ENDPOINT:
        raise UnknownEndpointError(message.to, [queue.endpoint for queue in bus.transport.queues()])
    if refused:
        raise QueueFullError(message.to, 0.0)
    siblings = tuple(str(version.dot) for version in seen.snapshot.versions)
    audit.note(
        bus,
        "merge",
        by=by,
        saga=str(key),
        endpoint=message.to,
        id=message.id,
        type=MERGE,
        details={"siblings": list(siblings)},
    )
    return RequestedMerge(key, message.id, message.to, siblings)


def foresee(bus: Bus, key: SagaKey, *, seed: int = 0) -> WhatIf:
    """Return what a merge of the saga's siblings would give now; nothing is written. Errors as of `request_merge`."""
    definition = saga_definition(bus, key)
    return what_if(definition, look(bus.store, key, whole=False).snapshot, seed=seed)


def problem_of(bus: Bus, key: SagaKey) -> str:
    """Return why this app's merger does not merge the siblings of a saga to one state; empty where it does.

    Empty, too, where they have been merged meanwhile.
    """
    definition = bus.saga(key.name)
    if definition is None:
        return f"no saga class {key.name!r} in this app"
    (snapshot,) = bus.store.load([Want(key)])
    if len(snapshot.versions) < 2 or snapshot.lifecycle is not Lifecycle.LIVE:
        return ""
    try:
        found = what_if(definition, snapshot)
    except NothingToMergeError as error:
        return str(error)
    return found.broken or found.refused


def merge_message(definition: SagaDefinition, seen: Look, signing: Signing | None = None) -> Outgoing:
    """Return the MergeSagaState of the saga that was *seen*, as the store has posted it. Pure.

    Raises:
        NothingToMergeError: it has no siblings, or no merger.
    """
    snapshot = seen.snapshot
    check_mergeable(definition, snapshot)
    assert snapshot.lifecycle is Lifecycle.LIVE
    for entry in seen.recorded.history:
        last_id = entry.messages[-1].id if entry.messages else ""
        if last_id and merge_id(snapshot.key, snapshot.life, last_id) == snapshot.pending_merge:
            args = snapshot.key, snapshot.life, last_id, definition.endpoint, snapshot.now_ms
            return posted_merge(*args, signing)
    return _nameless(definition, snapshot, signing)


def _nameless(definition: SagaDefinition, snapshot: Snapshot, signing: Signing | None) -> Outgoing:
    """Return the message where the history does not reach back to what has posted it, or nothing has."""
    dots = [version.dot for version in snapshot.versions]
    id_ = snapshot.pending_merge or derive_id("merge", snapshot.key, snapshot.life, *dots)
    envelope = Envelope(
        specversion="1.0",
        id=id_,
        source=f"/{definition.endpoint}",
        type=MERGE,
        time=rfc3339(snapshot.now_ms),
        correlationid=id_,
        saga=str(snapshot.key),
        sagalife=snapshot.life,
    )
    body = encode(signed(signing, envelope, definition.endpoint))
    return Outgoing(OutgoingKind.COMMAND, definition.endpoint, id_, snapshot.key.id, body)
