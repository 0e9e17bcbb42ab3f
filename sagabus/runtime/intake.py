"""Sorting a batch: which saga or consumer each delivery is for, and which can be handled by nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from attrs import define, field

from sagabus import envelope as envelopes
from sagabus.commit import Want
from sagabus.consumer import Consumer
from sagabus.definition import SagaDefinition
from sagabus.endpoint import Endpoint
from sagabus.envelope import Envelope, Incoming, SagaKey
from sagabus.errors import CodecError, UntrustedError
from sagabus.leases.grant import LeaseRequest
from sagabus.messages import MERGE
from sagabus.records import Entry, Record
from sagabus.runtime.ticket import Ticket, Trouble, unreadable_id
from sagabus.secrecy.signing import Signing
from sagabus.transport import Delivery

_RETRY_BYTES: Final = 64
"""What the count of its attempts may add to an envelope that was as large as it may be."""
_CROWD: Final = 16


class SagaWork(Entry):
    """What one saga has to handle.

    Attributes:
        key: which saga.
        definition: its class.
        incoming: its messages, in the order they came.
        tickets: message id -> the deliveries that brought it; second copies of one id share the run.
        exhausted: whether one of them was delivered too often.
    """

    key: SagaKey
    definition: SagaDefinition
    incoming: list[Incoming] = msgspec.field(default_factory=list)
    tickets: dict[str, list[Ticket]] = msgspec.field(default_factory=dict)
    exhausted: bool = False

    def add(self, incoming: Incoming, ticket: Ticket) -> None:
        """Add a message."""
        tickets = self.tickets.get(incoming.envelope.id)
        if tickets is None:
            self.incoming.append(incoming)
            self.tickets[incoming.envelope.id] = [ticket]
        else:
            tickets.append(ticket)
        if ticket.exhausted:
            self.exhausted = True

    def want(self, lease: LeaseRequest | None = None) -> Want:
        """Return what to load for it: where the saga is exclusive, under *lease*."""
        return Want(self.key, tuple(self.tickets), lease if self.definition.exclusive else None)


class ConsumerWork(Record, frozen=True):
    """One message for one consumer."""

    consumer: Consumer
    incoming: Incoming
    ticket: Ticket


@define
class Sorted:
    """A batch by who handles it.

    Attributes:
        sagas: the work of each saga.
        consumers: the work of the consumers.
        finished: tickets that nobody handles; their trouble says why.
        doubtful: what is wrong with the signatures of messages that were taken all the same.
    """

    sagas: dict[SagaKey, SagaWork] = field(factory=dict)
    consumers: list[ConsumerWork] = field(factory=list)
    finished: list[Ticket] = field(factory=list)
    doubtful: list[UntrustedError] = field(factory=list)

    def crowds(self) -> bool:
        """Return whether there are so many messages a saga, on average, that a larger batch would cost less for each.

        An exclusive saga handles one a commit, however many there are.
        """
        works = self.sagas.values()
        messages = sum([len(work.tickets) for work in works])
        return messages >= _CROWD * len(works) > 0 and not any(work.definition.exclusive for work in works)


def sort_batch(
    endpoint_of: Callable[[Delivery], Endpoint],
    deliveries: Sequence[Delivery],
    max_bytes: int,
    signing: Signing | None = None,
) -> Sorted:
    """Sort *deliveries*. One that several sagas and consumers of its endpoint handle goes to each of them.

    Args:
        endpoint_of: returns the endpoint of a delivery.
        max_bytes: the size limit of an envelope.
        signing: how messages must be signed; None takes all of them.
    """
    result = Sorted()
    for nth, delivery in enumerate(deliveries):
        endpoint = endpoint_of(delivery)
        ticket = Ticket(delivery, None, nth, exhausted=delivery.count > endpoint.options.retry.max_attempts)
        try:
            _sort_one(endpoint, ticket, max_bytes, signing, result)
        except CodecError as error:
            # Nobody has begun with it: whatever was sorted in before the error is taken out again.
            _withdraw(result, ticket)
            ticket.troubles = [Trouble.of(error)]
            result.finished.append(ticket)
    return result


def message_id(body: bytes, max_bytes: int) -> str:
    """Return the id that the dead letter of *body* has, or would have; arguments as `sort_batch`."""
    try:
        return envelopes.admit(body, max_bytes + _RETRY_BYTES).id
    except CodecError:
        return unreadable_id(body)


def _sort_one(endpoint: Endpoint, ticket: Ticket, max_bytes: int, signing: Signing | None, result: Sorted) -> None:
    incoming = envelopes.received(ticket.delivery.body, max_bytes + _RETRY_BYTES)
    envelope = ticket.envelope = incoming.envelope
    if signing is not None:
        _check_signature(signing, endpoint, envelope, result)
    name = envelope.type
    sagas, consumers, max_attempts = endpoint.takers(name)
    ticket.exhausted = ticket.delivery.count > max_attempts
    if name == MERGE:
        # A merge that names no saga is for none, whatever handles merges: nobody but a forger sends one.
        sagas = tuple(saga for saga in endpoint.sagas if _addressed(saga, ticket))
    if not sagas and not consumers:
        incoming.kind  # noqa: B018 - raises where the type is unknown altogether, which is another reason
        ticket.troubles = [Trouble("no-handler")]
        result.finished.append(ticket)
        return
    ticket.waiting = len(sagas) + len(consumers)
    homeless = 0
    for definition in sagas:
        saga_id = definition.locate(incoming) if name in definition.handlers else envelope.saga.partition("/")[2]
        if saga_id is None:
            homeless += 1
            continue
        key = SagaKey(definition.name, saga_id)
        work = result.sagas.get(key)
        if work is None:
            work = result.sagas[key] = SagaWork(key, definition)
        work.add(incoming, ticket)
    for consumer in consumers:
        result.consumers.append(ConsumerWork(consumer, incoming, ticket))
    for _ in range(homeless):
        if ticket.through(Trouble("early")):
            result.finished.append(ticket)


def _check_signature(signing: Signing, endpoint: Endpoint, envelope: Envelope, result: Sorted) -> None:
    try:
        signing.check(envelope, endpoint.name)
    except UntrustedError as error:
        if signing.demand:
            raise
        result.doubtful.append(error)


def _addressed(definition: SagaDefinition, ticket: Ticket) -> bool:
    assert ticket.envelope is not None
    return ticket.envelope.saga.partition("/")[0] == definition.name


def _withdraw(result: Sorted, ticket: Ticket) -> None:
    for work in list(result.sagas.values()):
        for id_, tickets in list(work.tickets.items()):
            if ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    del work.tickets[id_]
                    work.incoming = [m for m in work.incoming if m.id != id_]
        if not work.incoming:
            del result.sagas[work.key]
    result.consumers = [work for work in result.consumers if work.ticket is not ticket]
