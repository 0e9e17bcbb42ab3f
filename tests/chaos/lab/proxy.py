"""A TCP proxy between sagabus and a server: passes, holds, loses one reply, cuts, refuses."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from tests.chaos.lab.server import HOST

_CHUNK: Final = 65_536
_JOIN_TIMEOUT_S: Final = 10.0


class Way(enum.Enum):
    """A direction through the proxy."""

    REQUESTS = "requests"
    REPLIES = "replies"


@define(eq=False)
class _Line:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    loses_reply: bool = False
    frozen: bool = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):  # the other end was quicker
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@define
class Proxy:
    """Listens on a loopback port of its own and passes everything on to *port*. Thread-safe.

    Attributes:
        target: the port on 127.0.0.1 behind it; another one is for connections that are made from then on.
        held: bytes that were held back, so far.
        lost: replies that were lost, so far.
        refused: connections that were refused, so far.
        cuts: connections that were cut, so far.
        frozen: connections that were frozen, so far.
        passed: bytes that went through.
    """

    target: int
    held: int = field(default=0, init=False)
    lost: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    cuts: int = field(default=0, init=False)
    frozen: int = field(default=0, init=False)
    passed: int = field(default=0, init=False)
    _listener: socket.socket = field(init=False)
    _lines: list[_Line] = field(factory=list, init=False)
    _threads: list[threading.Thread] = field(factory=list, init=False)
    _changed: threading.Condition = field(factory=threading.Condition, init=False)
    _holding: set[Way] = field(factory=set, init=False)
    _losing: list[bytes] = field(factory=list, init=False)
    _refusing: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._listener = socket.create_server((HOST, 0), backlog=256)

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Return the URL of a Redis or Valkey behind it."""
        return f"redis://{HOST}:{self.port}"

    def hold(self, *ways: Way) -> None:
        """Hold back what comes along *ways* (both by default); connections stay, and new ones are made."""
        with self._changed:
            self._holding |= set(ways or Way)

    def release(self) -> None:
        """Let through all that is held back, in order, and pass again."""
        with self._changed:
            self._holding.clear()
            self._changed.notify_all()

    def freeze(self) -> int:
        """Make every connection half-open: nothing comes through any more, and nobody is told; return how many.

        New connections work as before.
        """
        with self._changed:
            lines = [line for line in self._lines if not line.frozen]
            for line in lines:
                line.frozen = True
            self.frozen += len(lines)
        return len(lines)

    def lose_next_reply(self, asking: bytes = b"") -> None:
        """Lose one reply: to the next request with *asking* in it. It is read from the server; then the line is cut."""
        with self._changed:
            self._losing.append(asking)

    def cut(self) -> int:
        """Cut every connection; return how many there were. New ones are made."""
        with self._changed:
            lines, self._lines = self._lines, []
            self.cuts += len(lines)
            self._changed.notify_all()
        for line in lines:
            line.close()
        return len(lines)

    def refuse(self) -> None:
        """Cut every connection and close every new one at once."""
        with self._changed:
            self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Let connections be made again."""
        with self._changed:
            self._refusing = False

    def __enter__(self) -> Self:
        self._run(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
        with contextlib.suppress(OSError):  # a listener that nobody connected to cannot be shut down everywhere
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        self.cut()
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT_S)

    def _run(self, job: object, *args: object) -> None:
        thread = threading.Thread(target=job, args=args, name="proxy", daemon=True)  # type: ignore[arg-type]
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: the proxy ends
            with self._changed:
                refusing = self._refusing or self._closed
                self.refused += refusing
            if refusing:
                client.close()
                continue
            try:
                server = socket.create_connection((HOST, self.target), timeout=_JOIN_TIMEOUT_S)
            except OSError:
                client.close()  # as the server itself would refuse it
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(client, server)
            with self._changed:
                self._lines.append(line)
            self._run(self._pump, line, Way.REQUESTS)
            self._run(self._pump, line, Way.REPLIES)

    def _pump(self, line: _Line, way: Way) -> None:
        source, sink = (line.client, line.server) if way is Way.REQUESTS else (line.server, line.client)
        try:
            while data := source.recv(_CHUNK):
                if not self._may_pass(line, way, data):
                    break
                sink.sendall(data)
        except OSError:
            pass  # one end has gone: so has the line
        with self._changed:
            if line in self._lines:
                self._lines.remove(line)
            self._changed.notify_all()
        line.close()

    def _may_pass(self, line: _Line, way: Way, data: bytes) -> bool:
        """Wait as long as *way* is held; return False where the line was cut meanwhile, or is to lose this."""
        with self._changed:
            if way in self._holding or line.frozen:
                self.held += len(data)
            self._changed.wait_for(
                lambda: (way not in self._holding and not line.frozen) or line not in self._lines or self._closed
            )
            if line not in self._lines:
                return False
            if way is Way.REQUESTS:
                wanted = next((asking for asking in self._losing if asking in data), None)
                if wanted is not None:
                    self._losing.remove(wanted)
                    line.loses_reply = True
            elif line.loses_reply:
                self.lost += 1
                return False
            self.passed += len(data)
            return True
