"""A server that answers as a test says, so that a race or a fault happens just where it should."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sagabus.link import Link

Answer = Callable[[list[str]], bytes | None]
"""(a command's words) -> the reply as bytes; None closes the connection without one."""

OK = b"+OK\r\n"


class ScriptedServer:
    """A server on a loopback port that answers as told, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []
        self.connections = 0
        self.run_id = "run-1"
        self.info: dict[str, str] = {}
        told = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                told.connections += 1
                while words := read_command(self.rfile):
                    reply = told.reply(words)
                    if reply is None:
                        return
                    self.wfile.write(reply)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reply(self, words: list[str]) -> bytes | None:
        if words[0] == "CLIENT":
            return OK
        if words[0] == "INFO":
            told = {"run_id": self.run_id, "master_replid": "r"} | self.info
            return bulk("# X\r\n" + "".join(f"{name}:{value}\r\n" for name, value in told.items()))
        self.asked.append(words)
        return self.answer(words)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def read_command(file: Any) -> list[str]:
    """Return the words of the next command; none at the end of the connection."""
    head = file.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        length = int(file.readline()[1:])
        words.append(file.read(length + 2)[:-2].decode())
    return words


def bulk(text: str) -> bytes:
    """Return *text* as a reply."""
    data = text.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def in_turn(*replies: bytes | None) -> Answer:
    """Answer with *replies*, one after the other; then with OK."""
    left = list(replies)
    return lambda words: left.pop(0) if left else OK


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], ScriptedServer]]:
    """Yield a function that starts a scripted server."""
    with ExitStack() as stack:

        def start(answer: Answer) -> ScriptedServer:
            server = ScriptedServer(answer)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[..., Link]]:
    """Yield a function that makes a link to a server."""
    with ExitStack() as stack:

        def make(server: ScriptedServer, scheme: str = "redis", **options: float) -> Link:
            link = Link(f"{scheme}://{server.address}", **options)
            stack.callback(link.close)
            return link

        yield make


Serve = Callable[[Answer], ScriptedServer]
Connect = Callable[..., Link]


def slots(*ranges: tuple[int, int, str]) -> bytes:
    """Return the reply to CLUSTER SLOTS."""
    rows = b""
    for first, last, address in ranges:
        host, _, port = address.rpartition(":")
        rows += b"*3\r\n:%d\r\n:%d\r\n*2\r\n%s:%s\r\n" % (first, last, bulk(host), port.encode())
    return b"*%d\r\n%s" % (len(ranges), rows)


class Pair:
    """Two scripted nodes that share the slots."""

    def __init__(self, serve: Serve) -> None:
        self.answers: dict[str, Answer] = {"one": in_turn(), "two": in_turn()}
        self.one = serve(lambda words: self.reply("one", words))
        self.two = serve(lambda words: self.reply("two", words))
        self.map = slots((0, 8191, self.one.address), (8192, 16383, self.two.address))

    def reply(self, node: str, words: list[str]) -> bytes | None:
        return self.map if words[0] == "CLUSTER" else self.answers[node](words)

    def asked(self, server: ScriptedServer) -> list[list[str]]:
        return [words for words in server.asked if words[0] != "CLUSTER"]


@pytest.fixture
def pair(serve: Serve) -> Pair:
    """Return two scripted nodes."""
    return Pair(serve)
