"""The keeper: a small process that runs the server of one folder, and ends it after its last user.

It is started as a script in a session of its own, so that a Ctrl-C at the terminal reaches neither it nor the server,
and it imports the standard library alone, so that it is light. A user of a folder is a process that holds a shared
`flock` there: the kernel drops it however that process ends. Four locks, all in the folder:

    users.lock   shared by every user; exclusive to the keeper from the moment it decides to end the server until the
                 server is gone, so that whoever holds it never meets a server that is being ended
    start.lock   whoever looks for a running keeper or starts one
    keeper.lock  the keeper, all its life
    server.lock  inherited by the server and held by nobody else: two servers never write one append-only file, not
                 even after a keeper was killed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

USERS_LOCK = "users.lock"
START_LOCK = "start.lock"
KEEPER_LOCK = "keeper.lock"
SERVER_LOCK = "server.lock"
STATE = "server.json"
LOG = "valkey.log"

POLL_S = 0.25
ANSWER_TIMEOUT_S = 30.0
END_TIMEOUT_S = 10.0
RESTART_PAUSE_S = 1.0
SHORT_LIFE_S = 5.0

# No TCP port; every write in the append-only file; a key is never evicted; a torn tail is cut off, not fatal.
OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "dir": ".",
}


class StartError(Exception):
    """The server could not be started; the text says why. It travels to the starter as one line."""


def open_lock(path: Path) -> int:
    """Return a descriptor of the lock file at *path*, made where missing; not inherited by programs run from here."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, mode: int) -> bool:
    """Take the `flock` in *mode* (`LOCK_SH` or `LOCK_EX`) without waiting; return whether it was free."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ask(socket_path: str, command: bytes, timeout_s: float = 1.0) -> bytes:
    """Return the first bytes that the server on a unix socket answers to *command*; empty when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(socket_path)
            connection.sendall(command + b"\r\n")
            return connection.recv(512)
        except OSError:
            return b""


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before exec so that the kernel sends it SIGTERM when this process dies.

    Only Linux can do that: None elsewhere.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    prctl, parent, set_parent_death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def arrange() -> None:
        prctl(set_parent_death_signal, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the request was made
            os._exit(1)

    return arrange


class Keeper:
    """Run the server of *folder* until nobody has held the folder for *grace_s* seconds."""

    def __init__(self, folder: Path, socket_path: Path, grace_s: float, binary: Path) -> None:
        self._folder, self._socket, self._grace_s, self._binary = folder, socket_path, grace_s, binary
        self._users = open_lock(folder / USERS_LOCK)
        self._life = open_lock(folder / KEEPER_LOCK)
        self._before_exec = end_with_parent()
        self._server: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._waker, wake = socket.socketpair()
        self._waker.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._told_to_leave)
        # Nobody types at this session; a stray one must not take the store from workers that still drain.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self, started: Callable[[], None]) -> None:
        """Start the server, call *started* once it answers, and keep it until the folder is deserted.

        A second keeper of one folder returns at once, without a word.

        Raises:
            StartError: the server did not start, at first or after a crash.
        """
        if not try_lock(self._life, fcntl.LOCK_EX):
            return
        try:
            self._start()
            started()
            self._keep()
        finally:
            self._end()
            os.close(self._life)  # first: who then gets the users' lock must find no keeper
            os.close(self._users)

    def _keep(self) -> None:
        deserted_since: float | None = None
        while not self._folder_is_gone():
            self._pause(POLL_S)
            now = time.monotonic()
            if not try_lock(self._users, fcntl.LOCK_EX):
                deserted_since = None
                self._mend()
                continue
            deserted_since = now if deserted_since is None else deserted_since
            if now - deserted_since >= self._grace_s:
                return  # with the users' lock: whoever comes now waits until the server is gone
            fcntl.flock(self._users, fcntl.LOCK_UN)

    def _told_to_leave(self, *_: object) -> None:
        """Skip the grace period. Users that are still there (they may be draining too) keep their server."""
        self._grace_s = 0.0

    def _folder_is_gone(self) -> bool:
        """Say whether the folder was removed, perhaps to be made anew: then neither data nor socket are ours."""
        try:
            there = os.stat(self._folder / KEEPER_LOCK)
        except FileNotFoundError:
            return True
        mine = os.fstat(self._life)
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _mend(self) -> None:
        """Start the server again if it ended while it was in use."""
        if self._server is not None and self._server.poll() is not None:
            print(f"keeper: the server ended with status {self._server.returncode}; starting it again", file=sys.stderr)
            if time.monotonic() - self._started_at < SHORT_LIFE_S:
                time.sleep(RESTART_PAUSE_S)  # one that crashes on its data must not become a busy loop
            self._start()

    def _start(self) -> None:
        guard = self._exclusive_data()
        options = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
        try:
            self._server = subprocess.Popen(
                [str(self._binary), *options, "--unixsocket", str(self._socket)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                pass_fds=(guard,),
                preexec_fn=self._before_exec,
            )
        except OSError as problem:
            raise StartError(f"{self._binary} cannot be run: {problem}") from problem
        finally:
            os.close(guard)
        self._await_answer(self._server)
        self._started_at = time.monotonic()
        state = {"socket": str(self._socket), "server_pid": self._server.pid, "keeper_pid": os.getpid()}
        draft = self._folder / f"{STATE}.new"
        draft.write_text(json.dumps(state), encoding="utf-8")
        draft.replace(self._folder / STATE)

    def _exclusive_data(self) -> int:
        """Return the lock that the server inherits, once no earlier server of this folder lives.

        One can only outlive its keeper where that was killed; it is asked to end.
        """
        guard = open_lock(self._folder / SERVER_LOCK)
        deadline = time.monotonic() + END_TIMEOUT_S
        while not try_lock(guard, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(guard)
                raise StartError(f"an earlier server of this folder does not end (`fuser {SERVER_LOCK}` names it)")
            ask(str(self._socket), b"SHUTDOWN", timeout_s=0.1)
            time.sleep(0.02)
        return guard

    def _await_answer(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not (answer := ask(str(self._socket), b"PING")).startswith(b"+PONG"):
            if server.poll() is not None:
                raise StartError(f"{self._binary.name} ended with status {server.returncode}")
            if answer.startswith(b"-LOADING"):
                deadline = time.monotonic() + ANSWER_TIMEOUT_S
            if time.monotonic() > deadline:
                raise StartError(f"{self._binary.name} does not answer: {answer.decode(errors='replace')!r}")
            self._pause(0.002)

    def _end(self) -> None:
        """End the server with everything on disk, and leave nothing that could pass for a running one."""
        abandoned = self._folder_is_gone()
        if not abandoned:
            (self._folder / STATE).unlink(missing_ok=True)
        if self._server is not None and self._server.poll() is None:
            # A server whose folder was removed has nothing to save, and would unlink its successor's socket.
            self._server.send_signal(signal.SIGKILL if abandoned else signal.SIGTERM)
            deadline = time.monotonic() + END_TIMEOUT_S
            while self._server.poll() is None and time.monotonic() < deadline:
                self._pause(0.05)
            self._server.kill()
            self._server.wait()
        if self._socket.parent != self._folder and not abandoned:
            self._socket.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a cleaner of temporary files was quicker
                self._socket.parent.rmdir()

    def _pause(self, timeout_s: float) -> None:
        """Wait, but no longer than until the next signal."""
        if select.select([self._waker], [], [], timeout_s)[0]:
            self._waker.recv(4096)


def tell_starter(line: str) -> None:
    """Write one line to the process that waits for the start, and hang up."""
    with contextlib.suppress(BrokenPipeError):  # the starter was killed; other users may be waiting
        os.write(sys.stdout.fileno(), f"{line}\n".encode(errors="replace"))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def main(arguments: list[str]) -> int:
    """Keep the server of a folder: FOLDER SOCKET GRACE_S BINARY."""
    if os.fork() != 0:
        os._exit(0)  # an orphan is nobody's zombie, and no killer of process trees finds it below the starter
    folder, socket_path, grace_s, binary = arguments
    os.chdir(folder)
    try:
        Keeper(Path(folder), Path(socket_path), float(grace_s), Path(binary)).run(lambda: tell_starter("ready"))
    except StartError as problem:
        print(f"keeper: {problem}", file=sys.stderr)
        tell_starter(f"failed {problem}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
