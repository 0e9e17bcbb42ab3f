"""Documents in Redis or Valkey: `documents.lua` writes them, `read_documents.lua` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from sagabus.commit import sort_dots
from sagabus.documents.key import DocumentKey
from sagabus.documents.write import SIBLING_LIMIT, Change, StoredDocument, Write, Written
from sagabus.errors import CorruptDocumentError
from sagabus.leases.grant import KEPT_MS
from sagabus.link import EPOCH, Link, Script
from sagabus.store.layout import Keys, flat, unflat
from sagabus.versions import Dot

_WRITE: Final = Script.beside("sagabus.store", "documents.lua")
_READ: Final = Script.beside("sagabus.store", "read_documents.lua")
_FORMAT: Final = 1
_REMEMBERED_MS: Final = 120_000
"""For how long a write is recognised when it is sent again; longer than any link is patient."""
_pack: Final = msgspec.msgpack.Encoder().encode


class _Meta(msgspec.Struct, array_like=True, frozen=True):
    """The `m` field of a document; vectors are flat."""

    format: int
    clock: list[str | int]
    live: list[str | int]
    ends: int
    fences: list[str | int]


_meta_decoder: Final = msgspec.msgpack.Decoder(_Meta)
_clock_decoder: Final = msgspec.msgpack.Decoder(list[str | int])


class RedisDocuments:
    """Keeps documents in Redis or Valkey. See `DocumentStore`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys

    def read(self, keys: Sequence[DocumentKey]) -> list[StoredDocument]:
        groups = self._by_slot(keys)
        commands = [_READ.call([self._keys.document(keys[i]) for i in indices], ()) for indices in groups]
        found: list[Any] = [None] * len(keys)
        for indices, reply in zip(groups, self._link.round(commands), strict=True):
            for i, fields in zip(indices, reply, strict=True):
                found[i] = _stored(keys[i], fields)
        return found

    def _by_slot(self, keys: Sequence[DocumentKey]) -> list[list[int]]:
        """Return the indices of *keys*, grouped into those that one script call may take."""
        if not self._link.is_cluster:
            return [list(range(len(keys)))] if keys else []
        groups: dict[str, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(key.tag(), []).append(i)
        return list(groups.values())

    def write(self, write: Write) -> Written:
        fence = write.fence
        args: list[Any] = [EPOCH, SIBLING_LIMIT, _REMEMBERED_MS]
        args += (fence.lease, fence.token, fence.until_ms) if fence else ("", 0, 0)
        args.append(KEPT_MS)
        for change in write.changes:
            ttl: int | str = "" if change.ttl_ms is None else change.ttl_ms
            args += (_flags(change), _pack(flat(change.seen or {})), change.value or b"", ttl)
        names = [self._keys.document(change.key) for change in write.changes]
        call = _WRITE.call([self._keys.document_write(write.changes[0].key, write.id), *names], args)
        status, *answers = self._link.round([call])[0]
        if status == 0:
            changed = zip(write.changes, answers, strict=True)
            return Written(tuple(_stored(change.key, fields, change.value) for change, fields in changed))
        if status == 3:
            index, cause = answers
            raise CorruptDocumentError(str(write.changes[index].key), cause.decode(errors="replace"))
        (answer,) = answers
        if status == 1:
            return Written(fenced=answer.decode())
        return Written(
            conflicts={
                i: unflat(_clock_decoder.decode(said)) for i, said in enumerate(answer) if said not in (None, b"full")
            },
            full=tuple(i for i, said in enumerate(answer) if said == b"full"),
        )

    def keys(self, group: str | None = None) -> Iterator[DocumentKey]:
        pattern = self._keys.document_pattern(group)
        for page in self._link.scan(pattern):
            yield from map(self._keys.document_of, page)


def _flags(change: Change) -> str:
    return ("X" if change.exact else "") + ("A" if change.seen is None else "") + ("D" if change.value is None else "")


def _stored(key: DocumentKey, fields: Sequence[bytes] | bytes, written: bytes | None = None) -> StoredDocument:
    """Return the document whose hash this is; *written* is the value that was left out of it, if any was.

    Raises:
        CorruptDocumentError: it cannot be read; instead of a hash there may be the cause.
    """
    if isinstance(fields, bytes):
        raise CorruptDocumentError(str(key), fields.decode(errors="replace"))
    if not fields:
        return StoredDocument(key)
    record = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        meta = _meta_decoder.decode(record[b"m"])
        if meta.format > _FORMAT:
            known = f"this code, which knows {_FORMAT}: deploy the newer code here"
            raise ValueError(f"its format {meta.format} is newer than {known}")
        dots = sort_dots(Dot(str(meta.live[i]), int(meta.live[i + 1])) for i in range(0, len(meta.live), 2))
        if written is not None:  # the version just written stands last
            record[f"v{Dot(*meta.live[-2:])}".encode()] = written  # type: ignore[arg-type]
        values = {dot: record[f"v{dot}".encode()] for dot in dots}
        if not values:
            raise ValueError("it has no version")
        return StoredDocument(key, unflat(meta.clock), values, meta.ends or None)
    except (KeyError, IndexError, ValueError, msgspec.MsgspecError) as error:
        raise CorruptDocumentError(str(key), f"{type(error).__name__}: {error}") from error
