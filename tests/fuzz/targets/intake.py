"""Sorting of a batch: whatever is in a delivery, it is for somebody, or there is a reason why not."""

from __future__ import annotations

from typing import Final

from sagabus.dead_letters.letter import DeadLetter
from sagabus.runtime.intake import sort_batch
from sagabus.transport import Delivery
from tests.fuzz.campaign import open_bank

_BANK: Final = open_bank("memory:", "fuzz")
_GOOD: Final = b'{"specversion":"1.0","id":"g","source":"/t","type":"credit.check","data":{"customer":"1"}}'


def target(data: bytes) -> None:
    """The neighbours of what is damaged are sorted as if they were alone."""
    endpoint = _BANK.endpoints["credit"]
    deliveries = [Delivery("credit", data, 1, 0), Delivery("credit", _GOOD, 1, 1)]
    batch = sort_batch(lambda _: endpoint, deliveries, 1_000_000)
    tickets = [t for work in batch.sagas.values() for listed in work.tickets.values() for t in listed]
    tickets += [work.ticket for work in batch.consumers] + batch.finished
    assert sorted(ticket.delivery.tag for ticket in tickets) == [0, 1]
    assert not any(ticket.delivery.tag == 1 for ticket in batch.finished)
    for ticket in batch.finished:
        letter = ticket.dead_letter(ticket.troubles[0], ticket.troubles[0].reason, 1)
        assert isinstance(letter, DeadLetter)
        assert letter.body == data
