"""A process that has imported what workers import, and becomes one in a fork of itself each time.

Most of a worker's start is its imports, and a run kills hundreds of them. What is forked is as good as what was started
from the beginning: a process of its own, in a session of its own, in which `sagabus` runs as `python -m` runs it. Run
as a module, this is that process; `Forge` is what the crews have of it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Final

from attrs import define, field

from sagabus.supervisor import PARENT_FD

ROOT: Final = Path(__file__).parents[3]
_LARGEST: Final = 150_000
_TIMEOUT_S: Final = 120.0
_UNKNOWN: Final = 255
_IMPORTED: Final = (
    *("sagabus.cli.worker", "sagabus.app", "sagabus.worker", "sagabus.observe.log", "sagabus.store.redis"),
    *("transports.redis_streams", "examples.credit_check.bureaus", "examples.credit_check.saga"),
    *("tests.chaos.load.failpoints", "tests.chaos.load.sagas", "tests.chaos.load.settings"),
)


@define(eq=False)
class Forged:
    """One worker process, with the part of `subprocess.Popen` that crews use.

    Attributes:
        pid: its process id.
        returncode: as Popen's: None while it lives, -9 after SIGKILL.
    """

    pid: int
    _forge: Forge
    returncode: int | None = None
    _ended: threading.Event = field(factory=threading.Event)

    def poll(self) -> int | None:
        """Return the exit code, None while it lives."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once there is one.

        Raises:
            subprocess.TimeoutExpired: there was none within *timeout* seconds.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send it a signal; nothing where it has ended."""
        # By the forge, which alone knows when the process id may be somebody else's.
        if self.returncode is None:
            self._forge.order({"signal": [self.pid, sig]})

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def over(self, code: int) -> None:
        """Note that it has ended."""
        self.returncode = code
        self._ended.set()


class Forge:
    """Starts workers. Thread-safe; it ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Forged] = {}
        self._started: SimpleQueue[Forged | None] = SimpleQueue()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name="forge", daemon=True).start()

    def start(self, command: Sequence[str], environment: Mapping[str, str], parent_fd: int, out: IO[bytes]) -> Forged:
        """Return a process that runs `sagabus COMMAND`.

        Args:
            command: the arguments.
            environment: all of its environment variables.
            parent_fd: what the worker reads the end of file of when we are gone.
            out: where its output goes.

        Raises:
            RuntimeError: the process that starts them has ended.
        """
        with self._lock:
            self.order({"start": list(command), "env": dict(environment)}, parent_fd, out.fileno())
            worker = self._started.get(timeout=_TIMEOUT_S)
        if worker is None:
            raise RuntimeError("the process that forks workers has ended; what it said on stderr tells why")
        return worker

    def order(self, order: Mapping[str, Any], *fds: int) -> None:
        """Send one order to the process."""
        data = json.dumps(order).encode()
        socket.send_fds(self._line, [data], fds)

    def close(self) -> None:
        """End the process; workers that it started are not its business any more."""
        self._process.kill()
        self._process.wait()
        self._line.close()

    def _listen(self) -> None:
        while data := self._news():
            news = json.loads(data)
            if "started" in news:
                worker = self._known[news["started"]] = Forged(news["started"], self)
                self._started.put(worker)
            else:
                pid, code = news["ended"]
                self._known.pop(pid).over(code)
        # Killed, perhaps: what became of the workers, nobody will ever say.
        for worker in list(self._known.values()):
            worker.over(_UNKNOWN)
        self._started.put(None)

    def _news(self) -> bytes:
        """Return what the process says next; nothing where it has ended."""
        try:
            return self._line.recv(_LARGEST)
        except OSError:
            return b""


_shared: list[Forge] = []
_sharing: Final = threading.Lock()


def shared_forge() -> Forge:
    """Return the forge of this process, made when first asked for."""
    with _sharing:
        if not _shared:
            _shared.append(Forge())
            atexit.register(_shared[0].close)
        return _shared[0]


# -- in the other process ----------------------------------------------------------------------------------------


def _next_worker(line: socket.socket) -> list[str] | None:
    """Fork for each order, and return its arguments in the fork; return None, in the forge, when nobody orders more."""
    wake, ring = socket.socketpair()
    for end in (wake, ring):
        end.setblocking(False)
    signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: set[int] = set()
    while True:
        ready = select.select([line, wake], [], [])[0]
        if wake in ready:
            wake.recv(4096)
            _bury(line, living)
        if line not in ready:
            continue
        data, fds, _, _ = socket.recv_fds(line, _LARGEST, 4)
        if not data:
            return None
        order = json.loads(data)
        if "signal" in order:
            pid, number = order["signal"]
            if pid in living:
                os.kill(pid, number)
            continue
        pid = os.fork()
        if pid == 0:
            break
        living.add(pid)
        for fd in fds:
            os.close(fd)
        line.send(json.dumps({"started": pid}).encode())
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for end in (wake, ring, line):
        end.close()
    return _become(order, *fds)


def _bury(line: socket.socket, living: set[int]) -> None:
    """Tell of every worker that has ended."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.discard(pid)
        line.send(json.dumps({"ended": [pid, os.waitstatus_to_exitcode(status)]}).encode())


def _become(order: Mapping[str, Any], parent_fd: int, out: int) -> list[str]:
    """Take on what the order says, and return the arguments."""
    os.setsid()
    for fd in (1, 2):
        os.dup2(out, fd)
    os.close(out)
    os.environ.clear()
    os.environ.update(order["env"])
    os.environ[PARENT_FD] = str(parent_fd)
    return list(order["start"])


if __name__ == "__main__":
    for _name in _IMPORTED:
        importlib.import_module(_name)
    gc.freeze()  # what all share is looked through by none of them
    _args = _next_worker(socket.socket(fileno=int(sys.argv[1])))
    if _args is not None:
        sys.argv[1:] = _args
        runpy.run_module("sagabus", run_name="__main__", alter_sys=True)
