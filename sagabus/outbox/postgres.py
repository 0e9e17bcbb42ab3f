"""The writing side of an outbox: messages become rows in the caller's own transaction."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

from sagabus import effects
from sagabus.bus import Bus
from sagabus.envelope import chosen_id
from sagabus.errors import ConfigurationError
from sagabus.origin import ReplyAddress
from sagabus.outbox.queries import Queries
from sagabus.outgoing import Outgoing

TABLE: Final = "sagabus_outbox"
_IDLE: Final = 0


class PostgresOutbox:
    """Writes messages into a table of the application's PostgreSQL, from which a relay sends them.

    A message leaves if, and only if, the transaction that wrote it commits: no message without the change that it tells
    of, no change without its message. It is sent at least once, always under the id that it got when it was written, so
    that a saga handles it once. Neither the store nor the broker is asked when it is written: both may be down.

    Args:
        bus: whose messages; it need not be connected.
        table: the name of the table, with a schema before it or not.
        notify: have relays hear of a commit at once. PostgreSQL serialises the commits of transactions that notify:
            switch it off where very many commit at once, and have the relay poll.

    Raises:
        ConfigurationError: the table's name is no plain one.
    """

    def __init__(self, bus: Bus, *, table: str = TABLE, notify: bool = True) -> None:
        self._bus = bus
        self._queries = Queries.of(table)
        self._write = self._queries.write if notify else self._queries.write_quietly

    @property
    def ddl(self) -> str:
        """Return the statement that creates the table where it is not there, for your migrations."""
        return self._queries.create

    def send(
        self, connection: Any, message: Any, to: str | None = None, *, id: str | None = None, reply_to: str = ""
    ) -> str:
        """Write a command in the transaction of *connection* and return its id.

        Args:
            connection: a connection of psycopg, psycopg2 or Django, in a transaction.
            message, to, reply_to: as `Bus.send`.
            id: an idempotency key; random where none is given.

        Raises:
            ConfigurationError: the connection is in no transaction, and would commit at once.
            NoRouteError: neither *to* nor a route says where. An endpoint that nobody declared is noticed by the relay.
        """
        return self._written(connection, effects.Send(message, to), id, reply_to)

    def publish(self, connection: Any, message: Any, *, id: str | None = None) -> str:
        """Write an event in the transaction of *connection* and return its id; arguments as `send`."""
        return self._written(connection, effects.Publish(message), id, "")

    async def send_async(
        self, connection: Any, message: Any, to: str | None = None, *, id: str | None = None, reply_to: str = ""
    ) -> str:
        """Write a command in the transaction of an asynchronous *connection* of psycopg, as `send` does."""
        return await self._written_async(connection, effects.Send(message, to), id, reply_to)

    async def publish_async(self, connection: Any, message: Any, *, id: str | None = None) -> str:
        """Write an event in the transaction of an asynchronous *connection* of psycopg, as `publish` does."""
        return await self._written_async(connection, effects.Publish(message), id, "")

    def _written(self, connection: Any, effect: effects.Effect, id_: str | None, reply_to: str) -> str:
        _check_transaction(connection)
        outgoing = self._outgoing(effect, id_, reply_to)
        with self._bus._sending([outgoing]), closing(connection.cursor()) as cursor:
            cursor.execute(self._write, _row(outgoing))
        return outgoing.id

    async def _written_async(self, connection: Any, effect: effects.Effect, id_: str | None, reply_to: str) -> str:
        _check_transaction(connection)
        outgoing = self._outgoing(effect, id_, reply_to)
        with self._bus._sending([outgoing]):
            await connection.execute(self._write, _row(outgoing))
        return outgoing.id

    def _outgoing(self, effect: effects.Effect, id_: str | None, reply_to: str) -> Outgoing:
        return self._bus._outgoing(effect, chosen_id(id_), ReplyAddress(reply_to) if reply_to else None)


def _row(outgoing: Outgoing) -> tuple[str, str, str, str, bytes]:
    return outgoing.id, outgoing.kind.value, outgoing.to, outgoing.partition_key, outgoing.body


def _check_transaction(connection: Any) -> None:
    """Make sure that what is written through *connection* does not commit by itself.

    Raises:
        ConfigurationError: it would.
    """
    if hasattr(connection, "in_atomic_block"):
        # Django's.
        alone = connection.get_autocommit() and not connection.in_atomic_block
    else:
        # Both psycopg's; one that is in no transaction begins one unless it is in autocommit.
        info = getattr(connection, "info", None)
        alone = bool(getattr(connection, "autocommit", False)) and getattr(info, "transaction_status", _IDLE) == _IDLE
    if alone:
        raise ConfigurationError(
            "this connection is in no transaction, so the message would be sent whatever becomes of your change; "
            "write both in one: with connection.transaction(): (psycopg), with transaction.atomic(): (Django)"
        )
