"""One Valkey or Redis process on a loopback port, with data that outlive it: killed, stopped, started again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from attrs import define, field

from sagabus.store.keeper import end_with_parent
from sagabus.store.server_binary import find_server_binary
from tests.servers import free_ports, until

HOST: Final = "127.0.0.1"
_END_TIMEOUT_S: Final = 20.0
_SHOWN_LOG: Final = 4000
DEFAULTS: Final = {
    "bind": HOST,
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "save": "",
    "daemonize": "no",
    "dir": ".",
    "loglevel": "notice",
    "repl-diskless-sync-delay": "0",
}


@define
class Server:
    """A server process; on Linux it also ends with the thread that started it, so start it in one that lasts.

    Attributes:
        folder: where its data lie; they stay when it ends, until whoever made the folder removes it.
        config: settings of the server, with `-` or `_`: `{"maxmemory": "20mb", "appendfsync": "always"}`.
        binary: the program; the embedded store's own by default.
        port: on 127.0.0.1; a free one by default. It stays the same when the server is started again.
        prefix: a command line to put before the program's, as one that enters a network namespace.
        starts: how often it was started.
    """

    folder: Path
    config: dict[str, str | int] = field(factory=dict)
    binary: Path = field(factory=lambda: find_server_binary().path)
    port: int = field(factory=lambda: free_ports(1)[0])
    prefix: Sequence[str] = ()
    starts: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _paused: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        """Return its URL, for a bus."""
        return f"redis://{HOST}:{self.port}"

    @property
    def socket(self) -> Path:
        """Return its unix socket, which works whatever is done to its network."""
        return self.folder / "s"

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Return whether the process is there, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of its own, past any proxy; close it."""
        options = {"socket_timeout": 10, "decode_responses": True} | options
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def info(self, section: str) -> dict[str, Any]:
        """Return what INFO says."""
        with self.client() as client:
            found: dict[str, Any] = client.info(section)
            return found

    def start(self) -> Self:
        """Start it on its data and return when it answers.

        Raises:
            RuntimeError: it ended instead; with the end of its log.
        """
        assert not self.runs
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = DEFAULTS | {"port": self.port, "unixsocket": str(self.socket)}
        settings |= {name.replace("_", "-"): value for name, value in self.config.items()}
        arguments = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, str(self.binary), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        self.starts += 1
        until(lambda: not self.runs or self._answers(), f"an answer of the server at {self.url}")
        if not self.runs:
            raise RuntimeError(f"{self.binary} ended with status {self._process.returncode}: {self.log()}")
        return self

    def log(self) -> str:
        """Return the end of its log."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-_SHOWN_LOG:] if path.exists() else ""

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL; what it wrote to its files is there."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Start it again on its data; it has been killed or stopped."""
        return self.start()

    def pause(self) -> None:
        """Stop it with SIGSTOP: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def follow(self, host: str, port: int) -> None:
        """Make it a replica of who listens at *host*:*port* (a proxy, perhaps), and return when it has all data."""
        with self.client() as client:
            client.execute_command("REPLICAOF", host, port)
        until(lambda: self.info("replication").get("master_link_status") == "up", "a replica that has all data")

    def promote(self) -> None:
        """Make it a primary."""
        with self.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def append_only_file(self) -> Path:
        """Return the file that the last writes are in: the newest incremental part of the append-only file."""
        parts = [path for path in (self.folder / "appendonlydir").iterdir() if path.name.endswith(".incr.aof")]
        return max(parts, key=lambda path: int(path.name.split(".")[-3]))

    def _answers(self) -> bool:
        try:
            with self.client(socket_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _end(self, number: int) -> None:
        if self._process is None or not self.runs:
            return
        if self._paused:
            self.resume()
        self._process.send_signal(number)
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
