"""Round trips to a Redis or Valkey server, or to a cluster of them.

One `Link.round` sends any number of commands and reads their replies: one round trip on one server, one a node,
concurrently, on a cluster. redis-py makes the connections (TLS, ACL, RESP); pipelining is ours because redis-py's
cluster pipeline refuses EVALSHA and because a resend must carry the epoch of the connection that it goes out on.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import redis
from attrs import frozen
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from sagabus.errors import ConfigurationError, StoreFullError, StoreRefusedError, StoreUnavailableError
from sagabus.node import Connection, Node, exchange, read, send

EPOCH: Final = "\x00epoch\x00"
"""An argument that is replaced by the epoch of the connection a command goes out on, at every (re)send."""

_BACKOFF_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
_SCAN_COUNT: Final = 1000
_MAX_HOPS: Final = 4
"""How many redirections are followed at once; nodes that disagree for longer are waited for."""
_RETRIED_ERRORS: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")


@frozen
class Script:
    """A Lua script that lies beside the Python that calls it."""

    name: str
    source: str
    sha: str

    @classmethod
    def beside(cls, package: str, filename: str) -> Script:
        """Read *filename* from *package*."""
        source = importlib.resources.files(package).joinpath(filename).read_text("utf-8")
        return cls(filename.removesuffix(".lua"), source, hashlib.sha1(source.encode()).hexdigest())

    def call(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """Return the command that runs this script on *keys*, which must share a slot on a cluster."""
        return Command(("EVALSHA", self.sha, len(keys), *keys, *args), keys[0], self)

    def brought(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """Return the command that brings this script along.

        One that the server does not know is sent again, behind what was sent with it; this one never is.
        """
        return Command(("EVAL", self.source, len(keys), *keys, *args), keys[0], self)


class Command(NamedTuple):
    """One command, the key that says which node it is for (None: any), and its script, if it runs one."""

    args: tuple[Any, ...]
    key: str | None
    script: Script | None = None


@frozen
class ServerIdentity:
    """What two links must share for their commands to be one atomic write."""

    run_id: str
    db: int


def redact(url: str) -> str:
    """Return *url* without its credentials, fit for logs and errors.

    Raises:
        ConfigurationError: it cannot be read as a URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        # The URL itself is not shown: where its password is cannot be told.
        raise ConfigurationError(
            f"a {url.partition(':')[0]!r} URL cannot be read: {error}; write it as SCHEME://HOST:PORT"
        ) from error
    if parts.netloc and "@" in parts.path and "@" not in parts.netloc:
        raise ConfigurationError(
            f"a {parts.scheme!r} URL has an @ behind its host; write / ? # and @ in a password as %2F %3F %23 and %40"
        )
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class Link:
    """A thread-safe pool of connections to one server or one cluster.

    Args:
        url: `redis: rediss: unix: valkey: valkeys:`, or with `+cluster`; credentials, database
            and TLS options as redis-py takes them. Nothing connects before the first round.
        timeout_s: how long one reply may take, beyond any blocking that the command asks for.
        patience_s: how long a round is tried again, with backoff, before `StoreUnavailableError`.
        revive: called when the server does not answer, before the next try; may start it again.

    Attributes:
        round_trips: how many round trips were made so far; those to several nodes at once count as one.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, patience_s: float = 10.0, revive: Callable[[], None] | None = None
    ) -> None:
        scheme, _, rest = url.partition(":")
        scheme = scheme.lower()
        self.is_cluster = scheme.endswith("+cluster")
        base = scheme.removesuffix("+cluster").replace("valkeys", "rediss").replace("valkey", "redis")
        if base not in ("redis", "rediss", "unix"):
            raise ConfigurationError(
                f"{scheme!r} is no Redis URL; use redis: rediss: unix: valkey: valkeys:, or one of them with +cluster"
            )
        self.url = url
        self.shown_url = redact(url)
        self._base_url = f"{base}:{rest}"
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._revive = revive
        self._lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._slots: list[str] = []
        self.round_trips = 0
        node = self._checked_node()
        if not self.is_cluster:
            self._nodes[""] = node

    # -- the public round ----------------------------------------------------------------------------------------

    def round(self, commands: Sequence[Command], *, wait_s: float = 0.0) -> list[Any]:
        """Send *commands* and return their replies in order: bytes, ints, lists, None.

        A lost connection, a moved slot, a flushed script cache, or a server that is loading or failing over is waited
        for and the commands concerned are sent again: they must be idempotent. On one server the commands run in order.

        Args:
            commands: any number; those for one node are sent together.
            wait_s: how long the commands themselves may block (`XREADGROUP BLOCK`).

        Raises:
            StoreUnavailableError: no answer within the patience of this link.
            StoreFullError: the server has no memory left; the commands that it refused changed nothing.
            StoreRefusedError: the server answered with another error; its text names the command.
        """
        replies = self.try_round(commands, wait_s=wait_s)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, redis.ResponseError):
                raise as_error(command, reply)
        return replies

    def try_round(self, commands: Sequence[Command], *, wait_s: float = 0.0) -> list[Any]:
        """Like `round`, but a command that the server refused has its `redis.ResponseError` as its reply."""
        replies: list[Any] = [None] * len(commands)
        todo = list(range(len(commands)))
        asked: dict[int, str] = {}
        forced_eval: set[int] = set()
        give_up_at = time.monotonic() + self._patience_s
        tries = hops = 0
        while todo:
            failure, again = self._attempt(commands, todo, replies, asked, forced_eval, wait_s)
            todo = again
            if not todo:
                break
            hops += 1
            if failure is not None or hops > _MAX_HOPS:
                if time.monotonic() >= give_up_at:
                    raise StoreUnavailableError(self.shown_url, failure or "its nodes send us from one to the other")
                if self._revive is not None and isinstance(failure, redis.ConnectionError | OSError):
                    self._revive()
                time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1
        return replies

    def server(self) -> ServerIdentity | None:
        """Return what identifies this server and database; None for a cluster, where nothing is shared."""
        if self.is_cluster:
            return None
        node = self._nodes[""]
        try:
            conn = node.acquire()
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self.shown_url, error) from error
        node.release(conn)
        return ServerIdentity(conn.run_id, int(node.pool.connection_kwargs.get("db") or 0))

    def node_keys(self) -> list[str]:
        """Return one name a node, for `on_node`; a single server has one."""
        if self.is_cluster:
            self._slot_map()
        return sorted(self._nodes)

    def scan(self, pattern: str) -> Iterator[list[str]]:
        """Yield the keys that match *pattern* on all nodes, page by page, in no order, while others may write.

        A key may come twice.
        """
        for node in self.node_keys():
            cursor = 0
            while True:
                reply = self.on_node(node, "SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                cursor = int(reply[0])
                yield [name.decode() for name in reply[1]]
                if cursor == 0:
                    break

    def on_node(self, node_key: str, *args: Any) -> Any:
        """Run one command on one node, wherever its keys are; for INFO and CONFIG, and `scan`."""
        node = self._nodes[node_key]
        try:
            conn = node.acquire()
            reply = exchange(conn, [args], self._timeout_s)[0]
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(self.shown_url, error) from error
        node.release(conn)
        if isinstance(reply, redis.ResponseError):
            raise as_error(Command(args, None), reply)
        return reply

    def close(self) -> None:
        """Close the idle connections; connections in use close when their round ends."""
        for node in list(self._nodes.values()):
            node.close()

    # -- one attempt ---------------------------------------------------------------------------------------------

    def _attempt(
        self,
        commands: Sequence[Command],
        todo: Sequence[int],
        replies: list[Any],
        asked: dict[int, str],
        forced_eval: set[int],
        wait_s: float,
    ) -> tuple[object, list[int]]:
        """Send what is still to do; return why to wait before the next attempt (None: at once), and what is left."""
        failure: object = None
        left: list[int] = []
        flights: list[tuple[Node, Connection, list[int]]] = []
        self.round_trips += 1
        try:
            groups = self._group(commands, todo, asked)
        except (redis.RedisError, OSError) as error:
            return error, list(todo)
        for node, indices in groups:
            try:
                conn = node.acquire()
                send(conn, [_wire_args(commands[i], conn, i in forced_eval, i in asked) for i in indices])
                flights.append((node, conn, indices))
            except (redis.RedisError, OSError) as error:
                failure = error
                left += indices
                node.close()
        for node, conn, indices in flights:
            try:
                for i in indices:
                    if i in asked:
                        read(conn, self._timeout_s)
                    replies[i] = read(conn, self._timeout_s + wait_s)
                node.release(conn)
            except (redis.RedisError, OSError) as error:
                conn.raw.disconnect()
                node.close()
                failure = error
                left += indices
                if self.is_cluster:
                    self._slots = []
                continue
            for i in indices:
                asked.pop(i, None)
                verdict = self._judge(commands[i], replies[i], i, asked, forced_eval)
                if verdict is not None:
                    left.append(i)
                    failure = verdict or failure
        return failure, sorted(left)

    def _judge(self, command: Command, reply: Any, index: int, asked: dict[int, str], forced_eval: set[int]) -> object:
        """Return None where *reply* stands; else a reason to wait, or an empty string to send again at once."""
        if not isinstance(reply, redis.ResponseError):
            return None
        if isinstance(reply, redis.exceptions.NoScriptError) and command.script is not None:
            forced_eval.add(index)
            return ""
        if isinstance(reply, redis.exceptions.AskError):
            asked[index] = f"{reply.host}:{reply.port}"
            return ""
        if isinstance(reply, redis.exceptions.MovedError):
            self._slots = []
            return ""
        if isinstance(reply, redis.exceptions.ReadOnlyError | redis.exceptions.ClusterDownError):
            self._slots = []
            return reply
        text = str(reply)
        if isinstance(reply, redis.exceptions.TryAgainError | redis.exceptions.BusyLoadingError) or text.startswith(
            _RETRIED_ERRORS
        ):
            return reply
        return None

    def _group(
        self, commands: Sequence[Command], todo: Sequence[int], asked: dict[int, str]
    ) -> list[tuple[Node, list[int]]]:
        if not self.is_cluster:
            return [(self._nodes[""], list(todo))]
        slots = self._slot_map()
        groups: dict[str, list[int]] = {}
        for i in todo:
            key = commands[i].key
            address = asked.get(i) or (slots[key_slot(key.encode())] if key is not None else next(iter(self._nodes)))
            groups.setdefault(address, []).append(i)
        return [(self._node_at(address), indices) for address, indices in groups.items()]

    # -- nodes and slots -----------------------------------------------------------------------------------------

    def _checked_node(self) -> Node:
        """Return the node that the URL names, having made sure that it could be connected to as the URL says.

        Raises:
            ConfigurationError: the port, the database or an option cannot be used.
        """
        parts = urlsplit(self._base_url)
        database = parts.path.strip("/")
        try:
            # redis-py takes database 0 where it cannot read the path.
            if parts.scheme != "unix" and database and not (database.isascii() and database.isdigit()):
                raise ValueError(f"{database!r} is no number of a database")
            node = self._node(self._base_url)
            # Options that redis-py does not know are noticed here; this does not connect.
            node.pool.connection_class(**node.pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError) as error:
            raise ConfigurationError(
                f"{self.shown_url!r} cannot be used: {error}; "
                f"write redis://HOST:PORT/DATABASE or unix:///PATH?db=DATABASE, with options of redis-py behind a ?"
            ) from error
        return node

    def _node(self, url: str) -> Node:
        pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        )
        return Node(redact(url), pool)

    def _node_at(self, address: str) -> Node:
        with self._lock:
            node = self._nodes.get(address)
            if node is None:
                parts = urlsplit(self._base_url)
                credentials, at, _ = parts.netloc.rpartition("@")
                node = self._node(urlunsplit(parts._replace(netloc=f"{credentials}{at}{address}")))
                self._nodes[address] = node
            return node

    def _slot_map(self) -> list[str]:
        """Return the address of the primary of each of the 16,384 slots, asking any node that answers."""
        if self._slots:
            return self._slots
        seeds = list(self._nodes) or [_seed_address(self._base_url)]
        if (seed := _seed_address(self._base_url)) not in seeds:
            seeds.append(seed)
        error: Exception | None = None
        for address in seeds:
            try:
                slots = self._ask_slots(self._node_at(address), address)
            except (redis.RedisError, OSError) as failure:
                error = failure
                continue
            self._slots = slots
            return slots
        raise error or redis.ConnectionError("no node of the cluster is known")

    def _ask_slots(self, node: Node, address: str) -> list[str]:
        conn = node.acquire()
        reply = exchange(conn, [("CLUSTER", "SLOTS")], self._timeout_s)[0]
        node.release(conn)
        if isinstance(reply, redis.ResponseError):
            raise reply
        slots = [""] * 16_384
        for first, last, primary, *_ in reply:
            host = primary[0].decode() or address.rpartition(":")[0]
            slots[first : last + 1] = [f"{host}:{primary[1]}"] * (last - first + 1)
        if "" in slots:
            raise redis.exceptions.ClusterDownError("some slots are not covered")
        return slots


def _seed_address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"


def _wire_args(command: Command, conn: Connection, force_eval: bool, asking: bool) -> list[tuple[Any, ...]]:
    args = command.args
    if force_eval and command.script is not None:
        args = ("EVAL", command.script.source, *args[2:])
    if EPOCH in args:
        args = tuple(conn.epoch if arg is EPOCH else arg for arg in args)
    return [("ASKING",), args] if asking else [args]


def as_error(command: Command, error: redis.ResponseError) -> StoreRefusedError:
    """Return the error that users see for what a server answered."""
    name = command.script.name if command.script else command.args[0]
    if isinstance(error, redis.exceptions.OutOfMemoryError) or str(error).startswith("OOM"):
        return StoreFullError(f"the server is out of memory and refused {name}; free some or raise maxmemory")
    return StoreRefusedError(f"the server refused {name}: {error}")
