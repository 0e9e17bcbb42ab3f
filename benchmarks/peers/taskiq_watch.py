"""Taskiq on Redis Streams: a task a message, and the state of a check under optimistic locking."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from attrs import frozen

from benchmarks.peers.peer import PROCESSES, Running, need, processes
from benchmarks.peers.streams import EXPIRES_S, with_score
from benchmarks.peers.task import RECORD, ServerBooks, bureaus, score

_AT_ONCE: Final = 8
"""Tasks in a process. More do not do more checks, and get in each other's way at a hot one."""
_KEPT: Final = 200_000


@frozen
class Tasks:
    """The tasks, declared on a broker."""

    broker: Any
    start: Any


def declare(url: str) -> Tasks:
    """Declare broker and tasks on the server at *url*."""
    import redis.asyncio
    from taskiq_redis import RedisStreamBroker

    client = redis.asyncio.Redis.from_url(url)
    record = client.register_script(RECORD)
    broker = RedisStreamBroker(url=url, maxlen=_KEPT, approximate=True)

    @broker.task(task_name="start")
    async def start(check: str, replies: int) -> None:
        await asyncio.gather(*[request.kiq(name, check, replies) for name in bureaus(replies)])

    @broker.task(task_name="request")
    async def request(name: str, check: str, replies: int) -> None:
        await reply.kiq(name, check, replies, score(name, check))

    @broker.task(task_name="reply")
    async def reply(name: str, check: str, replies: int, points: int) -> None:
        async with client.pipeline() as pipe:
            while not await _added(pipe, record, name, check, replies, points):
                pass

    return Tasks(broker, start)


async def _added(pipe: Any, record: Any, name: str, check: str, replies: int, points: int) -> bool:
    """Add a score, and say whether nobody was in between."""
    key = f"check:{check}"
    try:
        await pipe.watch(key)
        state, decision = with_score(await pipe.get(key), name, points, replies)
        pipe.multi()
        pipe.set(key, state, ex=EXPIRES_S)
        if decision is not None:
            await record(args=[check, decision], client=pipe)
        await pipe.execute()
    except redis.WatchError:
        return False
    return True


@frozen
class Taskiq:
    """The peer."""

    name: str = "Taskiq, WATCH and MULTI"
    keeps: str = "acks; atomic state"

    def ready(self) -> None:
        """Return when Taskiq is installed."""
        need("Taskiq", "taskiq", "taskiq-redis")

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers, two processes."""
        tasks = declare(url)
        command = [sys.executable, "-m", "taskiq", "worker", f"{__name__}:broker", "--log-level", "WARNING"]
        options = [
            "--workers",
            str(PROCESSES),
            "--max-async-tasks",
            str(_AT_ONCE),
            "--wait-tasks-timeout",
            "1",
            "--shutdown-timeout",
            "1",
        ]
        with closing(asyncio.new_event_loop()) as loop, redis.Redis.from_url(url) as client:
            loop.run_until_complete(tasks.broker.startup())

            def start(checks: Sequence[str], replies: int) -> None:
                loop.run_until_complete(_sent(tasks, checks, replies))

            with processes([[*command, *options]], folder, {"PEERS_REDIS": url}) as pids:
                yield Running(start, ServerBooks(client), pids, window=60)
            loop.run_until_complete(tasks.broker.shutdown())


async def _sent(tasks: Tasks, checks: Sequence[str], replies: int) -> None:
    await asyncio.gather(*[tasks.start.kiq(check, replies) for check in checks])


# Taskiq's own command imports this module to find the broker.
if "PEERS_REDIS" in os.environ:
    broker = declare(os.environ["PEERS_REDIS"]).broker
