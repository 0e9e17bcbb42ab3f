"""One Redis or Valkey server: its connections, and commands and replies on the wire."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from attrs import field, frozen


@frozen
class Connection:
    """One connection of redis-py's, and who answers at its other end.

    Attributes:
        raw: the connection.
        epoch: names this life of this primary; another one after a restart or a failover.
        run_id: of the server process.
    """

    raw: Any
    epoch: str
    run_id: str


@frozen
class Node:
    """A server and its idle connections. Thread-safe."""

    url: str
    pool: redis.ConnectionPool
    idle: deque[Connection] = field(factory=deque)

    def acquire(self) -> Connection:
        """Return an idle connection, or a new one."""
        try:
            return self.idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> Connection:
        # Not the pool's make_connection: that counts every attempt, and refuses them all after the hundredth.
        raw: Any = self.pool.connection_class(**self.pool.connection_kwargs)
        raw.connect()
        raw.send_command("INFO", "server")
        info = parse_info(raw.read_response())
        raw.send_command("INFO", "replication")
        info |= parse_info(raw.read_response())
        epoch = hashlib.blake2b(f"{info['master_replid']}{info['run_id']}".encode(), digest_size=6).hexdigest()
        return Connection(raw, epoch, info["run_id"])

    def release(self, conn: Connection) -> None:
        """Take back a connection on which nothing is under way."""
        self.idle.append(conn)

    def close(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().raw.disconnect()


def parse_info(reply: bytes | str) -> dict[str, str]:
    """Return what INFO answered, by name."""
    text = reply if isinstance(reply, str) else reply.decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def send(conn: Connection, batches: Sequence[Sequence[tuple[Any, ...]]]) -> None:
    """Send batches of commands without waiting for their replies."""
    raw = conn.raw
    raw.send_packed_command(raw.pack_commands([args for batch in batches for args in batch]), check_health=False)


def read(conn: Connection, timeout_s: float) -> Any:
    """Return the next reply; an error that the server answered is returned, not raised."""
    try:
        return conn.raw.read_response(timeout=timeout_s, disconnect_on_error=True)
    except redis.ResponseError as error:
        return error


def exchange(conn: Connection, commands: Sequence[tuple[Any, ...]], timeout_s: float) -> list[Any]:
    """Send commands and return their replies."""
    send(conn, [commands])
    return [read(conn, timeout_s) for _ in commands]
