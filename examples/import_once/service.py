"""The importing service: it imports once for an idempotency key, and logs every call, also those that come to nothing.

It is a database beside the bus, so it outlives every worker that is killed while it is asked.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

WORK_S: Final = 0.05
"""How long an import takes: long enough to be killed in."""
_BUSY_S: Final = 30.0

_TABLES: Final = """
PRAGMA journal_mode = WAL;
CREATE TABLE imports (idempotency_key TEXT PRIMARY KEY, path TEXT NOT NULL);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, idempotency_key TEXT NOT NULL, path TEXT NOT NULL, pid INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
);
"""


@frozen
class Call:
    """One call of the service.

    Attributes:
        path: the file.
        idempotency_key: what the service counts by.
        pid: the process that called.
        ended: whether that process lived to get its answer.
    """

    path: str
    idempotency_key: str
    pid: int
    ended: bool


class ImportService:
    """Imports files. Many processes and threads may call it at once.

    Args:
        database: where it is kept; made by `create`.
    """

    def __init__(self, database: Path) -> None:
        self.database = database

    @classmethod
    def create(cls, database: Path) -> ImportService:
        """Return a service that has imported nothing yet."""
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(_TABLES)
        return cls(database)

    def import_(self, path: str, *, idempotency_key: str) -> None:
        """Import a file, unless it was imported under this key already. Takes some time, and may be killed in it."""
        call = (idempotency_key, path, os.getpid())
        with self._connected() as connection:
            cursor = connection.execute("INSERT INTO calls (idempotency_key, path, pid) VALUES (?, ?, ?)", call)
        time.sleep(WORK_S)
        with self._connected() as connection:
            connection.execute("INSERT OR IGNORE INTO imports VALUES (?, ?)", (idempotency_key, path))
            connection.execute("UPDATE calls SET ended = 1 WHERE id = ?", (cursor.lastrowid,))

    def imports(self) -> list[str]:
        """Return the files that were imported: one entry for each idempotency key."""
        with self._connected() as connection:
            return [path for (path,) in connection.execute("SELECT path FROM imports ORDER BY path")]

    def calls(self) -> list[Call]:
        """Return all calls in the order they came."""
        with self._connected() as connection:
            rows = connection.execute("SELECT path, idempotency_key, pid, ended FROM calls ORDER BY id")
            return [Call(path, key, pid, bool(ended)) for path, key, pid, ended in rows]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection, and commit what was done with it."""
        with closing(sqlite3.connect(self.database, timeout=_BUSY_S)) as connection, connection:
            yield connection
