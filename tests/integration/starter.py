"""A process that has imported what every command imports, and becomes `sagabus ARGS` in a fork of itself each time.

Most of a command's time is its imports, and the tests run some hundred commands. What is forked is as good as what
was started from the beginning: a process of its own, with the arguments, environment, folder and files it is told, in
which `sagabus` runs as `python -m` runs it, and which ends as every interpreter ends. Run as a module, this is that
process; `Starter` is what the tests have of it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from attrs import define, field

ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 60
_COMMANDS: Final = ("worker", "send", "listing", "dead", "timers", "inspect", "tail", "record", "replay", "simulate")
_IMPORTED: Final = (
    *(f"sagabus.cli.{name}" for name in (*_COMMANDS, "drawing", "explored", "message_lines", "output", "rerun")),
    *("sagabus.app", "sagabus.observe.handling", "sagabus.observe.log", "sagabus.store.redis"),
    *("transports.redis_streams", "rich.console", "rich.table", "structlog"),
)


@define
class Starter:
    """Starts commands, one at a time, until the block is left."""

    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _line: Any = field(default=None, init=False)

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -B: an app that a test writes twice within a second must not be taken from the first one's bytecode.
                [sys.executable, "-B", "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        with ours:
            self._line = ours.makefile("rw", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        assert self._process is not None
        assert self._process.wait(timeout=_TIMEOUT_S) == 0

    def run(
        self, args: tuple[str, ...], *, env: Mapping[str, str], cwd: Path, said: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `sagabus ARGS` with *said* on its stdin, to its end; after a minute SIGALRM ends it."""
        with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
            files = [Path(folder) / name for name in ("in", "out", "err")]
            files[0].write_text(said, encoding="utf-8")
            order = {"args": args, "env": dict(env), "cwd": str(cwd), "files": list(map(str, files))}
            print(json.dumps(order), file=self._line, flush=True)
            code = int(self._line.readline())
            out, err = (file.read_text(encoding="utf-8") for file in files[1:])
        return subprocess.CompletedProcess(["sagabus", *args], code, out, err)


def _next_command(line: socket.socket) -> list[str] | None:
    """Fork for each order, and return its arguments in the fork; return None, in the starter, after the last one."""
    with line, line.makefile("rw", encoding="utf-8") as orders:
        for text in iter(orders.readline, ""):
            order = json.loads(text)
            pid = os.fork()
            if pid == 0:
                break
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), file=orders, flush=True)
        else:
            return None
    for fd, (path, mode) in enumerate(zip(order["files"], (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        opened = os.open(path, mode, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.path[:1] = [order["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    signal.alarm(_TIMEOUT_S)
    return list(order["args"])


if __name__ == "__main__":
    for _name in _IMPORTED:
        importlib.import_module(_name)
    gc.freeze()  # what all share is looked through by none of them
    _args = _next_command(socket.socket(fileno=int(sys.argv[1])))
    if _args is not None:
        sys.argv[1:] = _args
        runpy.run_module("sagabus", run_name="__main__", alter_sys=True)
