"""Dramatiq: a group of three actors with a completion callback, as its guide does it. It decides on three scores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from attrs import frozen

from benchmarks.peers.peer import PROCESSES, Running, need, processes
from benchmarks.peers.task import RECORD, ServerBooks, average, bureaus, score

_THREADS: Final = 8


@frozen
class Actors:
    """The actors, declared on a broker."""

    start: Any


def declare(url: str) -> Actors:
    """Declare broker and actors on the server at *url*."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.middleware import GroupCallbacks
    from dramatiq.middleware.prometheus import Prometheus
    from dramatiq.rate_limits.backends import RedisBackend

    client = redis.Redis.from_url(url)
    broker = RedisBroker(client=client)
    broker.middleware[:] = [each for each in broker.middleware if not isinstance(each, Prometheus)]
    broker.add_middleware(GroupCallbacks(RedisBackend(client=client)))
    dramatiq.set_broker(broker)
    record = client.register_script(RECORD)

    @dramatiq.actor
    def bureau(name: str, check: str) -> None:
        client.hset(f"check:{check}", name, score(name, check))

    @dramatiq.actor
    def decide(check: str) -> None:
        scores: Any = client.hvals(f"check:{check}")
        record(args=[check, f"{average([int(points) for points in scores]):.4f}"])

    @dramatiq.actor
    def start(check: str, replies: int) -> None:
        group = dramatiq.group([bureau.message(name, check) for name in bureaus(replies)])
        group.add_completion_callback(decide.message(check))
        group.run()

    return Actors(start)


@frozen
class Dramatiq:
    """The peer."""

    name: str = "Dramatiq, group"
    keeps: str = "retries; a group's callback"

    def ready(self) -> None:
        """Return when Dramatiq is installed."""
        need("Dramatiq", "dramatiq")

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers, two processes of eight threads each."""
        actors = declare(url)

        def start(checks: Sequence[str], replies: int) -> None:
            for check in checks:
                actors.start.send(check, replies)

        command = [sys.executable, "-m", "dramatiq", "-p", str(PROCESSES), "-t", str(_THREADS), __name__]
        with (
            redis.Redis.from_url(url) as client,
            processes([command], folder, {"PEERS_REDIS": url}) as pids,
        ):
            yield Running(start, ServerBooks(client), pids, window=100)


# Dramatiq's own command imports this module to find the actors.
if "PEERS_REDIS" in os.environ:
    declare(os.environ["PEERS_REDIS"])
