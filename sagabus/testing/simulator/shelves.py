"""The documents of an exploration: what stands on the shelf at one moment, each such moment known by a small number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from attrs import define, field, frozen

from sagabus.documents.key import DocumentKey
from sagabus.documents.write import DocumentRecord, StoredDocument, Write, Written, apply_write, take_document
from sagabus.testing.simulator.scene import START_MS

_ACTOR: Final = "v"


class Reading(NamedTuple):
    """Documents are read."""

    keys: tuple[DocumentKey, ...]


class Writing(NamedTuple):
    """Documents are written."""

    write: Write


class Listing(NamedTuple):
    """The keys of a group are listed; of all where it is None."""

    group: str | None


Operation = Reading | Writing | Listing
Answer = Sequence[StoredDocument] | Written | Sequence[DocumentKey]


class Place(NamedTuple):
    """What stands under one key.

    Attributes:
        record: the document; None where there was one and is none any more.
        counter: the highest counter it ever had, so that no etag comes twice.
    """

    record: DocumentRecord | None
    counter: int


Shelf = Mapping[DocumentKey, Place]


@frozen(eq=False)
class Shelves:
    """All shelves that an exploration has met. Documents never end here: expiry is not played."""

    _shelves: list[Shelf] = field(factory=lambda: [{}], init=False)
    _number_of: dict[Any, int] = field(factory=lambda: {(): 0}, init=False)

    def __getitem__(self, number: int) -> Shelf:
        return self._shelves[number]

    def keys(self, number: int) -> list[DocumentKey]:
        """Return the keys of the documents that there are, sorted."""
        return sorted(key for key, place in self[number].items() if place.record is not None)

    def read(self, number: int, key: DocumentKey) -> StoredDocument:
        """Return one document."""
        place = self[number].get(key)
        return take_document(key, place.record if place else None)

    def perform(self, number: int, operation: Operation) -> tuple[int, Answer]:
        """Return the shelf after *operation*, and what a store answers."""
        match operation:
            case Reading(keys):
                return number, [self.read(number, key) for key in keys]
            case Listing(group):
                return number, [key for key in self.keys(number) if group in (None, key.group)]
            case Writing(write):
                return self._write(number, write)

    def _write(self, number: int, write: Write) -> tuple[int, Written]:
        shelf = self[number]
        places = {change.key: shelf[change.key] for change in write.changes if change.key in shelf}
        records = {key: place.record for key, place in places.items() if place.record is not None}
        least = max((place.counter for place in places.values()), default=0) + 1
        written, changed = apply_write(records, write, actor=_ACTOR, now_ms=START_MS, least_counter=least)
        if not changed:
            return number, written
        after = dict(shelf)
        for key, record in changed.items():
            before = places[key].counter if key in places else 0
            after[key] = Place(record, record.versions.clock[_ACTOR] if record is not None else before)
        return self._number(after), written

    def _number(self, shelf: Shelf) -> int:
        known = tuple(sorted((key, place.counter, _said(place.record)) for key, place in shelf.items()))
        number = self._number_of.get(known)
        if number is None:
            number = self._number_of[known] = len(self._shelves)
            self._shelves.append(shelf)
        return number


@define
class ShelfStore:
    """A document store over the shelves of an exploration, for who looks at one or sets one up.

    Attributes:
        shelves: all of them.
        number: the one that is read; a write goes on to another.
    """

    shelves: Shelves
    number: int = 0

    def read(self, keys: Sequence[DocumentKey]) -> list[StoredDocument]:
        return [self.shelves.read(self.number, key) for key in keys]

    def write(self, write: Write) -> Written:
        self.number, answer = self.shelves.perform(self.number, Writing(write))
        assert isinstance(answer, Written)
        return answer

    def keys(self, group: str | None = None) -> Iterator[DocumentKey]:
        return iter([key for key in self.shelves.keys(self.number) if group in (None, key.group)])


def _said(record: DocumentRecord | None) -> tuple[Any, ...]:
    return () if record is None else tuple(sorted(record.versions.live.items()))
