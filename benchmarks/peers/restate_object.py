"""Restate: its server from npm, its Python SDK served by granian, and a virtual object per customer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

import redis
from attrs import frozen

from benchmarks.peers.peer import PROCESSES, MissingError, Running, free_ports, need, processes
from benchmarks.peers.task import ServerBooks
from sagabus import SagabusError

CACHE: Final = Path(__file__).parents[2] / ".peers"
"""Where npm puts the server."""
_PACKAGE: Final = "@restatedev/restate-server"
_BINARY: Final = f"node_modules/{_PACKAGE}-*/bin/restate-server"
_HOST: Final = "127.0.0.1"
_START_S: Final = 60.0
_CONNECTIONS: Final = 50
_WINDOW: Final = 300
_SERVED: Final = ["--interface", "asginl", "--http", "2", "--no-ws", "--log-level", "warning", "--host", _HOST]
_ENDED: Final = ["--workers-kill-timeout", "1"]


def server_binary(cache: Path = CACHE) -> Path:
    """Return where Restate's server is, after npm has put it there.

    Raises:
        MissingError: npm is not there, or did not do it.
    """
    found = sorted(cache.glob(_BINARY))
    if not found:
        _install(cache)
        found = sorted(cache.glob(_BINARY))
    if not found:
        raise MissingError(f"{_PACKAGE} has no server for this machine; leave Restate out, name others by --peer")
    return found[0]


def _install(cache: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError("Restate's server comes by npm, which is not on PATH; install Node.js, or use other peers")
    cache.mkdir(exist_ok=True)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--no-update-notifier", "--ignore-scripts"]
    done = subprocess.run(
        [npm, "install", *options, "--prefix", str(cache), _PACKAGE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise MissingError(
            f"npm did not install Restate's server: {why}; run `npm install --prefix {cache} {_PACKAGE}`"
        )


class _Ingress:
    """Sends invocations over connections that stay open. A context manager; not thread-safe."""

    def __init__(self, port: int) -> None:
        self._connections = [HTTPConnection(_HOST, port, timeout=_START_S) for _ in range(_CONNECTIONS)]

    def __enter__(self) -> _Ingress:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def start(self, checks: Sequence[str], replies: int) -> None:
        """Send one invocation per check, and return when Restate has taken all of them."""
        for first in range(0, len(checks), _CONNECTIONS):
            some = list(zip(self._connections, checks[first : first + _CONNECTIONS], strict=False))
            for connection, check in some:
                _post(connection, f"/check/{check}/decide/send", replies)
            for connection, _ in some:
                _answer(connection)


def _post(connection: HTTPConnection, path: str, body: Any) -> None:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})


def _answer(connection: HTTPConnection) -> None:
    response = connection.getresponse()
    said = response.read()
    if response.status >= 300:
        raise SagabusError(f"Restate answers {response.status}: {said[:200].decode(errors='replace')}")


def _until_taken(port: int, path: str, body: Any, logs: Path) -> None:
    """Post again and again until the answer is good."""
    give_up_at = time.monotonic() + _START_S
    while True:
        try:
            with closing(HTTPConnection(_HOST, port, timeout=_START_S)) as connection:
                _post(connection, path, body)
                return _answer(connection)
        except (OSError, HTTPException, SagabusError) as error:
            if time.monotonic() > give_up_at:
                raise SagabusError(f"Restate does not start: {error}; run it by hand, as {logs} was to show") from error
            time.sleep(0.1)


@contextmanager
def _server(folder: Path) -> Iterator[tuple[Sequence[int], int, int]]:
    """Run Restate's server with its own defaults, and yield its pids, its ingress' port, and its admin's."""
    folder.mkdir()
    fabric, ingress, admin = free_ports(3)
    settings = {
        "RESTATE_NODE_NAME": "peers",
        "RESTATE_BASE_DIR": str(folder),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_ADDRESS": f"{_HOST}:{fabric}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"{_HOST}:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"{_HOST}:{admin}",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    with processes([[str(server_binary()), "--no-logo"]], folder, settings) as pids:
        yield pids, ingress, admin


@frozen
class Restate:
    """The peer."""

    name: str = "Restate, virtual object"
    keeps: str = "durable steps, synced; exactly-once calls"

    def ready(self) -> None:
        """Have npm install the server, where it is not there."""
        need("Restate", "restate-sdk", "granian")
        server_binary()

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its server, and its handlers in two processes of granian."""
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "granian", *_SERVED, *_ENDED, "--port", str(port)]
        application = ["--workers", str(PROCESSES), "benchmarks.peers.restate_app:app"]
        with (
            redis.Redis.from_url(url) as client,
            processes([[*command, *application]], folder, {"PEERS_REDIS": url}) as pids,
            _server(folder / "restate") as (servers, ingress, admin),
            _Ingress(ingress) as driver,
        ):
            _until_taken(admin, "/deployments", {"uri": f"http://{_HOST}:{port}"}, folder)
            _until_taken(ingress, "/bureau/report", {"bureau": "none", "check": "none"}, folder)
            yield Running(driver.start, ServerBooks(client), pids, window=_WINDOW, servers=servers)
