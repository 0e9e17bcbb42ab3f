"""The embedded server: a private Valkey in a folder, shared by the processes that use it, gone with the last of them.

Whoever opens the folder first starts a keeper (`keeper.py`), which runs the server; the others attach. What is written
there is on disk, and the next process that opens the folder finds it. The folder must be on a local disk, because its
locks are `flock`s.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from sagabus.store import keeper, launcher
from sagabus.store.launcher import EmbeddedServerError
from sagabus.store.server_binary import NoServerBinaryError, ServerBinary, find_server_binary

__all__ = ["EmbeddedServer", "EmbeddedServerError", "NoServerBinaryError", "ServerBinary", "find_server_binary"]

OPEN_TIMEOUT_S = 60.0
GRACE_S = 2.0


class EmbeddedServer:
    """One process's hold on the server of a folder. Leaving the context, or `close()`, lets it go.

    A child that is forked shares its parent's hold: the server lives until both have closed it or ended. A process
    may hold one folder several times.

    Attributes:
        folder: the folder, absolute and without symbolic links.
        url: the server's socket as a `unix://` URL with a percent-encoded path; the same as long as it is held.
    """

    def __init__(self, folder: Path, socket_path: str, hold: int, grace_s: float) -> None:
        self.folder = folder
        self.url = "unix://" + quote(os.fsencode(socket_path))
        self._hold: int | None = hold
        self._grace_s = grace_s

    @classmethod
    def open(cls, folder: Path, *, timeout_s: float = OPEN_TIMEOUT_S, grace_s: float = GRACE_S) -> Self:
        """Attach to the server of *folder*, or start it on the data that is there; return when it answers PING.

        Safe to call from many processes at once: one starts it, the others attach. A server that is being ended is
        never attached to; a fresh one is started when it is gone.

        Args:
            folder: made with mode 0700 and a `.gitignore` where missing.
            timeout_s: how long to wait for a server that ends, starts, or loads its data.
            grace_s: how long the server outlives its last user; whoever starts it decides.

        Raises:
            EmbeddedServerError: it did not start, or not in time.
            NoServerBinaryError: there is no program to run.
        """
        deadline = time.monotonic() + timeout_s
        try:
            folder = _prepared(folder)
            hold = keeper.open_lock(folder / keeper.USERS_LOCK)
        except OSError as problem:
            raise launcher.unusable(folder, problem) from problem
        try:
            launcher.lock(hold, fcntl.LOCK_SH, deadline, folder, "its last server does not end")
            return cls(folder, launcher.ensure(folder, deadline, grace_s), hold, grace_s)
        except BaseException:
            os.close(hold)
            raise

    def ensure(self, *, timeout_s: float = OPEN_TIMEOUT_S) -> None:
        """Start the server again if its keeper was killed; do nothing while it answers. The URL stays the same.

        A server that crashed is started again by its keeper, without this.

        Raises:
            EmbeddedServerError: it did not start, or not in time, or this hold is closed.
            NoServerBinaryError: there is no program to run.
        """
        if self._hold is None:
            raise EmbeddedServerError(self.folder, "this hold on it is closed", "Open the folder again")
        launcher.ensure(self.folder, time.monotonic() + timeout_s, self._grace_s)

    def close(self) -> None:
        """Let go. The server ends after the last user's grace period; closing twice does nothing."""
        hold, self._hold = self._hold, None
        if hold is not None:
            os.close(hold)  # never LOCK_UN: it would take the lock from a forked parent or child as well

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prepared(folder: Path) -> Path:
    """Make the folder, private and unknown to git. One that exists and holds files is left as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    if not any(folder.iterdir()):
        folder.chmod(0o700)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return folder
