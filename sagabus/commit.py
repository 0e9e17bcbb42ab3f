"""The values between the functional core and the stores: what is stored, what a run asks for, what was done."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from msgspec import field

from sagabus.definition import Limits
from sagabus.envelope import Envelope, Incoming, SagaKey
from sagabus.index.note import IndexNote
from sagabus.leases.grant import Grant, LeaseRequest
from sagabus.outgoing import Outgoing
from sagabus.records import Record, RecordWithAside
from sagabus.versions import Dot, VersionVector

if TYPE_CHECKING:
    from sagabus.digest import HalfDigest


class Lifecycle(enum.Enum):
    """Where a saga stands."""

    ABSENT = "absent"
    LIVE = "live"
    COMPLETED = "completed"


class StoredVersion(Record, frozen=True):
    """One live version.

    Attributes:
        dot: its name.
        context: what its writer had seen.
        state: the state, as the saga's codec wrote it.
        parent: the state it was computed from, where the merger wants ancestors; None for a first write.
    """

    dot: Dot
    context: VersionVector
    state: bytes
    parent: bytes | None = None


class Snapshot(RecordWithAside, frozen=True):
    """What a store knows of one saga at one moment.

    Attributes:
        key: which saga.
        now_ms: the store's time, ms since 1970.
        lifecycle: absent, live or completed.
        life: how often it was begun; 0 while absent.
        clock: covers every version that ever was: the context of whoever read this.
        versions: the live versions in dot order; two or more are siblings. Of a completed saga: its last.
        consumed: of the ids asked for, those consumed before -> what they left undispatched, as outbox lines.
        timers: name -> id of the message that will be delivered.
        pending_merge: the id of the MergeSagaState under way; empty where there is none.
        starter: who started it, as the core wrote it; empty while absent.
        grant: who holds its lease, since before it was read; None where the lease was not asked for.
        index_note: what the index of the store may not have been told of it; None for nothing.
    """

    key: SagaKey
    now_ms: int
    lifecycle: Lifecycle = Lifecycle.ABSENT
    life: int = 0
    clock: VersionVector = field(default_factory=dict)
    versions: tuple[StoredVersion, ...] = ()
    consumed: Mapping[str, bytes] = field(default_factory=dict)
    timers: Mapping[str, str] = field(default_factory=dict)
    pending_merge: str = ""
    starter: bytes = b""
    grant: Grant | None = None
    index_note: IndexNote | None = None


class Want(Record, frozen=True):
    """What to load.

    Attributes:
        key: which saga.
        ids: of the messages about to be handled.
        lease: asks for the lease of the saga, which is granted, or not, before the saga is read.
    """

    key: SagaKey
    ids: tuple[str, ...] = ()
    lease: LeaseRequest | None = None


class Half(Record, frozen=True):
    """Facts, or a decision: a state and what leaves with it.

    Attributes:
        state: the state after it; None writes no version.
        outgoing: id of the message handled -> what it sends, in order.
        timers: name -> message id of timers set.
        cancelled: names of timers cancelled; those in `timers` are set afterwards.
    """

    state: bytes | None = None
    outgoing: Mapping[str, tuple[Outgoing, ...]] = field(default_factory=dict)
    timers: Mapping[str, str] = field(default_factory=dict)
    cancelled: tuple[str, ...] = ()


NOTHING: Final = Half()
"""No state, and nothing asked for."""
_USUAL: Final = Limits()


@frozen
class Failure:
    """A message whose handling raised, and left no trace.

    Attributes:
        incoming: the message.
        error: what was raised.
    """

    incoming: Incoming
    error: BaseException


class Commit(Record, frozen=True):
    """What one run asks of the store; the first group is stored, the second is for the driver.

    Attributes:
        key: which saga.
        ids: the messages consumed, in the order handled.
        life: the life that the run read, or begins.
        begins_life: whether the run starts a saga that is absent or completed.
        context: what the run had seen.
        parents: the dots that its state was computed from, in dot order; two or more were merged.
        parent: the state of the (first) parent, kept with the version where the merger wants ancestors.
        facts: state and effects of the message handlers.
        decision: the state after `decide()`, and its effects; None where the class has none.
        completes: whether the saga ends, if this settles.
        must_settle: whether a fork must not be written.
        late: whether this is no run but the messages of a completed saga or an earlier life.
        fired: name -> message id of timers among the messages.
        starter: who started the saga; empty where that is known already.
        messages: the envelopes of `ids`, for history.
        loaded_ms: the store's time when what the run read was loaded, for history; 0 where nobody says.
        limits: what the record keeps.
        grant: of the lease under which the run was made; nothing is stored once it has ended. None for no lease.
        gives_back: whether the lease is given back right after the commit, whatever became of that.

        failures: messages whose handlers raised; not consumed.
        early: messages for a saga that is not there yet; not consumed.
        leftover: messages to be run again after this commit; not consumed.
        stale: timers and merges that no longer concern anybody; to be acked and forgotten.
        unmergeable: why the stored versions cannot be opened (what the merger raised, or that this code cannot read a
            state); nothing was handled and all messages are left over.
    """

    key: SagaKey
    ids: tuple[str, ...] = ()
    life: int = 1
    begins_life: bool = False
    context: VersionVector = field(default_factory=dict)
    parents: tuple[Dot, ...] = ()
    parent: bytes | None = None
    facts: Half = NOTHING
    decision: Half | None = None
    completes: bool = False
    must_settle: bool = False
    late: bool = False
    fired: Mapping[str, str] = field(default_factory=dict)
    starter: bytes = b""
    messages: tuple[Envelope, ...] = ()
    loaded_ms: int = 0
    limits: Limits = _USUAL
    grant: Grant | None = None
    gives_back: bool = False

    failures: tuple[Failure, ...] = ()
    early: tuple[Incoming, ...] = ()
    leftover: tuple[Incoming, ...] = ()
    stale: tuple[Incoming, ...] = ()
    unmergeable: BaseException | None = None

    @property
    def merged(self) -> bool:
        """Return whether the state was computed from siblings."""
        return len(self.parents) > 1


class Outcome(enum.Enum):
    """What became of a commit."""

    STORED = "stored"
    FORKED = "forked"
    AGAIN = "again"
    DUPLICATE = "duplicate"
    LATE = "late"


class Result(RecordWithAside, frozen=True):
    """What a store did with a commit.

    Attributes:
        outcome: stored (facts and decision), forked (facts only), late (ids and effects only), duplicate or again
            (nothing).
        reason: why again: `consumed`, `fence`, `completed`, `life`, `clock`, `merged`, `settle`, `siblings`; else
            empty.
        dot: the version written; None where none was.
        live: how many versions are live now.
        posted_merge: whether a MergeSagaState was put into the outbox, under the last id.
        consumed: of the commit's ids, those consumed before -> what they left undispatched, as outbox lines.
        sent: of the commit's ids, those whose commands and events have been sent in the same write.
        index_note: what the index of the store is still to be told; None for nothing.
    """

    outcome: Outcome
    reason: str = ""
    dot: Dot | None = None
    live: int = 0
    posted_merge: bool = False
    consumed: Mapping[str, bytes] = field(default_factory=dict)
    sent: frozenset[str] = frozenset()
    index_note: IndexNote | None = None


@frozen
class HistoryEntry:
    """One commit that left a trace in a record.

    Attributes:
        dot: the version written; None where the commit wrote none.
        outcome: stored, forked or late.
        at_ms: when, store's clock.
        parents: the versions that it was computed from.
        by: who wrote it: the name of the worker.
        messages: the messages handled, oldest first.
        completed: whether it ended the saga.
        dropped_decision: whether a decision was taken and dropped because the commit forked.
        life: of which life.
        loaded_ms: when what it was computed from was loaded, store's clock; 0 in entries of an older sagabus.
        facts: what the message handlers came out as; None in such entries, and outside of a store.
        decision: what `decide()` came out as, dropped or not; None where it changed nothing and asked for nothing.
    """

    dot: Dot | None
    outcome: Outcome
    at_ms: int
    parents: tuple[Dot, ...]
    by: str
    messages: tuple[Envelope, ...]
    completed: bool
    dropped_decision: bool
    life: int
    loaded_ms: int = 0
    facts: HalfDigest | None = None
    decision: HalfDigest | None = None


def sort_dots(dots: Any) -> tuple[Dot, ...]:
    """Return *dots* in dot order: by counter, then by actor."""
    return tuple(sorted(dots, key=lambda dot: (dot.counter, dot.actor)))
