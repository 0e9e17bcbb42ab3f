"""The sending side of an outbox: rows whose transactions have committed become messages, and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from sagabus.bus import Bus
from sagabus.errors import ConfigurationError, StoreFullError, UnavailableError
from sagabus.link import redact
from sagabus.observe.log import get_logger
from sagabus.outbox.postgres import TABLE
from sagabus.outbox.queries import Queries
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.redaction import scrub
from sagabus.transport import Parcel, Refusal

if TYPE_CHECKING:
    import psycopg

_FIRST_DELAY_S: Final = 1.0
_MAX_DELAY_S: Final = 300.0
_TROUBLE_WAIT_S: Final = 5.0


@frozen
class Relayed:
    """What became of one batch; false where there was nothing to send.

    Attributes:
        sent: how many messages have left.
        refused: how many were put off.
    """

    sent: int = 0
    refused: int = 0

    def __bool__(self) -> bool:
        return bool(self.sent or self.refused)


@frozen
class Waiting:
    """What is in an outbox.

    Attributes:
        rows: how many messages wait.
        oldest_s: for how long the oldest has; None where none does.
        refused: how many were refused at least once.
    """

    rows: int
    oldest_s: float | None
    refused: int


class Relay:
    """Sends what is in an outbox, in order of position, and deletes what the broker has confirmed.

    Any number may run; what one has in hand the others pass over. One that dies after a send and before its delete has
    sent what is sent again, under the same ids. What has nowhere to go, or whose queue is full, stays in the table with
    the reason, and is tried again, later and later, while all others go on.

    Args:
        bus: what sends.
        database: a PostgreSQL URL or conninfo string.
        table: as `PostgresOutbox` has it.
        batch: the most messages of one transaction.
        poll_s: how often to look though nobody has notified, s.

    Raises:
        ConfigurationError: psycopg is not installed, or an argument is none.
    """

    def __init__(self, bus: Bus, database: str, *, table: str = TABLE, batch: int = 500, poll_s: float = 5.0) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigurationError(f"the relay needs psycopg ({error}); pip install 'sagabus[postgres]'") from error
        if batch < 1 or poll_s <= 0:
            raise ConfigurationError(f"batch ({batch}) must be at least 1, and poll_s ({poll_s:g}) positive")
        self._psycopg = psycopg
        self._bus, self._database, self._batch, self._poll_s = bus, database, batch, poll_s
        self._queries = Queries.of(table)
        self._stop = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._log = get_logger().bind(outbox=table)

    def run(self) -> None:
        """Relay until `stop` is called; where the database or the broker does not answer, wait for it.

        Raises:
            ConfigurationError: the table is not there, or may not be used.
        """
        self._log.info("relaying", batch=self._batch, poll_s=self._poll_s)
        try:
            while not self._stop.is_set():
                try:
                    while self.relay() and not self._stop.is_set():
                        pass
                    self._rest()
                except (UnavailableError, StoreFullError) as error:
                    self._log.error("waiting-for-server", error=str(error))
                    self.close()
                    self._stop.wait(_TROUBLE_WAIT_S)
        finally:
            self.close()
            self._log.info("stopped")

    def close(self) -> None:
        """Close the connection to the database; the next call makes another one. `run` does it by itself."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def stop(self) -> None:
        """Have `run` return when it has sent what it has in hand, or within `poll_s`; safe in a signal handler."""
        self._stop.set()

    def relay(self) -> Relayed:
        """Send one batch and return what became of it.

        Raises:
            ConfigurationError: the table is not there, or may not be used.
            UnavailableError: the database or the broker does not answer; nothing was deleted.
        """
        with self._connected() as connection, connection.transaction():
            rows = connection.execute(self._queries.take, (self._batch,)).fetchall()
            if not rows:
                return Relayed()
            parcels = [
                Outgoing(OutgoingKind(kind), to, id_, key, bytes(body)).parcel()
                for _, id_, kind, to, key, body, _ in rows
            ]
            refused = self._send(parcels)
            connection.execute(self._queries.remove, ([row[0] for i, row in enumerate(rows) if i not in refused],))
            for index, refusal in refused.items():
                self._put_off(connection, rows[index], refusal)
        self._log.debug("relayed", sent=len(rows) - len(refused), refused=len(refused))
        return Relayed(len(rows) - len(refused), len(refused))

    def waiting(self) -> Waiting:
        """Return what is in the table."""
        with self._connected() as connection, connection.transaction():
            row = connection.execute(self._queries.waiting).fetchone()
        assert row is not None
        return Waiting(*row)

    # -- how -----------------------------------------------------------------------------------------------------

    def _send(self, parcels: Sequence[Parcel]) -> dict[int, Refusal]:
        """Send what can be sent, and return the others."""
        refused = self._bus.transport.send(parcels)
        if Refusal.FULL not in refused.values():
            return refused
        # Where one queue is full nothing was sent, to no other either.
        left = [index for index in range(len(parcels)) if index not in refused]
        more = self._send([parcels[index] for index in left]) if left else {}
        return refused | {left[index]: refusal for index, refusal in more.items()}

    def _put_off(self, connection: psycopg.Connection[Any], row: Sequence[Any], refusal: Refusal) -> None:
        position, id_, _, to, _, _, tries = row
        delay_s = min(_FIRST_DELAY_S * 2.0**tries, _MAX_DELAY_S)
        problem = _PROBLEMS[refusal].format(to=to)
        self._log.warning("refused", message_id=id_, reason=refusal.value, problem=problem, delay_s=delay_s)
        connection.execute(self._queries.put_off, (problem, delay_s, position))

    def _rest(self) -> None:
        """Wait until somebody has committed a message, or one that was put off may be tried again."""
        with self._connected() as connection:
            row = connection.execute(self._queries.next_retry).fetchone()
            due_s = self._poll_s if row is None or row[0] is None else row[0]
            wait_s = max(min(self._poll_s, due_s), 0.01)
            give_up_at = time.monotonic() + wait_s
            while not self._stop.is_set() and (left_s := give_up_at - time.monotonic()) > 0:
                # In steps, so that a stop is noticed.
                if list(connection.notifies(timeout=min(left_s, 0.5), stop_after=1)):
                    return

    def _connected(self) -> _Kept:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._psycopg.connect(self._database, autocommit=True)
                self._connection.execute(f"LISTEN {self._queries.channel}")
            except self._psycopg.OperationalError as error:
                self.close()
                raise self._unavailable(error) from error
        return _Kept(self._connection, self, self._queries.table)

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(scrub(redact(self._database)), _said(error), what="database")


_PROBLEMS: Final = {
    Refusal.NO_ENDPOINT: "no endpoint {to!r} was ever declared; start a worker that declares it, or mend the name",
    Refusal.FULL: "the queue of {to!r} is full; start more workers for it, or raise its max_length",
}


class _Kept:
    """A connection that outlives the block it is used in; what no waiting mends is said with its mend."""

    def __init__(self, connection: psycopg.Connection[Any], relay: Relay, table: str) -> None:
        self._connection, self._relay, self._table = connection, relay, table

    def __enter__(self) -> psycopg.Connection[Any]:
        return self._connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from psycopg import OperationalError, errors

        if isinstance(error, OperationalError):
            raise self._relay._unavailable(error) from error
        if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
            raise ConfigurationError(
                f"there is no outbox table {self._table} as this sagabus knows it; create it by a migration with "
                f"PostgresOutbox(bus).ddl, or name it with table="
            ) from error
        if isinstance(error, errors.InsufficientPrivilege):
            raise ConfigurationError(
                f"this user may not use the outbox table {self._table} ({_said(error)}); a relay needs SELECT, UPDATE "
                f"and DELETE on it, a writer INSERT"
            ) from error


def _said(error: BaseException) -> str:
    return scrub(" ".join(str(error).split()))
