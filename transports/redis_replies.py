"""Reply queues as streams: one a process, that its process keeps alive, and that nobody else makes.

    NS:replies:{ADDRESS}   stream   an entry has one field, "b", the body; expires a minute after its process died

Who answers adds to a stream that is there, and to none that is not: what is left of a dead process goes by itself.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from sagabus.link import Command, Link, as_error
from transports.redis_topology import GROUP

_MOST: Final = 10_000
"""About how many answers are kept for a process that does not fetch them."""
_TTL_MS: Final = 60_000
_AT_ONCE: Final = 500
_CONSUMER: Final = "replies"


def reply_command(stream: str, body: bytes) -> Command:
    """Return what adds an answer to a reply queue, where that is there."""
    return Command(("XADD", stream, "NOMKSTREAM", "MAXLEN", "~", _MOST, "*", "b", body), stream)


class StreamsReplyQueue:
    """The reply queue of this process; see `sagabus.transport.ReplyQueue`."""

    def __init__(self, link: Link, stream: str) -> None:
        self._link, self._stream = link, stream
        self._read: list[bytes] = []
        self._again = False
        self._make()

    def receive(self, wait_s: float) -> list[bytes]:
        """Return what has come; see `ReplyQueue.receive`."""
        losses = self._link.losses
        # What was delivered on a connection that was lost has not arrived: it is read again, and only that.
        start = "0" if self._again else ">"
        block = () if self._again else ("BLOCK", max(1, round(wait_s * 1000)))
        forgets = (
            [("XACK", self._stream, GROUP, *self._read), ("XDEL", self._stream, *self._read)] if self._read else []
        )
        commands = [
            *forgets,
            ("PEXPIRE", self._stream, _TTL_MS),
            (
                *("XREADGROUP", "GROUP", GROUP, _CONSUMER, "COUNT", _AT_ONCE, *block),
                *("STREAMS", self._stream, start),
            ),
        ]
        asked = [Command(command, self._stream) for command in commands]
        whole = False
        try:
            replies = self._link.try_round(asked, wait_s=0.0 if self._again else wait_s)
            whole = self._link.losses == losses
        finally:
            self._again = not whole
        return self._hear(asked, replies)

    def _hear(self, asked: list[Command], replies: list[Any]) -> list[bytes]:
        for command, reply in zip(asked, replies, strict=True):
            if isinstance(reply, redis.ResponseError):
                if not str(reply).startswith(("NOGROUP", "UNBLOCKED", "no such key", "ERR no such key")):
                    raise as_error(command, reply)
                # It expired while this process stood still, or the server has lost it.
                self._read = []
                self._make()
                return []
        entries = [entry for _, found in replies[-1] or () for entry in found]
        self._read = [id_ for id_, _ in entries]
        # An entry that was deleted while it was ours has no fields.
        return [fields[1] for _, fields in entries if fields]

    def close(self) -> None:
        """Take the stream away."""
        self._link.round([Command(("DEL", self._stream), self._stream)])

    def _make(self) -> None:
        create = Command(("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM"), self._stream)
        expire = Command(("PEXPIRE", self._stream, _TTL_MS), self._stream)
        made, _ = self._link.try_round([create, expire])
        if isinstance(made, redis.ResponseError) and not str(made).startswith("BUSYGROUP"):
            raise as_error(create, made)
