"""What a peer is to the driver: processes that work, a way to start checks, and the books."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from attrs import frozen

from benchmarks.peers.task import Books
from sagabus.store.keeper import end_with_parent

PROCESSES = 2
"""Worker processes of every peer."""


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
    """

    start: Start
    books: Books
    pids: Sequence[int]
    window: int


class Peer(Protocol):
    """One way to do the task.

    Attributes:
        name: in the table.
        keeps: what it guarantees, in a few words.
    """

    name: str
    keeps: str

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
                    )
                )
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
