"""A TLS terminator in front of a plain server: what a broker's own TLS port would be."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.certificates import Certificate

_CHUNK = 65_536


class _Terminator:
    """Passes bytes between TLS connections and plain ones to *target*, a pair of threads a connection."""

    def __init__(self, target: tuple[str, int], context: ssl.SSLContext) -> None:
        self._target, self._context = target, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        self._closing = False
        self.accept = threading.Thread(target=self._accept, name="tls-terminator")
        self.accept.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closing:
                plain_side, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain_side,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(suppress(OSError))
            raw.settimeout(20)
            client = stack.enter_context(self._context.wrap_socket(raw, server_side=True))
            server = stack.enter_context(socket.create_connection(self._target, timeout=20))
            self._open += [client, server]
            while not self._closing:
                # What TLS has decrypted already does not show in select().
                ready = [client] if client.pending() else select.select([client, server], [], [], 1.0)[0]
                for source in ready:
                    data = source.recv(_CHUNK)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)

    def close(self) -> None:
        self._closing = True
        for held in self._open:
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            held.close()
        self.accept.join()


@contextmanager
def tls_in_front_of(target: tuple[str, int], certificate: Certificate, *, clients: str | None = None) -> Iterator[int]:
    """Yield a loopback port on which *target* is reached over TLS.

    Args:
        certificate: who it says to be.
        clients: the file of the authority whose certificates it asks of clients.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate.cert, certificate.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    terminator = _Terminator(target, context)
    try:
        yield terminator.port
    finally:
        terminator.close()
