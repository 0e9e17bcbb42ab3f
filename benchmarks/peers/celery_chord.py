"""Celery: a chord of three tasks, as its guide does it. It decides on three scores."""

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
from benchmarks.peers.streams import EXPIRES_S
from benchmarks.peers.task import RECORD, ServerBooks, average, bureaus, score

_QUIET: Final = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]


@frozen
class Tasks:
    """The tasks, declared on an app."""

    app: Any
    start: Any


def declare(url: str) -> Tasks:
    """Declare app and tasks on the server at *url*."""
    from celery import Celery, chord

    place = url.replace("unix://", "redis+socket://")
    app = Celery("peers", broker=place, backend=place)
    app.conf.update(task_acks_late=True, result_expires=EXPIRES_S, broker_connection_retry_on_startup=True)
    client = redis.Redis.from_url(url)
    record = client.register_script(RECORD)

    @app.task(name="bureau")
    def bureau(name: str, check: str) -> int:
        return score(name, check)

    @app.task(name="decide", ignore_result=True)
    def decide(scores: list[int], check: str) -> None:
        record(args=[check, f"{average(scores):.4f}"])

    @app.task(name="start", ignore_result=True)
    def start(check: str, replies: int) -> None:
        chord([bureau.s(name, check) for name in bureaus(replies)], decide.s(check)).apply_async()

    return Tasks(app, start)


@frozen
class Celery:
    """The peer."""

    name: str = "Celery, chord"
    keeps: str = "late acks; a chord's callback"

    def ready(self) -> None:
        """Return when Celery is installed."""
        need("Celery", "celery")

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers, two processes below one."""
        tasks = declare(url)

        def start(checks: Sequence[str], replies: int) -> None:
            for check in checks:
                tasks.start.delay(check, replies)

        command = [sys.executable, "-m", "celery", "-A", __name__, "worker", *_QUIET]
        options = ["--pool", "prefork", "--concurrency", str(PROCESSES)]
        with (
            redis.Redis.from_url(url) as client,
            processes([[*command, *options]], folder, {"PEERS_REDIS": url}) as pids,
        ):
            yield Running(start, ServerBooks(client), pids, window=60)


# Celery's own command imports this module to find the app.
if "PEERS_REDIS" in os.environ:
    app = declare(os.environ["PEERS_REDIS"]).app
