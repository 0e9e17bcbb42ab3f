"""A guest list, and three ways to write down a guest while somebody else does the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final

from attrs import define, frozen

from mergers import fieldwise, union
from sagabus import ConcurrencyError, Document, Documents

NEWCOMERS: Final = ("Ann", "Ben")


@define
class GuestList:
    """Who is invited. Two lists are merged by inviting whoever is on either."""

    names: Annotated[frozenset[str], union] = frozenset({"Zoe"})


Writing = Callable[[Documents, Document[GuestList], GuestList], object]
"""(documents, the list as it was read, the list with one more name) -> writes the latter."""


def optimistic(documents: Documents, read: Document[GuestList], longer: GuestList) -> None:
    """Write, or fail because somebody was faster."""
    documents.put(read.key, longer, etag=read.etag)


def blind(documents: Documents, read: Document[GuestList], longer: GuestList) -> None:
    """Write over whatever there is."""
    documents.overwrite(read.key, longer)


def merging(documents: Documents, read: Document[GuestList], longer: GuestList) -> None:
    """Write beside what was not seen; whoever finds siblings folds them."""
    found = documents.put(read.key, longer, seen=read)
    if len(found.siblings) > 1:
        documents.put(found.key, found.merged(fieldwise(GuestList)), etag=found.etag)


WAYS: Final[dict[str, Writing]] = {"put(etag=)": optimistic, "overwrite()": blind, "put(seen=) + merger": merging}


@frozen
class Outcome:
    """What became of two writers who had read the same list.

    Attributes:
        way: how they wrote.
        read: the etag of what both had read.
        refused: newcomer -> the error that who wrote the name down got.
        names: who is invited in the end.
    """

    way: str
    read: str | None
    refused: dict[str, ConcurrencyError]
    names: frozenset[str]

    @property
    def lost(self) -> list[str]:
        """Return whom nobody refused and nobody invited."""
        return [name for name in NEWCOMERS if name not in self.names and name not in self.refused]


def race(documents: Documents, way: str) -> Outcome:
    """Let two threads read one list, and then both write it with one more name."""
    key = documents.key(way)
    created = documents.create(key, GuestList())
    both_have_read = threading.Barrier(len(NEWCOMERS))

    def write_down(name: str) -> ConcurrencyError | None:
        read = documents.load(key, GuestList)
        both_have_read.wait(timeout=60)
        try:
            WAYS[way](documents, read, GuestList(read.value.names | {name}))
        except ConcurrencyError as error:
            return error
        return None

    with ThreadPoolExecutor(len(NEWCOMERS)) as pool:
        errors = dict(zip(NEWCOMERS, pool.map(write_down, NEWCOMERS), strict=True))
    refused = {name: error for name, error in errors.items() if error is not None}
    found = documents.load(key, GuestList)
    documents.delete(key, found.etag)
    return Outcome(way, created.etag, refused, found.value.names)
