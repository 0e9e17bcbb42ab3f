"""Serving the dashboard: one process, one port, until it is told to stop."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

import uvicorn

from sagabus.bus import Bus
from sagabus.dashboard.app import dashboard
from sagabus.errors import ConfigurationError

DEFAULT_PORT: Final = 8750
_END_S: Final = 2


def new_token() -> str:
    """Return a token that nobody guesses, fit for an address."""
    return secrets.token_urlsafe(24)


def serve(
    bus: Bus,
    *,
    app: str,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str,
    may_act: bool = False,
    hosts: Sequence[str] = (),
    told: Callable[[str], None],
) -> None:
    """Serve the dashboard of *bus* until SIGINT or SIGTERM.

    Args:
        app: the name of the bus, as `sagabus worker` takes it.
        host: the address to listen at.
        port: 0 for a free one.
        token, may_act, hosts: as `dashboard` takes them.
        told: is given the address to open, with the token, once it is answered there.

    Raises:
        ConfigurationError: nothing can listen there.
    """
    site = dashboard(bus, app=app, token=token, may_act=may_act, hosts=[*hosts, host])
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/?token={token}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            told(address)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # uvicorn's own raises the signal once more at its end, and the bus of who called would never be closed.
            self.force_exit = self.should_exit
            self.should_exit = True

    server = Server(
        uvicorn.Config(
            site,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=_END_S,
            server_header=False,
        )
    )
    site.state.live.ended = lambda: server.should_exit
    with listener:
        server.run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"the dashboard cannot listen at {host}:{port}: {error}; choose another --port, or --port 0 for a free one"
        ) from error
    return listener
