"""Documents in this process: the rules of `sagabus.documents.write` over a dict."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sagabus.documents.key import DocumentKey
from sagabus.documents.write import DocumentRecord, StoredDocument, Write, Written, apply_write, take_document

_ANSWERS: Final = 1000
"""How many writes are recognised when they come again. No reply of this store gets lost, but callers may ask twice."""


class MemoryDocuments:
    """Keeps documents in a dict. See `DocumentStore`.

    Args:
        now_ms: its clock, ms since 1970.
        actor: returns the actor in its dots.
    """

    def __init__(self, now_ms: Callable[[], int], actor: Callable[[], str]) -> None:
        self._now_ms, self._actor = now_ms, actor
        self._records: dict[DocumentKey, DocumentRecord] = {}
        self._written = 0
        self._answers: OrderedDict[tuple[str, str], Written] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, keys: Sequence[DocumentKey]) -> list[StoredDocument]:
        with self._lock:
            now = self._now_ms()
            return [take_document(key, self._alive(key, now)) for key in keys]

    def write(self, write: Write) -> Written:
        made = (write.changes[0].key.tag(), write.id)
        with self._lock:
            if made in self._answers:
                return self._answers[made]
            now = self._now_ms()
            self._written += 1
            found = {change.key: self._alive(change.key, now) for change in write.changes}
            records = {key: record for key, record in found.items() if record is not None}
            written, changed = apply_write(records, write, actor=self._actor(), now_ms=now, least_counter=self._written)
            for key, record in changed.items():
                if record is None:
                    self._records.pop(key, None)
                else:
                    self._records[key] = record
            if changed:
                self._answers[made] = written
                if len(self._answers) > _ANSWERS:
                    self._answers.popitem(last=False)
            return written

    def keys(self, group: str | None = None) -> Iterator[DocumentKey]:
        with self._lock:
            now = self._now_ms()
            found = [key for key in list(self._records) if self._alive(key, now) is not None]
        yield from (key for key in found if group is None or key.group == group)

    def _alive(self, key: DocumentKey, now: int) -> DocumentRecord | None:
        record = self._records.get(key)
        if record is not None and record.expires_ms is not None and record.expires_ms <= now:
            del self._records[key]
            return None
        return record
