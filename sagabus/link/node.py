"""One Redis or Valkey server: its connections, and commands and replies on the wire."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import redis
from attrs import define, field

from sagabus.errors import StoreRefusedError
from sagabus.link.fitness import check_fit, epoch_of, parse_info

_IDLE_S: Final = 1.0
"""After so long without use a connection is asked again who answers: failing over and back takes longer."""
_LOOK_S: Final = 10.0
"""After so long a connection in use is, too: somebody may have changed the server's configuration."""
_INFO: Final = (("INFO", "server"), ("INFO", "replication"), ("INFO", "memory"))

Address = tuple[str, int]


@define(eq=False)
class Connection:
    """One connection of redis-py's, and who answers at its other end.

    Attributes:
        raw: the connection.
        address: where it leads, where that was asked for; else None.
        epoch: names this life of this primary; another one after a restart or a failover.
        run_id: of the server process.
        looked_at, used_at: when that was last read, and when the connection was last used; monotonic, s.
    """

    raw: Any
    address: Address | None
    epoch: str = ""
    run_id: str = ""
    looked_at: float = 0.0
    used_at: float = 0.0


@define(eq=False)
class Node:
    """A server and its idle connections. Thread-safe; a child that was forked makes connections of its own.

    Attributes:
        address: host and port on a cluster, else empty.
        url: for people, without credentials.
        timeout_s: how long one reply may take.
        locate: asks where the server is now; None where it stays where the pool says.
        primary: whether a server that says it is a replica is taken for none.
        owing: whether replicas have not confirmed what was written; nothing more is written before they have.
        idle: its connections on which nothing is under way, the last used last.
    """

    address: str
    url: str
    pool: redis.ConnectionPool
    timeout_s: float
    locate: Callable[[], Address] | None = None
    primary: bool = True
    owing: bool = False
    idle: deque[Connection] = field(factory=deque, init=False)
    _pid: int = field(factory=os.getpid, init=False)

    def acquire(self) -> Connection:
        """Return an idle connection, or a new one, to a server that is fit and was one a moment ago.

        Raises:
            StoreRefusedError: it is too old, or would evict keys.
            redis.RedisError, OSError: it does not answer, or is a replica.
        """
        self._leave_to_parent()
        try:
            conn = self.idle.pop()
        except IndexError:
            return self._connect()
        now = time.monotonic()
        if now - conn.used_at < _IDLE_S and now - conn.looked_at < _LOOK_S:
            return conn
        try:
            if self.locate is None or self.locate() == conn.address:
                return self._look(conn)
        except StoreRefusedError:
            raise
        except (redis.RedisError, OSError):
            # The others have been idle for even longer. A new connection says whether the server is still there.
            pass
        conn.raw.disconnect()
        self.close()
        return self._connect()

    def describe(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what the server answers to *commands*, also one that is not fit; on a connection of their own.

        Raises:
            redis.RedisError, OSError: it does not answer.
        """
        conn = self._open()
        try:
            return exchange(conn, commands, self.timeout_s)
        finally:
            conn.raw.disconnect()

    def _connect(self) -> Connection:
        return self._look(self._open())

    def _open(self) -> Connection:
        # Not the pool's make_connection: that counts every attempt, and refuses them all after the hundredth.
        address = self.locate() if self.locate is not None else None
        where = {} if address is None else {"host": address[0], "port": address[1]}
        raw: Any = self.pool.connection_class(**(self.pool.connection_kwargs | where))
        raw.connect()
        return Connection(raw, address)

    def _look(self, conn: Connection) -> Connection:
        """Return *conn*, having read who answers; close it where that is not who should."""
        try:
            info: dict[str, str] = {}
            for reply in exchange(conn, _INFO, self.timeout_s):
                if isinstance(reply, redis.ResponseError):
                    raise reply
                info |= parse_info(reply)
            check_fit(self.url, info)
            if self.primary and info.get("role", "master") != "master":
                raise redis.ConnectionError(f"the server at {self.url} is a replica, and no primary")
        except BaseException:
            conn.raw.disconnect()
            raise
        conn.epoch, conn.run_id = epoch_of(info), info["run_id"]
        conn.looked_at = conn.used_at = time.monotonic()
        return conn

    def release(self, conn: Connection) -> None:
        """Take back a connection on which nothing is under way."""
        conn.used_at = time.monotonic()
        self.idle.append(conn)

    def close(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().raw.disconnect()

    def _leave_to_parent(self) -> None:
        if self._pid != os.getpid():
            # redis-py closes a socket that it has inherited, and does not shut it down: it stays the parent's.
            self.idle, self._pid = deque(), os.getpid()


def send(conn: Connection, commands: Sequence[tuple[Any, ...]]) -> None:
    """Send commands without waiting for their replies."""
    # redis-py looks at every argument in Python first, which takes as long again.
    conn.raw.send_packed_command([b"".join(map(hiredis.pack_command, commands))], check_health=False)


def read(conn: Connection, timeout_s: float | None = None) -> Any:
    """Return the next reply; an error that the server answered is returned, not raised.

    Args:
        timeout_s: how long it may take, where not as long as every reply on this connection; that takes more calls of
            the system.
    """
    try:
        if timeout_s is None:
            return conn.raw.read_response(disconnect_on_error=True)
        return conn.raw.read_response(timeout=timeout_s, disconnect_on_error=True)
    except redis.ResponseError as error:
        return error


def exchange(conn: Connection, commands: Sequence[tuple[Any, ...]], timeout_s: float) -> list[Any]:
    """Send commands and return their replies."""
    send(conn, commands)
    return [read(conn, timeout_s) for _ in commands]
