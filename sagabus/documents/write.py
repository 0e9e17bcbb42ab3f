"""The values between documents and stores, and the rules of a write. Pure.

`store/documents.lua` is the same rules in Lua; one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from attrs import field, frozen

from sagabus.documents.key import DocumentKey
from sagabus.leases.grant import KEPT_MS, Fence
from sagabus.versions import Dot, VersionSet, VersionVector, covers

SIBLING_LIMIT: Final = 25
"""From how many siblings on a write that would add one is refused."""


@frozen
class StoredDocument:
    """What a store knows of one document.

    Attributes:
        key: which.
        clock: covers every version there is; empty where there is no document.
        values: the live versions, dot -> value, in dot order; two or more are siblings.
        expires_ms: when it ends, ms since 1970, store's clock; None for never.
    """

    key: DocumentKey
    clock: VersionVector = field(factory=dict)
    values: Mapping[Dot, bytes] = field(factory=dict)
    expires_ms: int | None = None


@frozen
class Change:
    """What one write does to one document.

    Attributes:
        key: which.
        value: the new value; None deletes the document.
        seen: what the writer has seen; None for everything there is, which is to say that the last writer wins.
        exact: refuse the write unless there is precisely what was seen; an empty `seen` then means no document.
        ttl_ms: how long the document lives from now on; None for ever. A write that leaves siblings never shortens it.
    """

    key: DocumentKey
    value: bytes | None
    seen: VersionVector | None
    exact: bool = False
    ttl_ms: int | None = None


@frozen
class Write:
    """Changes to documents of one group, each named once, that are made together or not at all.

    Attributes:
        id: unique; a write that a lost reply had sent again is recognised by it.
        changes: at least one.
        fence: the lease that must still be held; None for none.
    """

    id: str
    changes: tuple[Change, ...]
    fence: Fence | None = None


@frozen
class Written:
    """What became of a write. Where any of the last three says something, nothing was written.

    Attributes:
        documents: for each change the document as it is now, siblings and all.
        conflicts: index of a change -> the clock of the document found instead.
        full: indices of the changes that would have added a sibling to a document that has `SIBLING_LIMIT`.
        fenced: why the fence was refused: `expired`, or `superseded` by a newer token; else empty.
    """

    documents: tuple[StoredDocument, ...] = ()
    conflicts: Mapping[int, VersionVector] = field(factory=dict)
    full: tuple[int, ...] = ()
    fenced: str = ""


class DocumentStore(Protocol):
    """The part of a store that keeps documents. Errors as of `Store`."""

    def read(self, keys: Sequence[DocumentKey]) -> list[StoredDocument]:
        """Return documents, in order, in one round trip; those of one group as they were at one moment.

        Raises:
            CorruptDocumentError: one cannot be read.
        """
        ...

    def write(self, write: Write) -> Written:
        """Make all changes of *write*, or none, in one atomic write.

        One that comes again within two minutes, because the reply was lost, is made once and answered alike.

        Raises:
            CorruptDocumentError: one cannot be read, and nothing was written. A change that has seen all there is
                replaces what cannot be read, but not what a newer version of sagabus wrote.
        """
        ...

    def keys(self, group: str | None = None) -> Iterator[DocumentKey]:
        """Yield the keys of one group, `""` being the documents that stand alone, or of all, in no order.

        A key may come twice while others write.
        """
        ...


@frozen
class DocumentRecord:
    """All that is stored of one document.

    Attributes:
        versions: its live values and its clock.
        expires_ms: when it ends; None for never.
        fences: lease -> the highest token that a write to it came with.
    """

    versions: VersionSet[bytes]
    expires_ms: int | None = None
    fences: Mapping[str, int] = field(factory=dict)


def take_document(key: DocumentKey, record: DocumentRecord | None) -> StoredDocument:
    """Return what reading *record* says; None is a document that is not there."""
    if record is None:
        return StoredDocument(key)
    live = record.versions.live
    ordered = sorted(live, key=lambda dot: (dot.counter, dot.actor))
    return StoredDocument(key, dict(record.versions.clock), {dot: live[dot] for dot in ordered}, record.expires_ms)


def apply_write(
    records: Mapping[DocumentKey, DocumentRecord], write: Write, *, actor: str, now_ms: int, least_counter: int
) -> tuple[Written, dict[DocumentKey, DocumentRecord | None]]:
    """Return what becomes of *write*, and the records that it changes; None for one that is deleted.

    Args:
        records: those of the documents that there are.
        least_counter: where the counter of a document's first version starts. It is never given out twice, so that a
            document created anew cannot repeat the dots, and the etags, of one that was deleted.
    """
    refused = _refusal(records, write, now_ms)
    if refused is not None:
        return refused, {}
    changed: dict[DocumentKey, DocumentRecord | None] = {}
    for change in write.changes:
        if change.value is None:
            changed[change.key] = None
            continue
        before = records.get(change.key) or DocumentRecord(VersionSet())
        seen = before.versions.clock if change.seen is None else change.seen
        versions, _ = before.versions.put(seen, actor, change.value, 1 if before.versions.clock else least_counter)
        fences = _fences(before, write.fence, now_ms)
        changed[change.key] = DocumentRecord(versions, _expiry(before, change, versions, now_ms), fences)
    return Written(tuple(take_document(key, record) for key, record in changed.items())), changed


def _refusal(records: Mapping[DocumentKey, DocumentRecord], write: Write, now_ms: int) -> Written | None:
    fence = write.fence
    if fence is not None:
        if now_ms >= fence.until_ms:
            return Written(fenced="expired")
        known = [records[change.key].fences for change in write.changes if change.key in records]
        if any(fences.get(fence.lease, 0) > fence.token for fences in known):
            return Written(fenced="superseded")
    conflicts: dict[int, VersionVector] = {}
    full: list[int] = []
    for index, change in enumerate(write.changes):
        record = records.get(change.key)
        clock = record.versions.clock if record else {}
        if change.exact and dict(clock) != dict(change.seen or {}):
            conflicts[index] = dict(clock)
        elif record and change.value is not None and change.seen is not None:
            seen = change.seen
            if sum(not covers(seen, dot) for dot in record.versions.live) >= SIBLING_LIMIT:
                full.append(index)
    return Written(conflicts=conflicts, full=tuple(full)) if conflicts or full else None


def _fences(before: DocumentRecord, fence: Fence | None, now_ms: int) -> Mapping[str, int]:
    """Return the tokens to remember: those of other leases until no older grant of them can be running any more."""
    if fence is None:
        return before.fences
    recent = {lease: token for lease, token in before.fences.items() if token >= (now_ms - KEPT_MS) * 1000}
    return {**recent, fence.lease: fence.token}


def _expiry(before: DocumentRecord, change: Change, versions: VersionSet[bytes], now_ms: int) -> int | None:
    expires_ms = None if change.ttl_ms is None else now_ms + change.ttl_ms
    if len(versions.live) == 1:
        return expires_ms
    # What a sibling's writer was promised still holds.
    return None if expires_ms is None or before.expires_ms is None else max(expires_ms, before.expires_ms)
