"""Commands, the scripts that some of them run, and how they go out on a connection."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from attrs import frozen

from sagabus.link.node import Connection

EPOCH: Final = "\x00epoch\x00"
"""An argument, at most one of a command, that stands for the epoch of the connection it goes out on, at every send."""

# fmt: off
_READS: Final = frozenset({
    "CLUSTER", "CONFIG", "DBSIZE", "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN",
    "INFO", "LINDEX", "LLEN", "LRANGE", "MEMORY", "MGET", "PING", "PTTL", "ROLE", "SCAN", "SCARD", "SMEMBERS",
    "STRLEN", "TIME", "TTL", "TYPE", "XINFO", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZMSCORE",
    "ZRANGE", "ZRANGEBYSCORE", "ZSCAN", "ZSCORE",
})
# fmt: on
_LOSABLE: Final = _READS | {
    # Who has which delivery: without it a message comes again, or to somebody else.
    *("XREADGROUP", "XCLAIM", "XAUTOCLAIM"),
    # Acks, marks and forgotten timers: without them something is done again, under the same ids.
    *("XACK", "XDEL", "HDEL", "ZREM"),
    # For how long a reply queue is kept: said again before long.
    "PEXPIRE",
    # What has expired goes again.
    "ZREMRANGEBYSCORE",
}
"""Commands whose loss in a failover does no harm, so that nobody waits for replicas to have them."""


@frozen
class Script:
    """A Lua script that lies beside the Python that calls it.

    Attributes:
        lasting: whether what it writes must survive a failover.
    """

    name: str
    source: str
    sha: str
    lasting: bool = True

    @classmethod
    def beside(cls, package: str, filename: str, *, lasting: bool = True) -> Script:
        """Read *filename* from *package*. A script that says `no-writes` is never lasting."""
        source = importlib.resources.files(package).joinpath(filename).read_text("utf-8")
        lasting = lasting and "no-writes" not in source.partition("\n")[0]
        return cls(filename.removesuffix(".lua"), source, hashlib.sha1(source.encode()).hexdigest(), lasting)

    def call(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """Return the command that runs this script on *keys*, which must share a slot on a cluster."""
        return Command(("EVALSHA", self.sha, len(keys), *keys, *args), keys[0], self)

    def brought(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """Return the command that brings this script along.

        One that the server does not know is sent again, behind what was sent with it; this one never is.
        """
        return Command(("EVAL", self.source, len(keys), *keys, *args), keys[0], self)


class Command(NamedTuple):
    """One command, the key that says which node it is for (None: any), and its script, if it runs one.

    Attributes:
        covers: wait until replicas have all that was written to the node before, by whomever, though this writes
            nothing.
    """

    args: tuple[Any, ...]
    key: str | None
    script: Script | None = None
    covers: bool = False

    @property
    def lasting(self) -> bool:
        """Return whether a round with this command ends only when replicas have what was written."""
        if self.script is not None:
            return self.script.lasting
        return self.covers or str(self.args[0]).upper() not in _LOSABLE


def wire_args(command: Command, conn: Connection, whole: bool) -> tuple[Any, ...]:
    """Return what is sent for *command*.

    Args:
        whole: bring its script along, for a server that does not know it.
    """
    args = command.args
    if whole and command.script is not None:
        args = ("EVAL", command.script.source, *args[2:])
    if EPOCH in args:
        at = args.index(EPOCH)
        args = (*args[:at], conn.epoch, *args[at + 1 :])
    return args
