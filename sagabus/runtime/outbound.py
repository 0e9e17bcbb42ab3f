"""What is to leave a worker with its next dispatch: parcels, acks, and what the store notes of them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from sagabus.envelope import SagaKey
from sagabus.index.note import IndexNote
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.store.protocol import Bookkeeping, DeadLetter, Scheduled
from sagabus.transport import Delivery, Parcel


@define
class Outbound:
    """Collected over one turn of a lane, dispatched as a whole.

    Attributes:
        parcels: to send.
        done: to ack once all of it has happened.
        scheduled: to keep until due.
        unscheduled: ids of timers that need not fire.
        buried: dead letters.
        dispatched: saga -> ids whose outgoing messages these parcels and timers are.
        indexed: saga -> what the index of the store is to be told.
    """

    parcels: list[Parcel] = field(factory=list)
    done: list[Delivery] = field(factory=list)
    scheduled: list[Scheduled] = field(factory=list)
    unscheduled: list[str] = field(factory=list)
    buried: list[DeadLetter] = field(factory=list)
    dispatched: dict[SagaKey, list[str]] = field(factory=dict)
    indexed: dict[SagaKey, IndexNote] = field(factory=dict)

    def add(self, messages: Iterable[Outgoing]) -> None:
        """Take messages that a commit released, or a consumer sent."""
        for message in messages:
            if message.kind is OutgoingKind.TIMER:
                self.scheduled.append(
                    Scheduled(message.id, message.to, message.body, message.due_ms, message.partition_key)
                )
            else:
                self.parcels.append(message.parcel())

    def mark(self, key: SagaKey, message_id: str) -> None:
        """Have the outbox of *key* forget what *message_id* left there, once it has left."""
        self.dispatched.setdefault(key, []).append(message_id)

    def note(self, key: SagaKey, note: IndexNote) -> None:
        """Have the index be told *note* of *key*, behind what it is to be told of it already."""
        before = self.indexed.get(key)
        self.indexed[key] = note if before is None else before.then(note)

    def bookkeeping(self) -> Bookkeeping:
        """Return what the store notes after the sends."""
        return Bookkeeping(
            tuple(self.scheduled),
            tuple(self.unscheduled),
            tuple(self.buried),
            {key: tuple(ids) for key, ids in self.dispatched.items()},
            self.indexed,
        )

    def __bool__(self) -> bool:
        books = self.scheduled or self.unscheduled or self.buried or self.dispatched or self.indexed
        return bool(self.parcels or self.done or books)
