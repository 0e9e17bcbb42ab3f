"""What a Redis user must be allowed to do, and how that is looked at before anything is written.

A script that is refused a command half-way keeps what it wrote until then, so a missing right must be found first.
"""

from __future__ import annotations

from typing import Final

from sagabus.errors import AccessRefusedError
from sagabus.link import Link, Script

_RIGHTS: Final = Script.beside("sagabus.store", "rights.lua")

# fmt: off
COMMANDS: Final = (
    "info", "time", "eval", "evalsha", "scan", "dbsize",
    "get", "set", "del", "exists", "persist", "pexpire", "pexpireat", "pttl", "type",
    "hdel", "hexists", "hget", "hgetall", "hkeys", "hlen", "hmget", "hset",
    "lindex", "llen", "lrange", "ltrim", "rpush",
    "sadd", "scard", "smembers",
    "zadd", "zcard", "zcount", "zmscore", "zrange", "zrangebyscore", "zrem", "zremrangebyrank", "zremrangebyscore",
    "zrevrange", "zrevrank", "zscan", "zscore",
    "xack", "xadd", "xclaim", "xdel", "xgroup|create", "xgroup|delconsumer", "xinfo|consumers", "xlen", "xpending",
    "xrange", "xreadgroup",
)
"""What stores and queues need, as an ACL names it: on keys that begin with the namespace, and on no channel."""
# fmt: on
CLUSTER_COMMANDS: Final = ("cluster|slots", "asking")
"""What a cluster needs beside."""
REPLICATED_COMMANDS: Final = ("wait",)
"""What `durability="replicated"` needs beside."""


def acl_rule(namespace: str, *, cluster: bool = False, replicated: bool = False) -> str:
    """Return the rules of a user who may do what buses of *namespace* do and nothing else, for ACL SETUSER."""
    more = (CLUSTER_COMMANDS if cluster else ()) + (REPLICATED_COMMANDS if replicated else ())
    return f"resetkeys ~{namespace}:* resetchannels -@all {' '.join(f'+{name}' for name in (*COMMANDS, *more))}"


def check_rights(link: Link, namespace: str) -> None:
    """Make sure that the user of *link* may do what is done in *namespace*.

    Raises:
        AccessRefusedError: not all of it; the text has all that is missing.
    """
    more = (CLUSTER_COMMANDS if link.is_cluster else ()) + (REPLICATED_COMMANDS if link.terms.replicas else ())
    key = f"{namespace}:rights"
    (refused,) = link.round([_RIGHTS.call([key], [*COMMANDS, *more])])
    if refused:
        rights = " ".join(f"+{name.decode()}" for name in refused)
        raise AccessRefusedError(
            link.shown_url,
            f"this user may not run {len(refused)} of the commands that are needed, and nothing was written",
            f"Grant them: ACL SETUSER NAME ~{namespace}:* {rights}",
            right=rights,
        )
