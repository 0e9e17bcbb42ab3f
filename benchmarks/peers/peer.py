"""What a peer is to the driver: processes that work, a way to start checks, and the books."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

from benchmarks.peers.task import Books
from sagabus import SagabusError
from sagabus.store.keeper import end_with_parent

PROCESSES = 2
"""Worker processes of every peer."""
_GRACE_S: Final = 5.0


class MissingError(SagabusError):
    """A peer cannot be run here before something is installed or started."""


class Start(Protocol):
    """Starts checks."""

    def __call__(self, checks: Sequence[str], replies: int) -> None:
        """Send the first message of each of *checks*, which ask so many bureaus."""
        ...


@frozen
class Running:
    """A peer that runs.

    Attributes:
        pids: of its workers; their descendants are theirs too.
        books: of its decisions.
        window: how many checks to keep under way for its best throughput.
        servers: pids of servers that it needs beside the private one; their work counts as the server's.
        namespace: what its keys begin with, where it has one.
    """

    start: Start
    books: Books
    pids: Sequence[int]
    window: int
    servers: Sequence[int] = ()
    namespace: str = ""


class Peer(Protocol):
    """One way to do the task."""

    @property
    def name(self) -> str:
        """Return its name in the table."""
        ...

    @property
    def keeps(self) -> str:
        """Return what it guarantees, in a few words."""
        ...

    def ready(self) -> None:
        """Fetch what it fetches by itself.

        Raises:
            MissingError: something else is missing.
        """
        ...

    def running(self, url: str, folder: Path) -> AbstractContextManager[Running]:
        """Run its workers on the server at *url*, and end them."""
        ...


@contextmanager
def processes(
    commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]
) -> Iterator[Sequence[int]]:
    """Run programs, what they print in *folder*, and end them with all that they have started."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"worker-{number}.log").open("ab") as log:
                running.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
                        preexec_fn=end_with_parent(),
                        process_group=0,
                    )
                )
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and those that it has started, after a while."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def need(peer: str, *packages: str) -> None:
    """Return when the packages of a peer are installed.

    Raises:
        MissingError: one is not.
    """
    missing = [package for package in packages if not _installed(package)]
    if missing:
        raise MissingError(f"{peer} is not installed; run `pip install {' '.join(missing)}`")


def _installed(package: str) -> bool:
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(package))
    return False


def free_ports(count: int) -> list[int]:
    """Return so many ports of the loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
