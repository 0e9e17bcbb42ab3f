"""Round trips to a Redis or Valkey server, or to a cluster of them.

One `Link.round` sends any number of commands and reads their replies: one round trip on one server, one a node,
concurrently, on a cluster. redis-py makes the connections (TLS, ACL, RESP); pipelining is ours because redis-py's
cluster pipeline refuses EVALSHA and because a resend must carry the epoch of the connection that it goes out on.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import redis
from attrs import frozen
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from sagabus.access import REDIS_TLS, check_certificates, explained, refusal
from sagabus.errors import ConfigurationError, SagabusError, StoreUnavailableError
from sagabus.link.address import Target, redact, seed_address
from sagabus.link.answers import NotReplicated, as_error
from sagabus.link.command import Command
from sagabus.link.node import Connection, Node, exchange
from sagabus.link.round import Round
from sagabus.link.sentinel import Sentinels
from sagabus.link.slots import SlotMap, read_slots
from sagabus.observe.log import get_logger
from sagabus.terms import Terms

T = TypeVar("T")

_BACKOFF_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
_SCAN_COUNT: Final = 1000
_READ_BYTES: Final = 262_144
"""Read at once; a batch is about so large."""
_MAX_HOPS: Final = 4
"""How many redirections are followed at once; nodes that disagree for longer are waited for."""
_TO_AND_FRO: Final = "its nodes send us from one to the other"
_SAID_AFTER_S: Final = 1.0


@frozen
class ServerIdentity:
    """What two links must share for their commands to be one atomic write."""

    run_id: str
    db: int


class Link:
    """A thread-safe pool of connections to one server, to the primary that sentinels name, or to one cluster.

    A process that was forked may go on using it: it makes connections of its own.

    Args:
        url: `redis: rediss: unix: valkey: valkeys:`, or with `+cluster` or `+sentinel`; credentials, database
            and TLS options as redis-py takes them. Nothing connects before the first round.
        timeout_s: how long one reply may take, beyond any blocking that the command asks for.
        patience_s: how long a round is tried again, with backoff, before `StoreUnavailableError`.
        replicas: how many replicas must have what a round wrote before it returns.
        revive: called when the server does not answer, before the next try; may start it again.
        jitter: returns a number in [0, 1); spreads those who wait for the same server.

    Attributes:
        terms: what it keeps to.
        round_trips: how many round trips were made so far; those to several nodes at once count as one.
        losses: another number whenever a connection was lost with commands under way, which a server may have done.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = Terms().timeout_s,
        patience_s: float = Terms().patience_s,
        replicas: int = 0,
        revive: Callable[[], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._target = Target.of(url)
        self.is_cluster = self._target.is_cluster
        self.url = url
        self.shown_url = redact(url)
        self.terms = Terms(timeout_s, patience_s, replicas)
        self._revive, self._jitter = revive, jitter
        self.round_trips = self.losses = 0
        self._said = False  # that it waits, since it was last answered
        self._loss_numbers = count(1)
        self._make()

    def _make(self) -> None:
        self._sentinels = Sentinels(self._target, self.terms) if self._target.sentinels else None
        self._nodes: dict[str, Node] = {}
        node = self._checked_node()
        self._slots = SlotMap(self._ask_slots, seed_address(self._target.url)) if self.is_cluster else None
        if self._slots is None:
            self._nodes[""] = node

    def agree(self, terms: Terms) -> None:
        """Keep *terms*, and its own times where they are stricter; called before the first round."""
        terms = self.terms.stricter(terms)
        same_times = (terms.timeout_s, terms.patience_s) == (self.terms.timeout_s, self.terms.patience_s)
        self.terms = terms
        if not same_times:
            self.close()
            self._make()

    # -- the public round ----------------------------------------------------------------------------------------

    def round(self, commands: Sequence[Command], *, wait_s: float = 0.0) -> list[Any]:
        """Send *commands* and return their replies in order: bytes, ints, lists, None.

        A lost connection, a moved slot, a flushed script cache, or a server that is loading or failing over is waited
        for and the commands concerned are sent again: they must be idempotent. On one server the commands run in order.
        Where replicas are asked for, it returns when they have what was written, and what was written before.

        Args:
            commands: any number; those for one node are sent together.
            wait_s: how long the commands themselves may block (`XREADGROUP BLOCK`).

        Raises:
            StoreUnavailableError: no answer within the patience of this link.
            NotReplicatedError: everything was done, or nothing; too few replicas have confirmed it within the patience.
            AccessRefusedError: a password, a right or a client certificate is wrong; at once, for waiting mends none.
            UntrustedServerError: its certificate proves nothing; at once, too.
            StoreFullError: the server has no memory or disk left; the commands that it refused changed nothing.
            StoreRefusedError: the server is not fit, or answered with another error; its text names the command.
        """
        replies = self.try_round(commands, wait_s=wait_s)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, redis.ResponseError):
                raise as_error(command, reply, self.shown_url)
        return replies

    def try_round(
        self, commands: Sequence[Command], *, wait_s: float = 0.0, patience_s: float | None = None
    ) -> list[Any]:
        """Like `round`, but a command that the server refused has its `redis.ResponseError` as its reply.

        So has one that was done and that too few replicas have confirmed.
        """
        on_way = Round(self, commands, wait_s)
        give_up_at = time.monotonic() + (self.terms.patience_s if patience_s is None else patience_s)
        say_at: float | None = None
        tries = hops = 0
        while True:
            on_way.attempt()
            if on_way.through:
                self._said = False
                return on_way.replies
            hops += 1
            failure = on_way.failure
            if failure is not None or hops > _MAX_HOPS:
                if (refused := refusal(failure, self.shown_url)) is not None:
                    raise refused
                now = time.monotonic()
                if now >= give_up_at:
                    if not on_way.answered:
                        raise self._failure(failure or _TO_AND_FRO)
                    on_way.owe()
                    return on_way.replies
                if self._revive is not None and isinstance(failure, redis.ConnectionError | OSError):
                    self._revive()
                if say_at is None:
                    silent = isinstance(failure, redis.TimeoutError | TimeoutError)
                    say_at = now if silent else now + _SAID_AFTER_S
                if now >= say_at and not self._said:
                    self._said, say_at = True, math.inf
                    error = self._failure(failure or _TO_AND_FRO)
                    get_logger().warning("waiting-for-server", error=str(error), for_s=round(give_up_at - now, 1))
                time.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)] * (0.75 + 0.5 * self._jitter()))
                tries += 1

    def cover(self, keys: Iterable[str]) -> None:
        """Return when replicas have all that was written to the nodes of *keys* before, by whomever.

        Raises:
            NotReplicatedError, StoreUnavailableError: as `round`.
        """
        if self.terms.replicas:
            self.round([Command(("EXISTS", key), key, covers=True) for key in keys])

    def server(self) -> ServerIdentity | None:
        """Return what identifies this server and database; None for a cluster, where nothing is shared."""
        if self.is_cluster:
            return None
        node = self._nodes[""]
        run_id = self._ask(node, lambda conn: conn.run_id)
        return ServerIdentity(run_id, int(node.pool.connection_kwargs.get("db") or 0))

    def node_keys(self) -> list[str]:
        """Return one name a primary, for `on_node`; a single server has one."""
        if self._slots is None:
            return [""]
        try:
            return self._slots.primaries()
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error

    def scan(self, pattern: str) -> Iterator[list[str]]:
        """Yield the keys that match *pattern* on all nodes, page by page, in no order, while others may write.

        A key may come twice. One that is no UTF-8 is none of ours.
        """
        for node in self.node_keys():
            cursor = 0
            while True:
                reply = self.on_node(node, "SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                cursor = int(reply[0])
                yield [name.decode() for name in reply[1] if is_text(name)]
                if cursor == 0:
                    break

    def on_node(self, node_key: str, *args: Any) -> Any:
        """Run one command on one node, wherever its keys are; for INFO and CONFIG, and `scan`."""
        reply = self._ask(self._node_at(node_key), lambda conn: exchange(conn, [args], self.terms.timeout_s)[0])
        if isinstance(reply, redis.ResponseError):
            raise as_error(Command(args, None), reply, self.shown_url)
        return reply

    def describe(self, node_key: str, *commands: tuple[Any, ...]) -> list[Any]:
        """Return what one node answers to *commands*, also where it is not fit to be worked with.

        A command that it refused has its `redis.ResponseError` as its reply.

        Raises:
            StoreUnavailableError: it does not answer.
        """
        try:
            return self._node_at(node_key).describe(commands)
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error

    def _ask(self, node: Node, question: Callable[[Connection], T]) -> T:
        """Return the answer to *question*, which may be asked twice: an idle connection may have ended meanwhile."""
        while True:
            fresh = not node.idle
            try:
                conn = node.acquire()
                answer = question(conn)
            except (redis.RedisError, OSError) as error:
                node.close()
                if fresh:
                    raise self._failure(error) from error
            else:
                node.release(conn)
                return answer

    def _failure(self, error: object) -> SagabusError:
        if isinstance(error, NotReplicated):
            return error.as_error()
        return refusal(error, self.shown_url) or StoreUnavailableError(self.shown_url, explained(error))

    def close(self) -> None:
        """Close the idle connections; connections in use close when their round ends."""
        for node in list(self._nodes.values()):
            node.close()

    # -- nodes and slots -----------------------------------------------------------------------------------------

    def group(
        self, commands: Sequence[Command], todo: Sequence[int], asked: Mapping[int, str]
    ) -> list[tuple[Node, list[int]]]:
        """Return which of the commands *todo* go to which node.

        Args:
            asked: index of a command -> the node that is asked instead of the slot's, this once.

        Raises:
            redis.RedisError, OSError: no node says who serves the slots.
        """
        if self._slots is None:
            return [(self._nodes[""], list(todo))]
        slots = self._slots.read()
        groups: dict[str, list[int]] = {}
        for i in todo:
            key = commands[i].key
            address = asked.get(i) or slots[key_slot(key.encode()) if key is not None else 0]
            groups.setdefault(address, []).append(i)
        return [(self._node_at(address), indices) for address, indices in groups.items()]

    def moved(self, slot: int, address: str) -> None:
        """Note that a node said who serves a slot."""
        if self._slots is not None:
            self._slots.moved(slot, address)

    def forget(self) -> None:
        """Ask again who serves what before the next command: somebody has gone, or has lost what it served."""
        if self._slots is not None:
            self._slots.forget()

    def lost(self) -> None:
        """Note that a connection was lost with commands under way."""
        # Taken from a counter: of two threads that are here at once neither may write what was there before.
        self.losses = next(self._loss_numbers)

    def marker(self, address: str, nth: int) -> str:
        """Return a key that may be written on the node at *address* at any time; another one for another *nth*."""
        prefix = self.terms.marker
        return prefix if self._slots is None else self._slots.marker(prefix, address, nth)

    def _checked_node(self) -> Node:
        """Return the node that the URL names, having made sure that it could be connected to as the URL says.

        Raises:
            ConfigurationError: the port, the database or an option cannot be used.
        """
        parts = urlsplit(self._target.url)
        database = parts.path.strip("/")
        try:
            # redis-py takes database 0 where it cannot read the path.
            if parts.scheme != "unix" and database and not (database.isascii() and database.isdigit()):
                raise ValueError(f"{database!r} is no number of a database")
            node = self._node("", self._target.url)
            # Options that redis-py does not know are noticed here; this does not connect.
            options = node.pool.connection_kwargs
            node.pool.connection_class(**options)
            if parts.scheme == "rediss":
                check_certificates(
                    self.shown_url,
                    REDIS_TLS,
                    authority=options.get("ssl_ca_certs"),
                    certificate=options.get("ssl_certfile"),
                    key=options.get("ssl_keyfile"),
                    password=options.get("ssl_password"),
                )
        except (ValueError, TypeError, redis.RedisError) as error:
            raise ConfigurationError(
                f"{self.shown_url!r} cannot be used: {error}; "
                f"write redis://HOST:PORT/DATABASE, rediss: for TLS, or unix:///PATH?db=DATABASE, with options of "
                f"redis-py behind a ?"
            ) from error
        return node

    def _node(self, address: str, url: str) -> Node:
        pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=self.terms.timeout_s,
            socket_connect_timeout=self.terms.timeout_s,
            retry=Retry(NoBackoff(), 0),
            socket_read_size=_READ_BYTES,
            health_check_interval=0,
            protocol=2,
        )
        shown = redact(url) if self._sentinels is None else self.shown_url
        return Node(
            address,
            shown,
            pool,
            self.terms.timeout_s,
            locate=self._sentinels.primary if self._sentinels is not None else None,
            # Any node of a cluster knows who serves what.
            primary=not self.is_cluster,
        )

    def _node_at(self, address: str) -> Node:
        node = self._nodes.get(address)
        if node is None:
            parts = urlsplit(self._target.url)
            credentials, at, _ = parts.netloc.rpartition("@")
            made = self._node(address, urlunsplit(parts._replace(netloc=f"{credentials}{at}{address}")))
            # No lock, which a child could inherit held: of two that were made at once one is used.
            node = self._nodes.setdefault(address, made)
        return node

    def _ask_slots(self, address: str) -> list[str]:
        node = self._node_at(address)
        conn = node.acquire()
        reply = exchange(conn, [("CLUSTER", "SLOTS")], self.terms.timeout_s)[0]
        node.release(conn)
        if isinstance(reply, redis.ResponseError):
            raise reply
        return read_slots(reply, address)


def is_text(name: bytes) -> bool:
    """Return whether *name* is UTF-8, as all names of ours are."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
