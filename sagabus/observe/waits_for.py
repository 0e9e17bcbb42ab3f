"""What a saga waits for: answers, timers, a merge, and what it has not dispatched yet; what is overdue is marked.

`waits_for` is pure; `gather` looks up what the record of a saga does not say itself: when its timers are due, and
whether what it asked for has been given up.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from attrs import field, frozen

from sagabus.commit import HistoryEntry, Lifecycle, Snapshot
from sagabus.definition import SagaDefinition
from sagabus.errors import CodecError
from sagabus.messages import MERGE
from sagabus.observe.record import Look
from sagabus.observe.rerun import Comparison, rerun
from sagabus.observe.sent_requests import unanswered
from sagabus.outgoing import OutgoingKind, from_lines, merge_id
from sagabus.store.protocol import Store

if TYPE_CHECKING:
    from sagabus.endpoint import Endpoint

ANSWER_PATIENCE_MS: Final = 60_000
"""An answer is overdue after so long, unless the caller says otherwise."""
OWN_PATIENCE_MS: Final = 10_000
"""What workers do by themselves, merging and dispatching, is overdue after so long."""


class WaitKind(enum.Enum):
    """What a saga waits for.

    ANSWER: a command that it sent has no answer yet.
    TIMER: a timer that it set.
    MERGE: its MergeSagaState, while it has siblings.
    DISPATCH: a worker, to send what it has asked for.
    """

    ANSWER = "answer"
    TIMER = "timer"
    MERGE = "merge"
    DISPATCH = "dispatch"


@frozen
class Wait:
    """One thing that a saga waits for.

    Attributes:
        kind: what it is.
        name: the wire name of the message, or the name of the timer.
        to: the endpoint that is to answer, or that it is to go to; empty where nobody else is waited for.
        id: the message id; empty where it cannot be told.
        since_ms: since when, ms since 1970, store's clock; None where it cannot be told.
        due_ms: when a timer is due; None for others, and where it cannot be told.
        overdue: whether that is longer than it should be.
        remark: what else is known; empty for nothing.
    """

    kind: WaitKind
    name: str
    to: str = ""
    id: str = ""
    since_ms: int | None = None
    due_ms: int | None = None
    overdue: bool = False
    remark: str = ""

    def age_ms(self, now_ms: int) -> int:
        """Return for how long it has been waited; of a timer, for how long it is overdue; 0 where nobody knows."""
        since = self.due_ms if self.kind is WaitKind.TIMER else self.since_ms
        return 0 if since is None else max(0, now_ms - since)


@frozen
class Elsewhere:
    """What the record of a saga does not say itself.

    Attributes:
        due: message id of a timer -> when it is due, ms since 1970.
        given_up: message id of a command -> why it is a dead letter, in a line.
        silent: endpoint and wire name of commands that nobody there can answer.
    """

    due: Mapping[str, int] = field(factory=dict)
    given_up: Mapping[str, str] = field(factory=dict)
    silent: frozenset[tuple[str, str]] = frozenset()


def gather(
    store: Store,
    definition: SagaDefinition | None,
    seen: Look,
    *,
    endpoints: Mapping[str, Endpoint] | None = None,
    patience_ms: int = ANSWER_PATIENCE_MS,
    comparison: Comparison | None = None,
) -> tuple[Wait, ...]:
    """Return what a saga waits for, having looked up its timers and dead letters.

    Args:
        definition: of its class; without one, only what the record says itself is known.
        endpoints: those of its bus: what their consumers cannot answer, having no `Context`, is not waited for.
        patience_ms: how long an answer may take.
        comparison: what today's code makes of its history, where the caller knows.
    """
    snapshot = seen.snapshot
    comparison = comparison or compared(definition, seen)
    due: dict[str, int] = {}
    for id_ in snapshot.timers.values():
        scheduled = store.waiting.get(id_)
        if scheduled is not None:
            due[id_] = scheduled.item.due_ms
    for message in _undispatched_messages(snapshot):
        if message.kind is OutgoingKind.TIMER:
            due.setdefault(message.id, message.due_ms)
    given_up: dict[str, str] = {}
    silent: set[tuple[str, str]] = set()
    for request in _requests(comparison, snapshot):
        endpoint = (endpoints or {}).get(request.to)
        if endpoint is not None and _is_silent(endpoint, request.type):
            silent.add((request.to, request.type))
        letter = store.letters.get(request.to, request.id) if request.id else None
        if letter is not None:
            given_up[request.id] = f"{letter.reason}: {letter.error.partition(chr(10))[0]}"
    return waits_for(snapshot, comparison, Elsewhere(due, given_up, frozenset(silent)), patience_ms=patience_ms)


def compared(definition: SagaDefinition | None, seen: Look) -> Comparison:
    """Return what today's code makes of the history of a saga; nothing where its class is not known."""
    return rerun(definition, seen.recorded) if definition else Comparison(seen.recorded, refusal="no class")


def waits_for(
    snapshot: Snapshot,
    comparison: Comparison,
    elsewhere: Elsewhere | None = None,
    *,
    patience_ms: int = ANSWER_PATIENCE_MS,
) -> tuple[Wait, ...]:
    """Return what the saga in *snapshot* waits for, overdue things first, then by age. Pure.

    Args:
        comparison: what today's code makes of its history.
        elsewhere: what the record does not say itself.
        patience_ms: how long an answer may take.
    """
    known = elsewhere or Elsewhere()
    found = list(_dispatches(snapshot, comparison.recorded.history))
    if snapshot.lifecycle is Lifecycle.LIVE:
        found += _answers(snapshot, comparison, known, patience_ms)
        found += _timers(snapshot, known)
        found += _merge(snapshot, comparison.recorded.history)
    return tuple(sorted(found, key=lambda wait: (not wait.overdue, -wait.age_ms(snapshot.now_ms))))


def _requests(comparison: Comparison, snapshot: Snapshot) -> Sequence[Any]:
    live = snapshot.lifecycle is Lifecycle.LIVE
    return unanswered(comparison, snapshot.life, _starter_replyto(snapshot)) if live else ()


def _answers(snapshot: Snapshot, comparison: Comparison, known: Elsewhere, patience_ms: int) -> Iterator[Wait]:
    for request in _requests(comparison, snapshot):
        letter = known.given_up.get(request.id, "")
        if (request.to, request.type) in known.silent and not letter:
            continue
        overdue = bool(letter) or snapshot.now_ms - request.at_ms > patience_ms
        remark = f"given up, a dead letter now: {letter}" if letter else ""
        yield Wait(
            WaitKind.ANSWER,
            request.type,
            request.to,
            request.id,
            since_ms=request.at_ms,
            overdue=overdue,
            remark=remark,
        )


def _is_silent(endpoint: Endpoint, type_name: str) -> bool:
    """Return whether all who handle messages of a type on *endpoint* are consumers that can answer nobody."""
    takers = endpoint.takers(type_name)
    return bool(takers.consumers) and not takers.sagas and not any(c.wants_context for c in takers.consumers)


def _starter_replyto(snapshot: Snapshot) -> str:
    """Return the endpoint that waits for the saga's own answer; empty for none, and where that is damaged."""
    try:
        starter = msgspec.json.decode(snapshot.starter) if snapshot.starter else {}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return str(starter.get("replyto", "")) if isinstance(starter, dict) else ""


def _timers(snapshot: Snapshot, known: Elsewhere) -> Iterator[Wait]:
    for name, id_ in sorted(snapshot.timers.items()):
        due_ms = known.due.get(id_)
        remark = "" if due_ms is not None else "it is no longer scheduled: its message is under way, or was given up"
        overdue = due_ms is not None and due_ms <= snapshot.now_ms
        yield Wait(WaitKind.TIMER, name, id=id_, due_ms=due_ms, overdue=overdue, remark=remark)


def _merge(snapshot: Snapshot, history: Sequence[HistoryEntry]) -> Iterator[Wait]:
    if not snapshot.pending_merge:
        return
    posted = (e.at_ms for e in history if e.messages and _posts(snapshot, e))
    since_ms = next(posted, None)
    overdue = since_ms is not None and snapshot.now_ms - since_ms > OWN_PATIENCE_MS
    remark = f"{len(snapshot.versions)} siblings wait for it"
    yield Wait(WaitKind.MERGE, MERGE, id=snapshot.pending_merge, since_ms=since_ms, overdue=overdue, remark=remark)


def _posts(snapshot: Snapshot, entry: HistoryEntry) -> bool:
    return merge_id(snapshot.key, entry.life, entry.messages[-1].id) == snapshot.pending_merge


def _dispatches(snapshot: Snapshot, history: Sequence[HistoryEntry]) -> Iterator[Wait]:
    handled = {message.id: entry.at_ms for entry in history for message in entry.messages}
    for cause, lines in snapshot.consumed.items():
        since_ms = handled.get(cause)
        overdue = since_ms is not None and snapshot.now_ms - since_ms > OWN_PATIENCE_MS
        try:
            messages, merge = from_lines(lines)
        except CodecError as error:
            yield Wait(WaitKind.DISPATCH, "", since_ms=since_ms, overdue=True, remark=f"unreadable: {error}")
            continue
        for message in messages:
            kind = type_name(message.body)
            yield Wait(WaitKind.DISPATCH, kind, message.to, message.id, since_ms=since_ms, overdue=overdue)
        if merge:
            yield Wait(WaitKind.DISPATCH, MERGE, id=snapshot.pending_merge, since_ms=since_ms, overdue=overdue)


def _undispatched_messages(snapshot: Snapshot) -> Iterator[Any]:
    for lines in snapshot.consumed.values():
        try:
            yield from from_lines(lines)[0]
        except CodecError:
            continue  # `waits_for` says so


class _Typed(msgspec.Struct):
    type: str = ""


def type_name(body: bytes) -> str:
    """Return the wire name of the message in an envelope, JSON; `unreadable` where that is damaged."""
    try:
        return msgspec.json.decode(body, type=_Typed).type
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "unreadable"
