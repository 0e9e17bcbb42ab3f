"""DBOS on PostgreSQL: a queue of workflows, three steps at once in each. It decides on three scores.

PostgreSQL is that of the loopback, with its own settings, or `PEERS_POSTGRES`; each run has a database of its own.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from attrs import frozen

from benchmarks.peers.load import parent
from benchmarks.peers.peer import PROCESSES, MissingError, Running, need, processes
from benchmarks.peers.task import ServerBooks
from sagabus import SagabusError

APPLICATION: Final = "peers"
QUEUE: Final = "checks"
VERSION: Final = "1"
WORKERS: Final = "workers"
"""The key that counts the workers that have started."""
_POSTGRES: Final = "postgresql://postgres@127.0.0.1:5432/postgres"
_DECIDE: Final[Any] = {"workflow_name": "decide", "queue_name": QUEUE, "app_version": VERSION}
_WINDOW: Final = 60
_START_S: Final = 60.0


def _connected() -> Any:
    import psycopg

    url = os.environ.get("PEERS_POSTGRES", _POSTGRES)
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        place = urlsplit(url)
        raise MissingError(
            f"DBOS has no PostgreSQL at {place.hostname}:{place.port or 5432}: {str(error).splitlines()[0]}; "
            "start one, or say by PEERS_POSTGRES where it is"
        ) from error


@contextmanager
def _database() -> Iterator[tuple[str, Sequence[int]]]:
    """Create a database, yield its URL and the pids of its server, and drop it."""
    name = f"sagabus_peers_{uuid.uuid4().hex[:8]}"
    with closing(_connected()) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            url = urlsplit(os.environ.get("PEERS_POSTGRES", _POSTGRES))._replace(path=f"/{name}").geturl()
            server = parent(connection.info.backend_pid)
            yield url, [server] if server else []
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@frozen
class Dbos:
    """The peer."""

    name: str = "DBOS, steps of a workflow"
    keeps: str = "durable steps, synced"

    def ready(self) -> None:
        """Return when DBOS is installed and PostgreSQL answers."""
        need("DBOS", "dbos")
        _connected().close()

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers, two processes."""
        commands = [[sys.executable, "-m", "benchmarks.peers.dbos_app", str(number)] for number in range(PROCESSES)]
        with (
            redis.Redis.from_url(url) as client,
            _database() as (database, servers),
            processes(commands, folder, {"PEERS_REDIS": url, "PEERS_POSTGRES": database}) as pids,
        ):
            _await_workers(client)
            with _desk(database) as desk:

                def start(checks: Sequence[str], replies: int) -> None:
                    for check in checks:
                        desk.enqueue(_DECIDE, check, replies)

                yield Running(start, ServerBooks(client), pids, _WINDOW, servers=servers)


@contextmanager
def _desk(database: str) -> Iterator[Any]:
    """Yield a client of DBOS."""
    from dbos import DBOSClient

    client = DBOSClient(system_database_url=database, application_name=APPLICATION)
    try:
        yield client
    finally:
        client.destroy()


def _await_workers(client: Any) -> None:
    deadline = time.monotonic() + _START_S
    while int(client.get(WORKERS) or 0) < PROCESSES:
        if time.monotonic() > deadline:
            raise SagabusError("DBOS' workers did not start; run `python -m benchmarks.peers.dbos_app 0` to see why")
        time.sleep(0.05)
