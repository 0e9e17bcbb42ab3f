"""The dashboard beside `sagabus dev`: a process of its own, at one address for as long as the session lasts."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
from typing import Final

from attrs import define, field

PORT: Final = 8750
_HOST: Final = "127.0.0.1"
_NEEDED: Final = ("jinja2", "starlette", "uvicorn")
_END_S: Final = 5.0
_TOKEN: Final = "SAGABUS_DASHBOARD_TOKEN"


def is_installed() -> bool:
    """Return whether the extra `dashboard` is there."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


@define
class Dashboard:
    """The dashboard of an app. A browser that has it open stays logged in when the app is loaded again.

    Attributes:
        app: `package.module:bus`.
        port: where it listens, on loopback.
        token: who has it may look, and act.
    """

    app: str
    port: int = field(factory=lambda: _free_port())
    token: str = field(factory=lambda: os.environ.get(_TOKEN) or secrets.token_urlsafe(24), repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _pipe: tuple[int, int] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """Return what to open in a browser."""
        return f"http://{_HOST}:{self.port}/?token={self.token}"

    def start(self) -> None:
        """Start it on the app as it is now; wait for the one before to end."""
        self.stop()
        self._pipe = os.pipe()
        command = [sys.executable, "-m", "sagabus.dev.followed", str(self._pipe[0])]
        command += ["dashboard", self.app, "--host", _HOST, "--port", str(self.port), "--allow-actions"]
        self._process = subprocess.Popen(
            command,
            env=os.environ | {_TOKEN: self.token, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            # It says where it is, as we have; what goes wrong is on stderr.
            stdout=subprocess.DEVNULL,
            pass_fds=(self._pipe[0],),
            start_new_session=True,
        )

    def end(self) -> None:
        """Ask it to end, without waiting for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Have it end; one that does not is killed."""
        self.end()
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def ended(self) -> int | None:
        """Return the exit code where it has ended by itself since it was asked last; else None."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._process = None
        return code


def _free_port() -> int:
    for port in (PORT, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((_HOST, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise OSError(f"there is no free port on {_HOST}")
