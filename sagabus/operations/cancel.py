"""Cancelling a saga: a person ends it, by the commit rules (`sagabus.ending`), and the audit trail says who and why.

What that means:

- It ends as a completed saga does, in one atomic commit: a tombstone with its last state, kept for `retention`; its
  history says who cancelled it and why. Replies that still come are late (`on_late` is called as ever), a start
  begins a new life only where the saga is `restartable`.
- Nothing of its code runs, and nothing leaves it: no decision, no answer to who started it. What it had asked for
  before is dispatched as ever. Whoever cancels sees to compensation.
- Its timers end with it.
- Siblings are merged by today's merger in the same commit, without `MergeSagaState` and without `decide()`. Where the
  merger refuses them, one is named whose state the tombstone keeps; what only the others knew is gone.
- Somebody who writes at the same moment makes it be tried again, on what is there then. It never ends a saga with a
  version in it that nobody has looked at.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from sagabus.codec import shown_state
from sagabus.commit import Commit, Lifecycle, Outcome, Snapshot, Want
from sagabus.dead_letters.dead_letters import whoami
from sagabus.definition import SagaDefinition
from sagabus.ending import CANCEL, Cancellation, cancellation, ended
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError, SagabusError, SagaNotFoundError
from sagabus.observe.what_if import in_a_line
from sagabus.operations import audit
from sagabus.runtime.pause import race_pause_s
from sagabus.store.protocol import Bookkeeping

if TYPE_CHECKING:
    from sagabus.bus import Bus

MAX_WHY: Final = 1000
"""The most characters of a reason: it stays in the history of its saga, and on the trail."""
_TRIES: Final = 30


class SagaEndedError(SagabusError):
    """A saga has completed already, so there is nothing to cancel.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} has completed already; `sagabus inspect` shows how")
        self.key = key


class UnmergedSiblingsError(SagabusError):
    """A saga cannot be ended as it is: its siblings cannot be merged, or the one to keep is not among them.

    Attributes:
        key: which, as `NAME/ID`.
        versions: its live versions.
    """

    def __init__(self, key: str, why: str, versions: tuple[str, ...]) -> None:
        listed = ", ".join(versions)
        super().__init__(
            f"{key} was not cancelled: {why}. Name the version whose state is to be kept with --keep, one of {listed}; "
            f"what only the others know is lost then"
        )
        self.key, self.versions = key, versions


class BusySagaError(SagabusError):
    """A saga was written again and again while somebody tried to end it.

    Attributes:
        key: which, as `NAME/ID`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is being written too fast to be cancelled; pause its endpoint, or try again")
        self.key = key


@frozen
class CancelledSaga:
    """A saga that a person has ended.

    Attributes:
        key: which.
        id: of the cancellation, as its history has it.
        life: which life.
        merged: the siblings that were merged for it; none where it had one version, or one was kept.
        kept: the version that was kept of several; empty where none had to be.
        timers: the names of its timers, which have ended.
        state: its last state as plain data, secrets encrypted.
    """

    key: SagaKey
    id: str
    life: int
    merged: tuple[str, ...]
    kept: str
    timers: tuple[str, ...]
    state: Any


def saga_definition(bus: Bus, key: SagaKey) -> SagaDefinition:
    """Return the definition of the saga *key* on *bus*.

    Raises:
        ConfigurationError: the bus has no such class.
    """
    definition = bus.saga(key.name)
    if definition is None:
        known = ", ".join(d.name for endpoint in bus.endpoints.values() for d in endpoint.sagas) or "none"
        raise ConfigurationError(f"no saga class {key.name!r} on this bus; it has {known}; name the app that has it")
    return definition


def foresee(definition: SagaDefinition, snapshot: Snapshot, *, keep: str = "") -> Commit:
    """Return the commit that would end the saga in *snapshot* now. Pure.

    Raises:
        SagaNotFoundError, SagaEndedError, UnmergedSiblingsError: as of `cancel`.
    """
    return _commit(definition, snapshot, "foreseen", Cancellation("nobody", keep=keep))


def cancel(
    bus: Bus, key: SagaKey, *, why: str, by: str | None = None, keep: str = "", id: str | None = None
) -> CancelledSaga:
    """End a saga, whatever it waits for.

    Args:
        why: in your words; history and audit trail keep them.
        by: who wants it; user and host of this process.
        keep: of siblings that cannot be merged: the version whose state the tombstone keeps, as `ACTOR:NUMBER`.
        id: of the cancellation: asked twice under one id, it is done once.

    Raises:
        SagaNotFoundError: there is no such saga.
        SagaEndedError: it has completed already.
        UnmergedSiblingsError: its siblings cannot be merged, or *keep* is none of its versions any more.
        BusySagaError: somebody else wrote it each time that this was tried.
        ConfigurationError: the bus has no such class; or *why* is a book.
    """
    if len(why) > MAX_WHY:
        raise ConfigurationError(f"why= has {len(why)} characters, and {MAX_WHY} is the most; write the rest elsewhere")
    definition, store = saga_definition(bus, key), bus.store
    said = Cancellation(by or whoami(), why, keep)
    id_ = id or uuid.uuid4().hex
    for attempt in range(_TRIES):
        (snapshot,) = store.load([Want(key, (id_,))])
        if id_ in snapshot.consumed:
            break
        commit = _commit(definition, snapshot, id_, said)
        (result,) = store.commit([commit], by=said.by)
        if result.outcome in (Outcome.STORED, Outcome.DUPLICATE):
            break
        time.sleep(race_pause_s(attempt, random.random))
    else:
        raise BusySagaError(str(key))
    timers = tuple(snapshot.timers.values())
    if timers:
        # Their messages would be passed over when they fall due; there is no need to keep them until then.
        store.note(Bookkeeping(unscheduled=timers))
    merged = () if keep or len(snapshot.versions) < 2 else tuple(str(version.dot) for version in snapshot.versions)
    details = {"why": why, "life": snapshot.life, "merged": list(merged), "kept": keep}
    audit.note(
        bus,
        "cancel",
        by=said.by,
        saga=str(key),
        endpoint=definition.endpoint,
        id=id_,
        type=CANCEL,
        details={name: value for name, value in details.items() if value},
        key=f"cancel/{id_}",
    )
    (after,) = store.load([Want(key)])
    state = shown_state(after.versions[-1].state) if after.versions else None
    return CancelledSaga(key, id_, snapshot.life, merged, keep, tuple(sorted(snapshot.timers)), state)


def _commit(definition: SagaDefinition, snapshot: Snapshot, id_: str, said: Cancellation) -> Commit:
    key = str(snapshot.key)
    if snapshot.lifecycle is Lifecycle.ABSENT:
        raise SagaNotFoundError(key)
    if snapshot.lifecycle is Lifecycle.COMPLETED:
        raise SagaEndedError(key)
    versions = tuple(str(version.dot) for version in snapshot.versions)
    commit = ended(definition, snapshot, cancellation(snapshot.key, snapshot.life, id_, said, snapshot.now_ms))
    if commit.unmergeable is not None:
        raise UnmergedSiblingsError(key, f"its siblings cannot be merged: {in_a_line(commit.unmergeable)}", versions)
    if not commit.ids:
        raise UnmergedSiblingsError(key, f"{said.keep} is none of its live versions", versions)
    return commit
