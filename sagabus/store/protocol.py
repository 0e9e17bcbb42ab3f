"""What a versioned store must do: the `Store` protocol, and the values that only stores and their drivers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from sagabus.commit import Commit, HistoryEntry, Lifecycle, Result, Snapshot, Want
from sagabus.dead_letters.letter import DeadLetter as DeadLetter
from sagabus.dead_letters.part import LetterStore
from sagabus.documents.write import DocumentStore
from sagabus.envelope import SagaKey
from sagabus.index.note import IndexNote
from sagabus.leases.grant import LeaseStore

if TYPE_CHECKING:
    from sagabus.errors import CorruptRecordError
    from sagabus.index.part import SagaIndex
    from sagabus.link import Command, ServerIdentity
    from sagabus.telemetry.part import PresenceStore
    from sagabus.waiting.part import WaitingStore


@frozen
class Scheduled:
    """A message that waits for its time in the store.

    Attributes:
        id: the message id; scheduling the same id again replaces it.
        endpoint: where it goes when it is due.
        body: the envelope, JSON.
        due_ms: when, ms since 1970, store's clock.
        partition_key: as of a parcel.
        unreadable: why it cannot be read, where it cannot; then it has no endpoint, and *body* is what is stored.
    """

    id: str
    endpoint: str
    body: bytes
    due_ms: int
    partition_key: str = ""
    unreadable: str = ""


@frozen
class Bookkeeping:
    """What a store notes after messages were handled and their sends confirmed. Doing it twice does no harm.

    Attributes:
        scheduled: messages to keep until they are due.
        unscheduled: ids of messages that need not be delivered any more.
        buried: dead letters.
        dispatched: saga -> consumed ids whose outgoing messages have all left; noted after all the above is durable.
        indexed: saga -> what the index of the store is to be told of it, where its snapshots or results said so.
    """

    scheduled: tuple[Scheduled, ...] = ()
    unscheduled: tuple[str, ...] = ()
    buried: tuple[DeadLetter, ...] = ()
    dispatched: Mapping[SagaKey, tuple[str, ...]] = field(factory=dict)
    indexed: Mapping[SagaKey, IndexNote] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.scheduled or self.unscheduled or self.buried or self.dispatched or self.indexed)


@frozen
class SagaRow:
    """One saga in a listing.

    Attributes:
        key: which.
        lifecycle: live or completed.
        siblings: how many versions are live.
        life: how often it was begun.
        versions: how many versions were ever written.
    """

    key: SagaKey
    lifecycle: Lifecycle
    siblings: int
    life: int
    versions: int


class Store(Protocol):
    """Keeps sagas as sets of versions. Thread-safe; connects when first used.

    The commit rules are those of the design, to the letter; `sagabus.testing.StoreContract` holds every store to them.
    All methods raise `StoreUnavailableError` where the server does not answer in spite of retries, and `StoreFullError`
    where it has no memory left; nothing is half done then, and everything may be called again.
    """

    @property
    def url(self) -> str:
        """Return where the store is, without credentials."""
        ...

    @property
    def server(self) -> ServerIdentity | None:
        """Return which server and database this is, where a transport could share one atomic write with it."""
        ...

    @property
    def documents(self) -> DocumentStore:
        """Return the part that keeps documents."""
        ...

    @property
    def leases(self) -> LeaseStore:
        """Return the part that grants leases."""
        ...

    @property
    def letters(self) -> LetterStore:
        """Return the part that keeps dead letters."""
        ...

    @property
    def waiting(self) -> WaitingStore:
        """Return the part that shows and changes messages which wait for their time."""
        ...

    @property
    def presence(self) -> PresenceStore:
        """Return the part that knows which workers are there, and which endpoints are paused."""
        ...

    @property
    def index(self) -> SagaIndex:
        """Return the part that finds sagas without reading every record. Workers run on a store without, too."""
        ...

    def open(self) -> None:
        """Connect and make sure that the server is fit to hold sagas.

        Raises:
            StoreRefusedError: it is too old, or would evict keys; the text has the mend.
        """
        ...

    def load(self, wants: Sequence[Want], noting: Bookkeeping | None = None) -> list[Snapshot]:
        """Return the snapshots of *wants*, in order, in one round trip; note *noting* in the same trip, before.

        Raises:
            CorruptRecordError: a stored record cannot be read.
        """
        ...

    def commit(self, commits: Sequence[Commit], *, by: str) -> list[Result]:
        """Do what *commits*, of different sagas, ask for; one atomic write each, one round trip in all.

        Args:
            by: who writes, for history.
        """
        ...

    def note(self, bookkeeping: Bookkeeping) -> None:
        """Note *bookkeeping* now."""
        ...

    def note_commands(self, bookkeeping: Bookkeeping) -> list[Command]:
        """Return the commands that note *bookkeeping*, for a transport on the same server to run with its acks."""
        ...

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        """Return up to *limit* messages whose time has come, and keep them from others for *lease_s* seconds.

        They stay until they are noted as unscheduled: who sent them does that.
        """
        ...

    def next_due_ms(self) -> tuple[int, int | None]:
        """Return the store's time and when the next scheduled message is due, ms since 1970; None for none."""
        ...

    def scheduled(self, limit: int = 1000) -> list[Scheduled]:
        """Return the messages that wait for their time, soonest first."""
        ...

    def dead(self, limit: int = 1000) -> list[DeadLetter]:
        """Return the newest *limit* dead letters, newest first; `letters` finds others."""
        ...

    def history(self, key: SagaKey) -> list[HistoryEntry]:
        """Return what the record of a saga remembers, oldest first; empty for no saga."""
        ...

    def sagas(
        self, name: str | None = None, *, unreadable: list[CorruptRecordError] | None = None
    ) -> Iterator[SagaRow]:
        """Yield every stored saga, of one class where *name* says so, in no order, while others may write.

        A saga may come twice.

        Raises:
            CorruptRecordError: a record cannot be read; raised last, when all others have come. Where *unreadable* is
                given such errors are added to it instead, as they come.
        """
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
