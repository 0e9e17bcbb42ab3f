"""By hand: Redis Streams and redis-py, as somebody writes it who needs no framework.

`watch` keeps the state of a check under optimistic locking and handles one message at a time; `script` does a reply by
a Lua script; `batch` is bare: what a batch of messages causes goes out in one pipeline, and only the state of a check
is atomic. None of them has deduplication, an outbox, history, retries or dead letters.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis
from attrs import frozen

from benchmarks.peers.peer import PROCESSES, Running, processes
from benchmarks.peers.task import RECORD, ServerBooks, average, bureaus, needed, score

_GROUP: Final = "workers"
_CHECKS: Final = "checks"
_REQUESTS: Final = "requests"
_KEPT: Final = 200_000
EXPIRES_S: Final = 3600
"""How long the state of a check is kept."""

_ADD: Final = (
    """
if redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3]) == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], 3600)
local scores = redis.call('HVALS', KEYS[1])
if #scores ~= tonumber(ARGV[4]) then return 0 end
local sum = 0
for _, points in ipairs(scores) do sum = sum + points end
ARGV[2] = string.format('%.4f', sum / #scores)
"""
    + RECORD
)
"""Add a score; the last one that is needed decides. KEYS: the check's. ARGV: check, bureau, points, how many decide."""

_Entry = tuple[bytes, dict[bytes, bytes]]


@frozen
class ByHand:
    """A peer written by hand.

    Attributes:
        mode: watch, script or batch.
    """

    name: str
    keeps: str
    mode: str

    def ready(self) -> None:
        """Return at once: it needs nothing else."""

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers."""
        client = redis.Redis.from_url(url, protocol=2)
        for stream in (_CHECKS, _REQUESTS):
            client.xgroup_create(stream, _GROUP, id="0", mkstream=True)

        def start(checks: Sequence[str], replies: int) -> None:
            with client.pipeline(transaction=False) as pipe:
                for check in checks:
                    pipe.xadd(_CHECKS, {"kind": "start", "check": check, "replies": replies}, maxlen=_KEPT)
                pipe.execute()

        commands = [[sys.executable, "-m", "benchmarks.peers.streams", self.mode]] * PROCESSES
        with processes(commands, folder, {"PEERS_REDIS": url}) as pids, client:
            yield Running(start, ServerBooks(client), pids, window=600)


class _Worker:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._add = client.script_load(_ADD)
        self._record = client.script_load(RECORD)

    def one_at_a_time(self, stream: str, entries: Sequence[_Entry], reply: Callable[..., None]) -> None:
        """Handle each message with its ack in one transaction."""
        for entry_id, fields in entries:
            if fields[b"kind"] == b"reply":
                reply(stream, entry_id, fields)
                continue
            with self._client.pipeline(transaction=True) as pipe:
                _ask_or_answer(pipe, fields)
                pipe.xack(stream, _GROUP, entry_id)
                pipe.execute()

    def watched(self, stream: str, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        """Add a score under optimistic locking, again and again until nobody was in between."""
        check, replies = fields[b"check"].decode(), int(fields[b"replies"])
        key = f"check:{check}"
        with self._client.pipeline() as pipe:
            while True:
                with suppress(redis.WatchError):
                    pipe.watch(key)
                    name, points = fields[b"bureau"].decode(), int(fields[b"points"])
                    state, decision = with_score(pipe.get(key), name, points, replies)
                    pipe.multi()
                    pipe.set(key, state, ex=EXPIRES_S)
                    if decision is not None:
                        pipe.evalsha(self._record, 0, check, decision)
                    pipe.xack(stream, _GROUP, entry_id)
                    pipe.execute()
                    return

    def scripted(self, stream: str, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        """Add a score by a script."""
        with self._client.pipeline(transaction=True) as pipe:
            self._add_score(pipe, fields)
            pipe.xack(stream, _GROUP, entry_id)
            pipe.execute()

    def batch(self, streams: Sequence[tuple[bytes, Sequence[_Entry]]]) -> None:
        """Send all that a batch causes in one pipeline, its acks last."""
        with self._client.pipeline(transaction=False) as pipe:
            for _, entries in streams:
                for _, fields in entries:
                    if fields[b"kind"] == b"reply":
                        self._add_score(pipe, fields)
                    else:
                        _ask_or_answer(pipe, fields)
            for stream, entries in streams:
                pipe.xack(stream, _GROUP, *[entry_id for entry_id, _ in entries])
            pipe.execute()

    def _add_score(self, pipe: Any, fields: dict[bytes, bytes]) -> None:
        check = fields[b"check"]
        last = needed(int(fields[b"replies"]))
        pipe.evalsha(self._add, 1, b"check:" + check, check, fields[b"bureau"], fields[b"points"], last)


def with_score(found: bytes | None, bureau: str, points: int, replies: int) -> tuple[str, str | None]:
    """Return the state of a check with one more score, and the average where it decides."""
    state: dict[str, Any] = json.loads(found) if found else {"scores": {}, "decided": False}
    state["scores"][bureau] = points
    decides = not state["decided"] and len(state["scores"]) >= needed(replies)
    state["decided"] |= decides
    return json.dumps(state), f"{average(list(state['scores'].values())):.4f}" if decides else None


def _ask_or_answer(pipe: Any, fields: dict[bytes, bytes]) -> None:
    check, replies = fields[b"check"].decode(), int(fields[b"replies"])
    common = {"check": check, "replies": replies}
    if fields[b"kind"] == b"start":
        for bureau in bureaus(replies):
            pipe.xadd(_REQUESTS, {"kind": "request", **common, "bureau": bureau}, maxlen=_KEPT)
    else:
        bureau = fields[b"bureau"].decode()
        reply = {"kind": "reply", **common, "bureau": bureau, "points": score(bureau, check)}
        pipe.xadd(_CHECKS, reply, maxlen=_KEPT)


def main(mode: str) -> None:
    """Work until the process is ended."""
    client = redis.Redis.from_url(os.environ["PEERS_REDIS"], protocol=2)
    worker = _Worker(client)
    add = worker.watched if mode == "watch" else worker.scripted
    count = 64 if mode == "batch" else 16
    while True:
        found: Any = client.xreadgroup(
            _GROUP, f"worker-{os.getpid()}", {_CHECKS: ">", _REQUESTS: ">"}, count=count, block=2000
        )
        if mode == "batch" and found:
            worker.batch(found)
            continue
        for stream, entries in found:
            worker.one_at_a_time(stream.decode(), entries, add)


if __name__ == "__main__":
    main(sys.argv[1])
