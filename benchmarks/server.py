"""A server of a benchmark's own, which may be killed and started again on its append-only file."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Final, Literal

import redis
from attrs import define, field

from sagabus import SagabusError
from sagabus.store.keeper import end_with_parent
from sagabus.store.server_binary import find_server_binary

_ANSWER_S: Final = 60.0
_CONFIG: Final = {
    "port": "0",
    "save": "",
    "appendonly": "yes",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "64mb",
    "aof-load-truncated": "yes",
    "daemonize": "no",
    "loglevel": "notice",
}


class ServerDownError(SagabusError):
    """The server did not start; its log says why."""


@define
class Server:
    """One server process on a unix socket, with what it has written in *folder*.

    To be started from the thread that lives longest: the server ends with it.

    Attributes:
        appendfsync: when it syncs: `always`, before it answers, so that what was acknowledged survives a kill, or
            `everysec`.
        kills: how often it was killed.
        down_s: how long it did not answer, all kills together, seconds.
    """

    folder: Path
    appendfsync: Literal["always", "everysec"] = "always"
    kills: int = field(default=0, init=False)
    down_s: float = field(default=0.0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _client: Any = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"unix://{self.folder}/store.sock"

    @property
    def pid(self) -> int:
        """Return the process id of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it on what is there, and return when it answers.

        Raises:
            ServerDownError: it does not.
        """
        arguments = [part for name, value in self._config().items() for part in (f"--{name}", value)]
        place = ["--dir", str(self.folder), "--unixsocket", f"{self.folder}/store.sock"]
        with (self.folder / "store.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_server_binary().path, *arguments, *place],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        self._client = redis.Redis.from_url(self.url, socket_timeout=5)
        give_up_at = time.monotonic() + _ANSWER_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise ServerDownError(f"the store does not answer; look at {self.folder}/store.log")
            time.sleep(0.02)

    def kill(self) -> float:
        """Kill it with SIGKILL, start it again, and return how long it did not answer, seconds."""
        began_at = time.monotonic()
        self._end()
        self.kills += 1
        self.start()
        took_s = time.monotonic() - began_at
        self.down_s += took_s
        return took_s

    def info(self) -> dict[str, Any]:
        """Return what INFO says, and `dbsize`."""
        facts: dict[str, Any] = self._client.info("all")
        return facts | {"dbsize": self._client.dbsize()}

    def key_names(self) -> list[str]:
        """Return the names of all keys."""
        return sorted(name.decode() for name in self._client.scan_iter(count=1000))

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._end()

    def _config(self) -> dict[str, str]:
        return {**_CONFIG, "appendfsync": self.appendfsync}

    def _end(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._client.close()

    def _answers(self) -> bool:
        try:
            return bool(self._client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is one of them
            return False
