"""The bureaus: stateless consumers, one endpoint each. They take their time, and all three take about the same."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from examples.credit_check.messages import RequestScore, ScoreReported
from sagabus import Bus, Context, Endpoint

LOWEST_SCORE: Final = 500
HIGHEST_SCORE: Final = 900
_MIN_LATENCY_S: Final = 0.004
_LATENCY_SPREAD_S: Final = 0.016
_BUREAU_SPREAD_S: Final = 0.001


def score_of(customer: str, bureau: str, seed: int) -> int:
    """Return what *bureau* thinks of *customer*, in points from 500 to 900: the same for the same arguments."""
    return LOWEST_SCORE + _draw(seed, bureau, customer) % (HIGHEST_SCORE - LOWEST_SCORE + 1)


def latency_s(customer: str, bureau: str, seed: int) -> float:
    """Return how long *bureau* looks for *customer*, in seconds.

    A file that is hard to find is so for everybody: the three answer within a millisecond of each other, which is what
    makes their replies race.
    """
    common = _draw(seed, "latency", customer) % 1000 / 1000
    own = _draw(seed, f"latency of {bureau}", customer) % 1000 / 1000
    return _MIN_LATENCY_S + _LATENCY_SPREAD_S * common + _BUREAU_SPREAD_S * own


def open_bureau(bus: Bus, name: str, *, seed: int) -> Endpoint:
    """Put the bureau *name* on *bus*, as an endpoint of its own."""
    desk = bus.endpoint(name, concurrency=64)

    @desk.consumer
    async def report(m: RequestScore, context: Context) -> None:
        await asyncio.sleep(latency_s(m.customer, name, seed))
        context.reply(ScoreReported(bureau=name, score=score_of(m.customer, name, seed)))

    return desk


def _draw(seed: int, what: str, customer: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{what}/{customer}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
