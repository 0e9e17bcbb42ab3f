"""Restate's side: a service that bureaus answer by, and a virtual object per customer that keeps the scores.

Served by granian. `PEERS_REDIS` is where decisions are entered, in a step that is not repeated once it was done.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import redis.asyncio
import restate

from benchmarks.peers.task import RECORD, average, bureaus, needed, score

bureau = restate.Service("bureau")
check = restate.VirtualObject("check")
_pool = redis.asyncio.BlockingConnectionPool.from_url(os.environ["PEERS_REDIS"], max_connections=20)
_record = redis.asyncio.Redis(connection_pool=_pool).register_script(RECORD)


@bureau.handler()
async def report(ctx: restate.Context, request: dict[str, str]) -> int:
    """Answer at once."""
    return score(request["bureau"], request["check"])


@check.handler()
async def decide(ctx: restate.ObjectContext, replies: int) -> None:
    """Ask all bureaus at once, and decide when enough of them have answered."""
    asked = [ctx.service_call(report, arg={"bureau": name, "check": ctx.key()}) for name in bureaus(replies)]
    scores = [await answer for answer in await _first(asked, needed(replies))]
    ctx.set("scores", scores)
    await ctx.run_typed("record", record, check=ctx.key(), said=average(scores))


async def _first(asked: Sequence[Any], count: int) -> Sequence[Any]:
    if count == len(asked):
        return await restate.gather(*asked)
    done = []
    async for answer in restate.as_completed(*asked):
        done.append(answer)
        if len(done) == count:
            break
    return done


async def record(check: str, said: float) -> None:
    """Enter a decision."""
    await _record(args=[check, f"{said:.4f}"])


app = restate.app(services=[bureau, check])
