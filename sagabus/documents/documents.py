"""`bus.documents`: load and write documents, one by one or several of a group together."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

import attrs

from sagabus.codec import StateCodec, check_codable, check_fields
from sagabus.documents.document import Document
from sagabus.documents.key import DocumentKey, clock_of, etag_of
from sagabus.documents.write import SIBLING_LIMIT, Change, DocumentStore, StoredDocument, Write
from sagabus.errors import (
    CodecError,
    ConcurrencyError,
    ConfigurationError,
    CorruptDocumentError,
    DefinitionError,
    DocumentNotFoundError,
    FenceError,
    GroupMismatchError,
    TooManySiblingsError,
)
from sagabus.leases.grant import Fence
from sagabus.saga import utc

T = TypeVar("T")

_LONGEST_S: Final = 36_500 * 86_400
"""Longer than anybody asks for, and within what servers and `datetime` can count."""

Key = str | DocumentKey
"""A name in the group at hand, or the key of any document."""


class Fencing(Protocol):
    """What can prove that it holds a lease: a `Lease`."""

    def fence(self) -> Fence:
        """Return the proof.

        Raises:
            LeaseLostError: it does not hold it any more.
        """
        ...


class _Blind:
    """Stands for an etag that was not given."""

    def __repr__(self) -> str:
        return "not given"


_BLIND: Final = _Blind()


class Documents:
    """Versioned documents of one group, or documents that stand alone. Thread-safe; each method is one round trip.

    A value is an instance of an attrs class, written and read as states of sagas are: the class may have
    `document_version: ClassVar[int]` and a static method `upcast(body, version)` for values of older versions. What is
    `Encrypted` in them is bound to the name of the class: one that is renamed says `document_name: ClassVar[str]`, the
    old name.

    All methods raise `StoreUnavailableError` where the server does not answer in spite of retries, and `StoreFullError`
    where it has no memory left. A write whose reply was lost is made once.

    Args:
        store: returns the part of a store that keeps them.
        in_group: the group; empty for documents that stand alone.
        new_id: returns an id for a write, another one each time.
    """

    def __init__(
        self,
        store: Callable[[], DocumentStore],
        in_group: str = "",
        *,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._store, self._group, self._new_id = store, in_group, new_id

    def group(self, name: str) -> Documents:
        """Return the documents of a group: those that one write can change together.

        A group is kept on one node of a cluster, so make groups of what must change together and no larger.
        """
        DocumentKey("any", name)  # says what is wrong with the name
        return Documents(self._store, name, new_id=self._new_id)

    def key(self, key: Key) -> DocumentKey:
        """Return the key of what is called so in this group."""
        return key if isinstance(key, DocumentKey) else DocumentKey(key, self._group)

    # -- reading -------------------------------------------------------------------------------------------------

    def load(self, key: Key, kind: type[T]) -> Document[T]:
        """Return a document, with one value, several siblings, or none.

        Raises:
            CorruptDocumentError: it cannot be read as a *kind*.
        """
        return self.load_many([key], kind)[0]

    def load_many(self, keys: Iterable[Key], kind: type[T]) -> list[Document[T]]:
        """Return documents in order, in one round trip; those of one group as they were at one moment.

        Raises:
            CorruptDocumentError: one of them cannot be read as a *kind*.
        """
        codec = _codec(kind)
        return [_document(found, codec) for found in self._store().read([self.key(key) for key in keys])]

    def keys(self) -> Iterator[DocumentKey]:
        """Yield the keys of this group, or of all documents that stand alone; in no order, while others may write.

        For audits and clearing up: it walks over the whole keyspace.
        """
        seen: set[DocumentKey] = set()
        for key in self._store().keys(self._group):
            if key not in seen:
                seen.add(key)
                yield key

    # -- writing -------------------------------------------------------------------------------------------------

    def put(
        self,
        key: Key,
        value: T,
        *,
        etag: str | _Blind | None = _BLIND,
        seen: Document[Any] | None = None,
        expires_after: timedelta | float | None = None,
        fence: Fencing | None = None,
    ) -> Document[T]:
        """Write a value and return the document as it is now: one value, or siblings where the write has forked.

        Without *etag* it forks: it takes the place of what was *seen*, and becomes a sibling of what was not. With
        *etag* it is optimistic: it takes the place of exactly that state of the document, or fails.

        Args:
            etag: of the document loaded, merged siblings and all; None where none was found.
            seen: the document that the value was made from, for a write that forks; without one, nothing was seen.
            expires_after: how long it lives from now (a timedelta or seconds), store's clock; for ever by default.
                A write that leaves siblings never makes a document end sooner.
            fence: a lease that must still be held.

        Raises:
            ConcurrencyError: there is another state than *etag* names.
            TooManySiblingsError: it would fork once too often.
            FenceError: the lease has ended, or was taken by others since.
            CorruptDocumentError: what is there cannot be read, and nothing was written; or it was written, and a
                sibling cannot be read as a value of the same class.
        """
        if isinstance(etag, _Blind):
            return self._put(key, value, self._clock_of(seen, key), expires_after, fence, exact=False)
        if seen is not None:
            raise ConfigurationError("put() takes etag=, to fail where others were faster, or seen=, to fork; not both")
        return self._put(key, value, clock_of(etag), expires_after, fence, exact=True)

    def create(
        self, key: Key, value: T, *, expires_after: timedelta | float | None = None, fence: Fencing | None = None
    ) -> Document[T]:
        """Write a value where there is none yet. Of any number who try at once, one succeeds. Arguments as `put`.

        Raises:
            ConcurrencyError: there is a document.
            FenceError: the lease has ended, or was taken by others since.
        """
        return self._put(key, value, {}, expires_after, fence, exact=True)

    def overwrite(
        self, key: Key, value: T, *, expires_after: timedelta | float | None = None, fence: Fencing | None = None
    ) -> Document[T]:
        """Write a value whatever there is: the last writer wins, and updates that it has not seen are lost.

        Arguments as `put`.

        Raises:
            FenceError: the lease has ended, or was taken by others since.
        """
        return self._put(key, value, None, expires_after, fence, exact=False)

    def delete(self, key: Key, etag: str | None, *, fence: Fencing | None = None) -> None:
        """Delete exactly that state of a document.

        Raises:
            ConcurrencyError: there is another, or none any more.
            DocumentNotFoundError: the etag is None: no document was found.
            FenceError: the lease has ended, or was taken by others since.
        """
        if etag is None:
            raise DocumentNotFoundError(str(self.key(key)))
        self._write([Change(self.key(key), None, clock_of(etag), exact=True)], fence)

    def compare_exchange(
        self,
        changes: Mapping[Any, tuple[str | None, Any]],
        *,
        expires_after: timedelta | float | None = None,
        fence: Fencing | None = None,
    ) -> dict[DocumentKey, str | None]:
        """Write several documents of one group, all of them or none, and return their new etags.

        Args:
            changes: name or key -> (the etag it must have, None for a document that must not exist; the new value,
                None to delete it).
            expires_after, fence: as `put`.

        Raises:
            ConcurrencyError: at least one is in another state; `conflicts` has all that are.
            GroupMismatchError: they are not all of one group.
            FenceError: the lease has ended, or was taken by others since.
        """
        if not changes:
            return {}
        ttl_ms = _ttl_ms(expires_after)
        keys = [self.key(key) for key in changes]
        if len({key.tag() for key in keys}) > 1:
            raise GroupMismatchError([str(key) for key in keys])
        if len(set(keys)) < len(keys):
            raise ConfigurationError("compare_exchange() names a document twice; name each once")
        asked = [_exchange(key, pair, ttl_ms) for key, pair in zip(keys, changes.values(), strict=True)]
        return {written.key: etag_of(written.clock) for written in self._write(asked, fence)}

    def _clock_of(self, seen: Document[Any] | None, key: Key) -> dict[str, int]:
        """Return what a writer who has *seen* a document has seen of *key*."""
        if seen is not None and seen.key != self.key(key):
            raise ConfigurationError(
                f"put() of document {self.key(key)} came with seen= of {seen.key}; give what was loaded of the same one"
            )
        return clock_of(seen.etag if seen else None)

    def _put(
        self,
        key: Key,
        value: T,
        seen: Mapping[str, int] | None,
        expires_after: timedelta | float | None,
        fence: Fencing | None,
        *,
        exact: bool,
    ) -> Document[T]:
        full_key = self.key(key)
        change = Change(full_key, _encoded(full_key, value), seen, exact, _ttl_ms(expires_after))
        (written,) = self._write([change], fence)
        return _document(written, _codec(type(value)))

    def _write(self, changes: list[Change], fence: Fencing | None) -> tuple[StoredDocument, ...]:
        """Make *changes* and return the documents as they are then."""
        shown = fence.fence() if fence is not None else None
        written = self._store().write(Write(self._new_id(), tuple(changes), shown))
        if shown is not None and written.fenced:
            raise FenceError(shown.lease, shown.token, written.fenced)
        if written.conflicts:
            raise ConcurrencyError(
                {
                    str(changes[i].key): (etag_of(changes[i].seen or {}), etag_of(actual))
                    for i, actual in sorted(written.conflicts.items())
                }
            )
        if written.full:
            raise TooManySiblingsError(str(changes[written.full[0]].key), SIBLING_LIMIT)
        return written.documents


def _document(found: StoredDocument, codec: StateCodec[T]) -> Document[T]:
    try:
        values = tuple(codec.decode(data) for data in found.values.values())
    except CodecError as error:
        raise CorruptDocumentError(str(found.key), error) from error
    expires_at = None if found.expires_ms is None else utc(found.expires_ms)
    return Document(found.key, etag_of(found.clock) if values else None, values, expires_at)


def _exchange(key: DocumentKey, pair: Any, ttl_ms: int | None) -> Change:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ConfigurationError(
            f"compare_exchange() has {pair!r} for document {key}; give (etag, value): None as etag creates it, None as "
            f"value deletes it"
        )
    etag, value = pair
    return Change(key, None if value is None else _encoded(key, value), clock_of(etag), True, ttl_ms)


def _ttl_ms(expires_after: timedelta | float | None) -> int | None:
    if expires_after is None:
        return None
    seconds = expires_after.total_seconds() if isinstance(expires_after, timedelta) else float(expires_after)
    if not 0 < seconds <= _LONGEST_S:
        raise ConfigurationError(
            f"expires_after={seconds:g} seconds; give more than 0 and at most {_LONGEST_S:g}, leave it out for ever, "
            f"or delete the document"
        )
    return max(1, round(seconds * 1000))


def _encoded(key: DocumentKey, value: Any) -> bytes:
    codec = _codec(type(value))
    try:
        data = codec.encode(value)
        codec.decode(data)
    except Exception as error:
        raise DefinitionError(
            f"document {key}", f"its value cannot be stored and read again ({error})", "Mend the value"
        ) from error
    return data


def _codec(kind: type[T]) -> StateCodec[T]:
    """Return what writes and reads values of *kind*, made once.

    Raises:
        DefinitionError: they cannot be stored; with the mend.
    """
    given: Any = kind
    if not isinstance(given, type):
        raise DefinitionError(repr(given), "is no class", "Give the attrs class that the values are of")
    return _new_codec(given)


@functools.lru_cache(maxsize=1024)
def _new_codec(kind: Any) -> StateCodec[Any]:
    subject = f"{kind.__module__}.{kind.__qualname__}"
    if not attrs.has(kind):
        raise DefinitionError(subject, "is no attrs class, as values of documents are", "Decorate it with @define")
    version = getattr(kind, "document_version", 1)
    if not isinstance(version, int) or version < 1:
        raise DefinitionError(subject, f"its document_version is {version!r}", "Give a whole number from 1 on")
    check_fields(kind, subject, {})
    codecs: list[StateCodec[Any]] = []
    name = getattr(kind, "document_name", kind.__qualname__)
    if not isinstance(name, str) or not name:
        raise DefinitionError(subject, f"its document_name is {name!r}", "Give the name that it was first stored under")
    check_codable(lambda: codecs.append(StateCodec(kind, version, f"document {name}")), kind, subject)
    return codecs[0]
