"""A private embedded server for the length of a test session, and a bus on it that leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

from sagabus.bus import Bus
from sagabus.store import keeper, launcher
from sagabus.store.embedded import EmbeddedServer

END_TIMEOUT_S: Final = 30.0


@contextmanager
def private_server() -> Iterator[str]:
    """Run a server in a temporary folder and yield its URL; it has ended, and the folder is gone, when this returns.

    Raises:
        NoServerBinaryError: there is no program to run.
        EmbeddedServerError: it did not start; or it does not end, because a process that a test forked still holds it.
    """
    with tempfile.TemporaryDirectory(prefix="sagabus-test-") as name:
        folder = Path(name)
        with EmbeddedServer.open(folder, grace_s=0.0) as server:
            yield server.url
        life = keeper.open_lock(folder / keeper.KEEPER_LOCK)
        try:
            # The keeper holds it until its server is gone.
            problem = "something that a test started still holds it"
            launcher.lock(life, fcntl.LOCK_EX, time.monotonic() + END_TIMEOUT_S, folder, problem)
        finally:
            os.close(life)


@contextmanager
def fresh_bus(url: str) -> Iterator[Bus]:
    """Yield a bus with nothing on it, in a namespace of its own on the server at *url*; then delete all it stored."""
    namespace = f"test-{uuid.uuid4().hex}"
    # Both are said, or the environment's would count.
    with Bus(store=url, transport=url, namespace=namespace) as bus:
        yield bus
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"{namespace}:*", count=1000):
            client.unlink(key)
