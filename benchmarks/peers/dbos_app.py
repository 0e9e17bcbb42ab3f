"""DBOS's side: a workflow per check, whose steps are kept in PostgreSQL. `PEERS_REDIS` is where decisions are entered.

Run as a process of its own, with the number of the worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import redis
import redis.asyncio
from dbos import DBOS

from benchmarks.peers.dbos_steps import APPLICATION, QUEUE, VERSION, WORKERS
from benchmarks.peers.task import RECORD, average, bureaus, score

_AT_ONCE = 40
_POLLED_S = 0.05
_record = redis.asyncio.Redis.from_url(os.environ["PEERS_REDIS"]).register_script(RECORD)


@DBOS.step()
async def report(name: str, check: str) -> int:
    """Answer at once."""
    return score(name, check)


@DBOS.step()
async def record(check: str, scores: Sequence[int]) -> None:
    """Enter a decision."""
    await _record(args=[check, f"{average(scores):.4f}"])


@DBOS.workflow(name="decide")
async def decide(check: str, replies: int) -> None:
    """Ask all bureaus at once, and decide when all have answered."""
    scores = await asyncio.gather(*[report(name, check) for name in bureaus(replies)])
    await record(check, scores)


def main(number: str) -> None:
    """Work until the process is ended."""
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": os.environ["PEERS_POSTGRES"],
            "executor_id": number,
            "application_version": VERSION,
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=_AT_ONCE, polling_interval_sec=_POLLED_S)
    with redis.Redis.from_url(os.environ["PEERS_REDIS"]) as client:
        client.incr(WORKERS)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
