"""How a saga's record lies in Redis: key names, the arguments of the scripts, and what they answer.

Every key of one saga, its lease too, has the hash tag `{NAMESPACE:NAME/ID}`, so they share a slot on a cluster; the
documents of one group share theirs, and the index of sagas has a slot a class. The format is version 1; fixtures in
the tests keep it readable for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sagabus.commit import (
    NOTHING,
    Commit,
    Half,
    HistoryEntry,
    Lifecycle,
    Outcome,
    Result,
    Snapshot,
    StoredVersion,
    Want,
    sort_dots,
)
from sagabus.digest import HalfDigest, digests
from sagabus.documents.key import DocumentKey, group_tag
from sagabus.envelope import SagaKey, decode, encode
from sagabus.errors import CodecError
from sagabus.index.note import IndexNote
from sagabus.index.standing import Standing
from sagabus.leases.grant import LeaseKey
from sagabus.outgoing import Outgoing, OutgoingKind, merge_id, to_lines
from sagabus.transport import Outlet
from sagabus.versions import Dot, VersionVector

FORMAT: Final = 1
_pack: Final = msgspec.msgpack.Encoder().encode


class _Meta(msgspec.Struct, array_like=True, frozen=True):
    """The `m` field of a record."""

    format: int
    life: int
    completed: int
    clock: list[str | int]
    live: list[tuple[str, int, list[str | int]]]
    pending_merge: str
    started_ms: int = 0
    forked_ms: int = 0
    completed_ms: int = 0
    expires_ms: int = 0
    timers: int | None = None


class _Trace(msgspec.Struct, array_like=True, frozen=True):
    """The tail of a history entry: what the runtime knows of it. Entries of older versions end with the messages."""

    parents: list[str | int]
    by: str
    life: int
    messages: list[bytes]
    loaded_ms: int = 0
    facts: HalfDigest | None = None
    decision: HalfDigest | None = None


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    """A history entry: what the script knows of it, and the tail."""

    actor: str
    counter: int
    outcome: Outcome
    at_ms: int
    completed: bool
    dropped_decision: bool
    trace: _Trace


_meta_decoder: Final = msgspec.msgpack.Decoder(_Meta)
_entry_decoder: Final = msgspec.msgpack.Decoder(_Entry)


class TimerPlace(NamedTuple):
    """The keys of some messages that wait: id -> when, ms; and id -> the message."""

    whens: str
    bodies: str


class IndexPlace(NamedTuple):
    """The keys of the index of one class of sagas.

    Attributes:
        ages: id -> lifecycle and age in one: of a live saga when its life began, ms since 1970; of a completed one when
            it expires, ms since 1970, below zero.
        forks: id -> since when it has siblings, ms since 1970; of those that have.
    """

    ages: str
    forks: str


class Keys:
    """The names of a namespace's keys."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.timers, self.timer_bodies = self.timer_place(0)
        self.dead = f"{namespace}:{{{namespace}:dead}}:when"
        self.dead_bodies = f"{namespace}:{{{namespace}:dead}}:body"
        self.dead_heads = f"{namespace}:{{{namespace}:dead}}:head"
        self.dead_marks = f"{namespace}:{{{namespace}:dead}}:resent"
        self.dead_audit = f"{namespace}:{{{namespace}:dead}}:audit"
        self.worker_cards = f"{namespace}:{{{namespace}:presence}}:cards"
        self.workers_seen = f"{namespace}:{{{namespace}:presence}}:seen"
        self.paused = f"{namespace}:{{{namespace}:presence}}:paused"
        self.index_names = f"{namespace}:{{{namespace}:index}}:names"
        self._prefix = f"{namespace}:{{{namespace}:"
        self._documents = f"{namespace}:documents:{{{namespace}:"

    def letter_keys(self) -> tuple[str, ...]:
        """Return the keys that the scripts which remove dead letters take."""
        return self.dead, self.dead_bodies, self.dead_heads, self.dead_marks, self.dead_audit

    def timer_place(self, number: int) -> TimerPlace:
        """Return the keys of one of the places where messages wait for their time, each in a slot of its own."""
        tag = f"{{{self.namespace}:timers{f':{number}' if number else ''}}}"
        return TimerPlace(f"{self.namespace}:{tag}:due", f"{self.namespace}:{tag}:body")

    def index(self, name: str) -> IndexPlace:
        """Return the keys of the index of one class of sagas, in a slot of their own."""
        prefix = f"{self.namespace}:{{{self.namespace}:index:{name}}}:"
        return IndexPlace(f"{prefix}age", f"{prefix}forked")

    def saga(self, key: SagaKey) -> str:
        """Return what all keys of a saga begin with."""
        return f"{self._prefix}{key.tag()}}}:"

    def record_pattern(self, name: str | None) -> str:
        """Return the pattern that every record key matches."""
        return f"{self._prefix}{name or '*'}/*}}:r"

    def saga_of(self, record_key: str) -> SagaKey:
        """Return which saga a record key belongs to."""
        return SagaKey.from_tag(record_key[len(self._prefix) : -len("}:r")])

    def document(self, key: DocumentKey) -> str:
        """Return the key of a document."""
        return f"{self._documents}{key.tag()}}}:{key.name}"

    def document_pattern(self, group: str | None) -> str:
        """Return the pattern that every document of *group* matches; `""` is for those that stand alone."""
        tag = "*" if group is None else f"{group_tag(group)}}}:*" if group else "=*"
        return f"{self._documents}{tag}"

    def document_of(self, name: str) -> DocumentKey:
        """Return which document a key belongs to."""
        tag, _, document = name[len(self._documents) :].partition("}:")
        return DocumentKey.from_tag(tag, document)

    def document_write(self, key: DocumentKey, write_id: str) -> str:
        """Return the key under which a write to the group of *key* is remembered."""
        return f"{self.namespace}:writes:{{{self.namespace}:{key.tag()}}}:{write_id}"

    def lease(self, key: LeaseKey) -> str:
        """Return the key of a lease; that of a saga shares the saga's slot."""
        kind, tag = ("saga-leases", key.tag()) if isinstance(key, SagaKey) else ("leases", group_tag(key))
        return f"{self.namespace}:{kind}:{{{self.namespace}:{tag}}}"


def flat(vector: VersionVector) -> list[str | int]:
    """Return a version vector as the scripts take it: actor, counter, actor, counter, ..."""
    return [item for pair in vector.items() for item in pair]


def flat_dots(dots: Sequence[Dot]) -> list[str | int]:
    """Return dots as the scripts take them."""
    return [item for dot in dots for item in dot]


def unflat(items: Sequence[str | int]) -> dict[str, int]:
    """Return the version vector that *items* lists."""
    if len(items) == 2 and type(items[0]) is str and type(items[1]) is int:
        return {items[0]: items[1]}
    return {str(items[i]): int(items[i + 1]) for i in range(0, len(items), 2)}


def load_keys(prefix: str) -> tuple[str, str, str]:
    """Return the keys that load.lua takes for one saga."""
    return f"{prefix}r", f"{prefix}i", f"{prefix}o"


def standing(data: bytes) -> Standing:
    """Return where a saga stands, by the meta of its record; without times where an older sagabus wrote that.

    Raises:
        CodecError: it cannot be read.
    """
    try:
        meta = _meta_of(data)
        versions = sum(unflat(meta.clock).values())
    except (IndexError, ValueError, msgspec.MsgspecError) as error:
        raise CodecError(f"{type(error).__name__}: {error}") from error
    return Standing(
        bool(meta.completed),
        len(meta.live),
        meta.life,
        versions,
        meta.started_ms,
        meta.forked_ms,
        meta.completed_ms,
        meta.expires_ms,
    )


def _meta_of(data: bytes) -> _Meta:
    meta = _meta_decoder.decode(data)
    if meta.format > FORMAT:
        raise CodecError(
            f"record format {meta.format} is newer than this code, which knows {FORMAT}", "unknown-version"
        )
    return meta


def snapshot(
    want: Want, now_ms: int, fields: Sequence[bytes], seen: Sequence[bytes | None], *, noting: bool = False
) -> Snapshot:
    """Return what load.lua answered for one saga.

    Args:
        noting: whether the index lies elsewhere, so that what may not have been noted there yet is to be said.

    Raises:
        CodecError: the record cannot be read.
    """
    if not fields:
        return Snapshot(want.key, now_ms)
    record = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        meta = _meta_of(record[b"m"])
        versions = {
            (dot := Dot(actor, counter)): StoredVersion(
                dot, unflat(context), record[b"v" + (name := str(dot).encode())], record.get(b"p" + name)
            )
            for actor, counter, context in meta.live
        }
        clock = unflat(meta.clock)
        timers = {name[1:].decode(): id_.decode() for name, id_ in record.items() if name[:1] == b"t"}
    except (KeyError, IndexError, ValueError, msgspec.MsgspecError) as error:
        raise CodecError(f"{type(error).__name__}: {error}") from error
    consumed = {id_: lines for id_, lines in zip(want.ids, seen, strict=False) if lines is not None}
    return Snapshot(
        key=want.key,
        now_ms=now_ms,
        lifecycle=Lifecycle.COMPLETED if meta.completed else Lifecycle.LIVE,
        life=meta.life,
        clock=clock,
        versions=tuple(versions[dot] for dot in sort_dots(versions)) if len(versions) > 1 else tuple(versions.values()),
        consumed=consumed,
        timers=timers,
        pending_merge=meta.pending_merge,
        starter=record.get(b"s", b""),
        # Who consumed them may have died before the index was told.
        index_note=_note_of(meta, now_ms) if noting and consumed else None,
    )


def _note_of(meta: _Meta, now_ms: int) -> IndexNote | None:
    if not meta.started_ms:
        return None
    return IndexNote(-meta.expires_ms if meta.completed else meta.started_ms, meta.forked_ms or -now_ms)


class Straight:
    """Which messages of some commits go straight into queues, and into which streams.

    Attributes:
        or_kept: whether what cannot go straight is to be in the outbox; else nothing is done then.
        streams: the streams that were asked for -> their numbers, from 1.
    """

    def __init__(self, outlet: Outlet | None, *, or_kept: bool = False) -> None:
        self.or_kept = or_kept
        self._outlet = outlet
        self._asked = False
        self.streams: dict[str, int] = {}

    def head(self) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments that stand before those of the sagas."""
        if self._outlet is None or not self._asked:
            return [], [b"", 0, 0]
        limits = [self._outlet.limits[stream] for stream in self.streams]
        return [self._outlet.key, *self.streams], [self._outlet.version, int(self.or_kept), len(limits), *limits]

    def ways(self, strings: Strings, *parts: Sequence[Outgoing]) -> list[list[int]] | None:
        """Return what delivers the messages of each part: the number of a stream, that of a body, and so on.

        None where one of them must wait in the outbox: nothing of what one message has caused goes straight then, for
        it would be sent again with the rest.
        """
        if self._outlet is None or not self._outlet.version:
            return None
        targets: list[list[tuple[Outgoing, Sequence[str]]]] = []
        for part in parts:
            targets.append([])
            for message in part:
                if message.kind is OutgoingKind.TIMER:
                    return None
                event = message.kind is OutgoingKind.EVENT
                streams = self._outlet.streams_of(event, message.to, message.partition_key)
                if streams is None:
                    return None
                targets[-1].append((message, streams))
        found: list[list[int]] = []
        for each in targets:
            found.append([])
            for message, streams in each:
                body = strings.number(message.body)
                for stream in streams:
                    found[-1] += (self.streams.setdefault(stream, len(self.streams) + 1), body)
        # Where nobody subscribes, too: somebody may by now.
        self._asked = True
        return found


class Strings:
    """The strings that go along with the array of one commit, for MessagePack in Lua knows no bytes.

    Attributes:
        all: in the order of their numbers, from 1.
    """

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def number(self, string: bytes | None) -> int:
        """Return the number of *string*; 0 for one that is empty."""
        if not string:
            return 0
        self.all.append(string)
        return len(self.all)


class IndexKeys:
    """The keys of the index that some commits change in the same write; none on a cluster, where they lie elsewhere.

    Attributes:
        classes: of the commits -> their numbers, from 1.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys
        self.classes: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the number of a class; 0 where the index lies elsewhere."""
        return 0 if self._keys is None else self.classes.setdefault(name, len(self.classes) + 1)

    def head(self) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments that stand before those of the sagas."""
        if self._keys is None or not self.classes:
            return [], [0]
        keys = [self._keys.index_names]
        for name in self.classes:
            keys += self._keys.index(name)
        return keys, [len(self.classes), *self.classes]


def commit_args(commit: Commit, by: str, straight: Straight, index: IndexKeys) -> tuple[list[bytes], frozenset[str]]:
    """Return the arguments of commit.lua for one saga, and the ids whose messages go straight into queues."""
    facts, decision = commit.facts, commit.decision
    last = commit.ids[-1]
    messages = [encode(m, max_bytes=sys.maxsize) for m in commit.messages]
    trace = _Trace(flat_dots(commit.parents), by, commit.life, messages, commit.loaded_ms, *digests(commit))
    bounds = commit.limits.bounds if commit.grant is None else (*commit.limits.bounds, commit.grant.until_ms)
    decided = decision.outgoing.get(last, ()) if decision else ()
    strings, free = Strings(), set()
    decision_lines, decision_way = 0, None
    lines: list[int] = []
    ways: list[list[int] | None] = []
    for id_ in commit.ids:
        said = facts.outgoing.get(id_, ())
        more = decided if id_ == last else ()
        line, way = 0, None
        if said or more:
            found = straight.ways(strings, said, more)
            if found is None or straight.or_kept:
                line, decision_lines = strings.number(to_lines(said)), strings.number(to_lines(more))
            if found is not None:
                free.add(id_)
                way, way_of_more = found
                if id_ == last:
                    decision_way = way_of_more
        lines.append(line)
        ways.append(way)
    array = (
        _flags(commit),
        commit.life,
        flat(commit.context),
        flat_dots(commit.parents),
        strings.number(facts.state),
        strings.number(decision.state) if decision else 0,
        strings.number(commit.parent),
        strings.number(commit.starter),
        merge_id(commit.key, commit.life, last),
        _timers(commit, facts, decision),
        bounds,
        strings.number(_pack(trace)),
        decision_lines,
        index.number(commit.key.name),
        commit.key.id,
        commit.ids,
        lines,
        ways,
        decision_way,
        len(strings.all),
    )
    return [_pack(array), *strings.all], frozenset(free)


def _flags(commit: Commit) -> str:
    return (
        ("B" if commit.begins_life else "")
        + ("L" if commit.late else "")
        + ("C" if commit.completes else "")
        + ("S" if commit.must_settle else "")
        + ("N" if commit.facts.state is None else "")
        + ("D" if commit.decision is not None else "")
        + ("P" if commit.parent is not None else "")
    )


def _timers(commit: Commit, facts: Half, decision: Half | None) -> list[list[str]] | None:
    decided = decision or NOTHING
    parts = (commit.fired, facts.cancelled, facts.timers, decided.cancelled, decided.timers)
    if not any(parts):
        return None
    return [flat_names(part) if isinstance(part, dict) else list(part) for part in parts]


def flat_names(names: dict[str, str]) -> list[str]:
    """Return a mapping of timers as the script takes it: name, id, name, id, ..."""
    return [item for pair in names.items() for item in pair]


def result(commit: Commit, reply: Sequence[Any], actor: str, sent: frozenset[str]) -> Result:
    """Return what commit.lua answered for one saga; *sent*: the ids whose messages went straight into queues."""
    name, reason, counter, live, posted, seen, *note = reply
    outcome = _OUTCOMES[name]
    return Result(
        outcome=outcome,
        reason=reason.decode(),
        dot=Dot(actor, counter) if counter else None,
        live=live,
        posted_merge=bool(posted),
        consumed={id_: lines for id_, lines in zip(commit.ids, seen, strict=False) if lines is not None},
        sent=frozenset() if outcome in _NOTHING_DONE else sent,
        index_note=IndexNote(*note[0]) if note else None,
    )


_NOTHING_DONE: Final = (Outcome.AGAIN, Outcome.DUPLICATE)
_OUTCOMES: Final = {outcome.value.encode(): outcome for outcome in Outcome}


def history_entry(data: bytes) -> HistoryEntry:
    """Return a stored history entry.

    Raises:
        CodecError: it cannot be read.
    """
    try:
        entry = _entry_decoder.decode(data)
        trace = entry.trace
        parents = tuple(Dot(str(trace.parents[i]), int(trace.parents[i + 1])) for i in range(0, len(trace.parents), 2))
    except (IndexError, ValueError, msgspec.MsgspecError) as error:
        raise CodecError(f"history: {error}") from error
    return HistoryEntry(
        dot=Dot(entry.actor, entry.counter) if entry.counter else None,
        outcome=entry.outcome,
        at_ms=entry.at_ms,
        parents=parents,
        by=trace.by,
        messages=tuple(decode(m, max_bytes=sys.maxsize) for m in trace.messages),
        completed=entry.completed,
        dropped_decision=entry.dropped_decision,
        life=trace.life,
        loaded_ms=trace.loaded_ms,
        facts=trace.facts,
        decision=trace.decision,
    )
