"""How the server of a folder is found, and how it is started where there is none: by a keeper, once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import selectors
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagabus.errors import SagabusError, StoreUnavailableError
from sagabus.store import keeper
from sagabus.store.server_binary import find_server_binary

LARGEST_LOG_BYTES = 1_000_000

_LONGEST_SOCKET_PATH = 103  # bytes: sun_path holds 108 with its final zero on Linux, 104 on macOS and the BSDs
_RETRY_S = 0.005
_TAIL_LINES = 10


class EmbeddedServerError(StoreUnavailableError):
    """The embedded server of a folder could not be started or reached.

    Attributes:
        url: the folder, as an `embedded:` URL.
        folder: the folder.
        log_tail: the last lines that this start wrote to the server's log; may be empty.
    """

    def __init__(self, folder: Path, problem: object, next_step: str, log_tail: str = "") -> None:
        said = f"\nThe log says:\n{log_tail}\n" if log_tail else " "
        SagabusError.__init__(self, f"the embedded server in {folder} is not available: {problem}.{said}{next_step}")
        self.url, self.folder, self.log_tail = f"embedded:{folder}", folder, log_tail


def lock(descriptor: int, mode: int, deadline: float, folder: Path, problem: str) -> None:
    """Take a lock of *folder* before *deadline* (monotonic seconds).

    Raises:
        EmbeddedServerError: it stayed taken; *problem* says what that means.
    """
    while not keeper.try_lock(descriptor, mode):
        if time.monotonic() > deadline:
            raise EmbeddedServerError(folder, problem, _look_at(folder))
        time.sleep(_RETRY_S)


@contextmanager
def _starting(folder: Path, deadline: float) -> Iterator[None]:
    turn = keeper.open_lock(folder / keeper.START_LOCK)
    try:
        lock(turn, fcntl.LOCK_EX, deadline, folder, "another process is starting it and does not finish")
        try:
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)  # a copy in a child forked meanwhile must not keep it
    finally:
        os.close(turn)


def ensure(folder: Path, deadline: float, grace_s: float) -> str:
    """Return the path of the socket on which the server of *folder* answers; the caller holds the users' lock.

    Raises:
        EmbeddedServerError: it did not start, or not before *deadline* (monotonic seconds).
        NoServerBinaryError: there is no program to run.
    """
    with _starting(folder, deadline):
        while True:
            if not _has_keeper(folder):
                _start_keeper(folder, deadline, grace_s)
            socket_path = _socket_in_use(folder)
            if socket_path is not None and keeper.ask(socket_path, b"PING").startswith(b"+PONG"):
                return socket_path
            if time.monotonic() > deadline:
                raise EmbeddedServerError(folder, "it does not answer in time", _look_at(folder))
            time.sleep(_RETRY_S)


def _has_keeper(folder: Path) -> bool:
    life = keeper.open_lock(folder / keeper.KEEPER_LOCK)
    try:
        if not keeper.try_lock(life, fcntl.LOCK_SH):
            return True
        fcntl.flock(life, fcntl.LOCK_UN)
        return False
    finally:
        os.close(life)


def _socket_in_use(folder: Path) -> str | None:
    """Return what the keeper wrote down once its server answered. Only true while there is a keeper."""
    try:
        return str(json.loads((folder / keeper.STATE).read_text(encoding="utf-8"))["socket"])
    except FileNotFoundError:
        return None


def _start_keeper(folder: Path, deadline: float, grace_s: float) -> None:
    """Start a keeper and wait until its server answers.

    Returns also where another process's keeper was quicker; the caller looks again.
    """
    binary = find_server_binary()
    log = folder / keeper.LOG
    try:
        (folder / keeper.STATE).unlink(missing_ok=True)  # what a killed keeper left would pass for the new one's
        socket_path = _socket_path(folder)
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as written:
            logged_bytes = written.tell()
            process = subprocess.Popen(
                # The script, not the module: that would import the packages around it, and with them the world.
                [sys.executable, "-I", keeper.__file__, str(folder), str(socket_path), str(grace_s), str(binary.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=written,
                start_new_session=True,
                umask=0o077,
            )
    except OSError as problem:
        raise unusable(folder, problem) from problem
    verdict = _first_line(process, deadline)
    if verdict == "ready" or (not verdict and _has_keeper(folder)):
        return
    reason = verdict.removeprefix("failed ") or "its keeper ended without a word"
    raise EmbeddedServerError(folder, reason, _look_at(folder), _tail(log, logged_bytes))


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Return the keeper's verdict; empty when it hung up, or the time was up, without one."""
    assert process.stdout is not None
    with process.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        line = pipe.readline() if selector.select(max(0.0, deadline - time.monotonic())) else b""
    process.wait()  # what was started left at once, with the keeper as its orphan
    return line.decode(errors="replace").strip()


def _socket_path(folder: Path) -> Path:
    """Return where the server listens: in the folder, or in a private temporary one where that path is too long."""
    name = "valkey.sock"
    if len(os.fsencode(folder / name)) <= _LONGEST_SOCKET_PATH:
        return folder / name
    own = f"sagabus-{os.geteuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    shelters = [Path(tempfile.gettempdir()).absolute() / own, Path("/tmp") / own]
    shelter = next((path for path in shelters if len(os.fsencode(path / name)) <= _LONGEST_SOCKET_PATH), shelters[-1])
    shelter.mkdir(mode=0o700, exist_ok=True)
    facts = shelter.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise PermissionError(f"{shelter} exists and is not a private directory of this user")
    return shelter / name


def _tail(log: Path, from_byte: int) -> str:
    with log.open("rb") as written:
        written.seek(from_byte)
        lines = written.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _look_at(folder: Path) -> str:
    return f"Look at {folder / keeper.LOG}, mend what it names and try again, or set SAGABUS_STORE to another server"


def unusable(folder: Path, problem: OSError) -> EmbeddedServerError:
    """Return the error for a folder in which locks, log or socket cannot be made."""
    return EmbeddedServerError(
        folder, problem, "Choose a folder on a local disk that this user can write, or set SAGABUS_STORE"
    )
