"""What was found out about a bus, for the checks to judge: plain values."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class ServerFacts:
    """One Redis or Valkey server; of a cluster, one primary.

    Attributes:
        role: what it is to the bus: `store`, `queues`, or both.
        name: where it is, without credentials.
        info: what INFO says.
        appendfsync: when its append-only file is synced; None where its user may not ask.
        clock_ahead_ms: how far its clock is ahead of this machine's, ms; give or take half of how long it took to ask.
        asked_in_ms: how long that took, ms.
    """

    role: str
    name: str
    info: Mapping[str, str]
    appendfsync: str | None = None
    clock_ahead_ms: float = 0.0
    asked_in_ms: float = 0.0


@frozen
class QueueFacts:
    """One queue.

    Attributes:
        endpoint: whose it is.
        depth: messages that wait or are being handled; -1 where the broker cannot tell.
        max_length: from which length it pushes back; None where this app does not have the endpoint.
        consumers: workers that looked into it within the claim time and show themselves; None where the broker cannot
            tell.
        oldest_s: how long ago its oldest message was put there, s; None where there is none, or the broker cannot tell.
        handles: whether anything of this app handles its messages.
        paused: who has paused it, since when, and why; empty where nobody has.
    """

    endpoint: str
    depth: int
    max_length: int | None = None
    consumers: int | None = None
    oldest_s: float | None = None
    handles: bool = True
    paused: str = ""


@frozen
class SagaFacts:
    """One saga that may not be well.

    Attributes:
        key: which, as `name/id`.
        live: whether it has not completed.
        siblings: how many versions it has.
        pending_merge: whether a MergeSagaState is under way to it.
        quiet_s: how long ago it was written last, s; None where its history does not say.
        undispatched: how many of the messages it handled left something that was not sent.
        undispatched_s: how long ago the first of them was handled, s; None where its history does not say.
        unmergeable: why its siblings cannot be folded; empty where they can.
        unknown: whether this app has no class for it.
    """

    key: str
    live: bool = True
    siblings: int = 1
    pending_merge: bool = False
    quiet_s: float | None = None
    undispatched: int = 0
    undispatched_s: float | None = None
    unmergeable: str = ""
    unknown: bool = False


@frozen
class Facts:
    """All of it.

    Attributes:
        claim_s: after how long without a sign of life a worker's messages go to another, s.
        replicas: how many replicas must have what is written; 0 for none.
        servers: those of the store and the queues, where they are Redis or Valkey.
        queues: all that are known.
        sagas: those looked at that may not be well.
        sagas_seen: how many were looked at.
        sagas_left: whether there are more.
        unreadable: records that cannot be read, as `name/id` -> why.
        unindexed: how many of those looked at the index does not know; None where the store has no index.
        letters: dead letters, reason -> how many.
        overdue: how many messages wait though their time has come.
        overdue_s: for how long the first of them does, s.
        shadowed: packages that hide ours: what to do about each.
        refused: `store`, `broker` -> why it cannot be worked with.
        unreachable: `store`, `broker` -> why it does not answer.
    """

    claim_s: float
    replicas: int = 0
    servers: tuple[ServerFacts, ...] = ()
    queues: tuple[QueueFacts, ...] = ()
    sagas: tuple[SagaFacts, ...] = ()
    sagas_seen: int = 0
    sagas_left: bool = False
    unreadable: Mapping[str, str] = field(factory=dict)
    unindexed: int | None = None
    letters: Mapping[str, int] = field(factory=dict)
    overdue: int = 0
    overdue_s: float = 0.0
    shadowed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(factory=dict)
    unreachable: Mapping[str, str] = field(factory=dict)
