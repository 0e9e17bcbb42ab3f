"""Recorded sagas as lines of JSON: how `sagabus record` writes them, and `sagabus replay` reads them.

A file holds one saga after another. Empty lines, and lines that begin with `#`, say nothing. A saga is a head:

    {"sagabus-record": 1, "app": "examples.credit_check.app:bus", "saga": "CreditCheck/42", "lifecycle": "live",
     "life": 1, "recorded_at": "2026-01-02T03:04:05.678Z", "sagabus": "0.1.0", "commits": 4, "versions": 1}

then a line for each commit that its record remembers, oldest first:

    {"kind": "commit", "version": "ACTOR:3", "outcome": "forked", "at": TIME, "loaded_at": TIME, "parents": ["ACTOR:1"],
     "by": WORKER, "life": 1, "completed": false, "dropped_decision": true, "messages": [ENVELOPE, ...],
     "facts": {"state": DIGEST, "effects": [{"kind": "command", "to": "equifax", "type": "cc.ask", "body": DIGEST}]},
     "decision": {"state": DIGEST, "effects": [...], "completes": true}}

then a line for each version that is live, or for the last of a completed saga:

    {"kind": "version", "version": "ACTOR:4", "state": {...}, "stored": BYTES}

`version`, `loaded_at`, `facts` and `decision` are missing where there are none. An envelope is a CloudEvents object as
on the wire, with its body. Digests (`sagabus.digest`) and bytes are base64; `stored` is the state as the store has it,
and what is compared; `state` is the same for people. The format is version 1, and stays readable for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import msgspec

from sagabus.codec import plain_state
from sagabus.commit import HistoryEntry, Lifecycle, Outcome
from sagabus.digest import EffectDigest, HalfDigest
from sagabus.envelope import Envelope, SagaKey, rfc3339
from sagabus.errors import ConfigurationError
from sagabus.observe.record import RecordedSaga, RecordedVersion
from sagabus.outgoing import OutgoingKind
from sagabus.versions import Dot

FORMAT: Final = 1
"""The version of the format."""
MARK: Final = "sagabus-record"
"""The member that only a head has; its value is the version of the format."""

T = TypeVar("T")


class RecordError(ConfigurationError):
    """A file of recorded sagas does not follow its format.

    Attributes:
        line: where, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line} of the record: {problem}; write the file anew with `sagabus record`")
        self.line = line


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    format: int = msgspec.field(name=MARK)
    app: str
    saga: str
    lifecycle: Literal["live", "completed"]
    life: int
    recorded_at: str
    sagabus: str
    commits: int
    versions: int


class _Effect(msgspec.Struct, omit_defaults=True):
    kind: Literal["command", "event", "timer", "cancel"]
    to: str
    type: str = ""
    body: bytes = b""


class _Half(msgspec.Struct, omit_defaults=True):
    state: bytes
    effects: list[_Effect] = []
    completes: bool = False


class _Commit(msgspec.Struct, omit_defaults=True, tag_field="kind", tag="commit", kw_only=True):
    version: str = ""
    outcome: Outcome
    at: str
    loaded_at: str = ""
    parents: list[str]
    by: str
    life: int
    completed: bool
    dropped_decision: bool
    messages: list[Envelope]
    facts: _Half | None = None
    decision: _Half | None = None


class _Version(msgspec.Struct, tag_field="kind", tag="version"):
    version: str
    state: Any
    stored: bytes


_encode: Final = msgspec.json.Encoder().encode
_mark: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_head: Final = msgspec.json.Decoder(_Head)
_commit: Final = msgspec.json.Decoder(_Commit)
_version: Final = msgspec.json.Decoder(_Version)


def write(saga: RecordedSaga) -> Iterator[str]:
    """Yield the lines of a recorded saga, without their ends."""
    head = _Head(
        format=FORMAT,
        app=saga.app,
        saga=str(saga.key),
        lifecycle="completed" if saga.lifecycle is Lifecycle.COMPLETED else "live",
        life=saga.life,
        recorded_at=saga.recorded_at,
        sagabus=saga.sagabus,
        commits=len(saga.history),
        versions=len(saga.versions),
    )
    yield _encode(head).decode()
    for entry in saga.history:
        yield _encode(_commit_line(entry)).decode()
    for version in saga.versions:
        yield _encode(_Version(str(version.dot), plain_state(version.stored), version.stored)).decode()


def _commit_line(entry: HistoryEntry) -> _Commit:
    return _Commit(
        version=str(entry.dot) if entry.dot else "",
        outcome=entry.outcome,
        at=rfc3339(entry.at_ms),
        loaded_at=rfc3339(entry.loaded_ms) if entry.loaded_ms else "",
        parents=[str(dot) for dot in entry.parents],
        by=entry.by,
        life=entry.life,
        completed=entry.completed,
        dropped_decision=entry.dropped_decision,
        messages=[_in_a_line(message) for message in entry.messages],
        facts=_half_line(entry.facts),
        decision=_half_line(entry.decision),
    )


def _in_a_line(envelope: Envelope) -> Envelope:
    """Return an envelope whose body has no line breaks; a foreign sender may have laid it out for people."""
    data = bytes(envelope.data)
    if b"\n" not in data and b"\r" not in data:
        return envelope
    return msgspec.structs.replace(envelope, data=msgspec.Raw(msgspec.json.format(data, indent=-1)))


def _half_line(half: HalfDigest | None) -> _Half | None:
    if half is None:
        return None
    effects = [_Effect(kind_name(e.kind), e.to, e.type, e.body) for e in half.effects]
    return _Half(half.state, effects, half.completes)


def kind_name(kind: OutgoingKind | None) -> Literal["command", "event", "timer", "cancel"]:
    """Return what an effect is called in a record."""
    match kind:
        case OutgoingKind.COMMAND:
            return "command"
        case OutgoingKind.EVENT:
            return "event"
        case OutgoingKind.TIMER:
            return "timer"
        case None:
            return "cancel"


_KINDS: Final = {kind_name(kind): kind for kind in (*OutgoingKind, None)}


def read(lines: Iterable[str]) -> Iterator[RecordedSaga]:
    """Yield the sagas that *lines* hold, each as soon as its last line is read.

    Raises:
        RecordError: they do not follow the format; with the line.
    """
    said = ((n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#"))
    for number, line in said:
        head = _read_head(number, line)
        last = number
        commits, versions = [], []
        for _ in range(head.commits):
            last, line = _next(said, last, f"{head.commits} commits of {head.saga}")
            commits.append(_read(last, line, _entry))
        for _ in range(head.versions):
            last, line = _next(said, last, f"{head.versions} versions of {head.saga}")
            versions.append(_read(last, line, _recorded_version))
        yield RecordedSaga(
            app=head.app,
            key=SagaKey.parse(head.saga),
            lifecycle=Lifecycle(head.lifecycle),
            life=head.life,
            recorded_at=head.recorded_at,
            sagabus=head.sagabus,
            history=tuple(commits),
            versions=tuple(versions),
            line=number,
        )


def _next(said: Iterator[tuple[int, str]], last: int, wanted: str) -> tuple[int, str]:
    try:
        return next(said)
    except StopIteration:
        raise RecordError(last, f"the file ends here, before the {wanted}") from None


def _read(number: int, line: str, reader: Callable[[str], T]) -> T:
    try:
        return reader(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordError(number, str(error)) from error


def _read_head(number: int, line: str) -> _Head:
    mark = _read(number, line, _mark.decode).get(MARK)
    if mark is None:
        raise RecordError(number, f'no head {{"{MARK}": {FORMAT}, ...}} where one should be')
    if bytes(mark) != b"%d" % FORMAT:
        raise RecordError(number, f"format {bytes(mark).decode()} is not known here, only {FORMAT}")
    head = _read(number, line, _head.decode)
    if "/" not in head.saga:
        raise RecordError(number, f"{head.saga!r} is no saga; it should be NAME/ID")
    return head


def _entry(line: str) -> HistoryEntry:
    row = _commit.decode(line)
    return HistoryEntry(
        dot=_dot(row.version) if row.version else None,
        outcome=row.outcome,
        at_ms=_ms(row.at),
        parents=tuple(map(_dot, row.parents)),
        by=row.by,
        messages=tuple(row.messages),
        completed=row.completed,
        dropped_decision=row.dropped_decision,
        life=row.life,
        loaded_ms=_ms(row.loaded_at) if row.loaded_at else 0,
        facts=_digest(row.facts),
        decision=_digest(row.decision),
    )


def _digest(half: _Half | None) -> HalfDigest | None:
    if half is None:
        return None
    effects = tuple(EffectDigest(_KINDS[e.kind], e.to, e.type, e.body) for e in half.effects)
    return HalfDigest(half.state, effects, half.completes)


def _recorded_version(line: str) -> RecordedVersion:
    row = _version.decode(line)
    return RecordedVersion(_dot(row.version), row.stored)


def _dot(text: str) -> Dot:
    actor, _, counter = text.rpartition(":")
    return Dot(actor, int(counter))


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
