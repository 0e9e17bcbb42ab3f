"""Cleaning up after a run: queues and documents go at once. Its sagas go by themselves, an hour after their end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from examples.racing.tidy import forget_queues
from sagabus import Bus, DocumentKey
from sagas.transfer import Account, Leg, is_leg

_AT_ONCE: Final = 500


def forget(bus: Bus, groups: Iterable[str]) -> None:
    """Delete the queues of *bus* and the documents of *groups*; nobody works on them any more."""
    forget_queues(bus)
    for group in groups:
        keys = list(bus.documents.group(group).keys())
        for kind, its in (Leg, [k for k in keys if is_leg(k)]), (Account, [k for k in keys if not is_leg(k)]):
            for first in range(0, len(its), _AT_ONCE):
                _delete(bus, its[first : first + _AT_ONCE], kind)


def _delete(bus: Bus, keys: list[DocumentKey], kind: type[Leg] | type[Account]) -> None:
    found = bus.documents.load_many(keys, kind)
    bus.documents.compare_exchange({document.key: (document.etag, None) for document in found if document.exists})
