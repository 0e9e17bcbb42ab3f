"""HTTP probes: GET /livez and /readyz answer 200 or 503, and say why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import msgspec
from attrs import asdict

from sagabus.errors import ConfigurationError
from sagabus.health.vitals import Health

_REQUEST_S: Final = 5.0
_POLL_S: Final = 0.05


def address_of(text: str, what: str = "health probes") -> tuple[str, int]:
    """Return the host and port that *text* names: HOST:PORT, [IPV6]:PORT, or PORT on loopback.

    Args:
        what: is served there.

    Raises:
        ConfigurationError: it names none.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ConfigurationError(f"{text!r} is no address for {what}; write HOST:PORT, or PORT on loopback")
    return host.strip("[]") or "127.0.0.1", int(port)


class HealthServer:
    """Answers probes in daemon threads, for as long as the block. Anybody who can connect may ask.

    Args:
        address: HOST:PORT, or PORT on loopback.
        ask: says how this process is.

    Raises:
        ConfigurationError: nothing can listen there.
    """

    def __init__(self, address: str, ask: Callable[[], Health]) -> None:
        host, port = address_of(address)

        class Handler(_Handler):
            health = staticmethod(ask)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = _family(host)

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"health probes cannot be answered at {address}: {error}; choose a free address of this machine"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="health-http", daemon=True
        )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    health: Callable[[], Health]
    timeout = _REQUEST_S
    server_version = "sagabus"
    sys_version = ""

    def do_GET(self) -> None:
        found = self.health()
        well = {"/livez": found.alive, "/readyz": found.ready}.get(self.path.partition("?")[0])
        body = msgspec.json.encode({"error": "ask /livez or /readyz"} if well is None else asdict(found)) + b"\n"
        self.send_response(404 if well is None else 200 if well else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds."""


def _family(host: str) -> int:
    import socket

    return socket.AF_INET6 if ":" in host else socket.AF_INET
