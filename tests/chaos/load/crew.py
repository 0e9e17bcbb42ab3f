"""The crew: worker processes of the load, killed, stopped and replaced under their names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from sagabus.supervisor import PARENT_FD
from tests.chaos.ledger import AT_WORK, FAULT, Line
from tests.chaos.load.forge import ROOT, Forged, shared_forge

APP: Final = "tests.chaos.load.app:bus"
ENDPOINTS: Final = 8
_KEEP_S: Final = 0.02
_END_TIMEOUT_S: Final = 60.0
_PAUSE_AFTER_CRASH_S: Final = 0.5
Process = subprocess.Popen[bytes] | Forged


@define(eq=False)
class Member:
    """One worker; it keeps its name through all its lives.

    Attributes:
        name: the worker's.
        codes: how its earlier lives ended: exit codes, -9 for SIGKILL.
    """

    name: str
    process: Process | None = None
    codes: list[int] = field(factory=list)
    pausing: bool = False
    restart_at: float = 0.0

    @property
    def pid(self) -> int:
        """Return the process id of its present life, 0 for none."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0


@define
class Crew:
    """Keeps *size* workers running until it is closed. Thread-safe.

    Attributes:
        environment: what they are told beyond this process's own environment.
        folder: where their output goes.
        prefix: what to put before their command lines; with one, each is started from the beginning, not forged.
        on_death: called with the announcement of a worker that killed itself at a failpoint, when it is dead and before
            it is replaced.
        kills: how many were killed from outside.
    """

    size: int
    environment: Mapping[str, str]
    folder: Path
    prefix: Sequence[str] = ()
    on_death: Callable[[Line], None] | None = None
    replacing: bool = True
    kills: int = field(default=0, init=False)
    members: list[Member] = field(factory=list, init=False)
    problems: list[str] = field(factory=list, init=False)
    _at_work: dict[int, set[str]] = field(factory=dict, init=False)
    _announced: dict[int, Line] = field(factory=dict, init=False)
    _killed: set[int] = field(factory=set, init=False)
    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    _closed: threading.Event = field(factory=threading.Event, init=False)
    _keeper: threading.Thread | None = field(default=None, init=False)
    _pipe: tuple[int, int] = field(factory=os.pipe, init=False)

    def start(self) -> Self:
        """Start them and return at once."""
        for slot in range(self.size):
            member = Member(f"chaos-{os.getpid()}-{slot}")
            self.members.append(member)
            self._spawn(member)
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        return self

    def heard(self, line: Line) -> None:
        """Take a line of the ledger."""
        with self._lock:
            if line["what"] == AT_WORK:
                self._at_work.setdefault(line["pid"], set()).add(line["endpoint"])
            elif line["what"] == FAULT:
                self._announced[line["pid"]] = line

    def at_work(self) -> list[Member]:
        """Return the members all of whose lanes receive."""
        with self._lock:
            return [m for m in self.members if m.pid and len(self._at_work.get(m.pid, ())) >= ENDPOINTS]

    def kill(self, member: Member) -> bool:
        """Kill a worker with SIGKILL; return whether it lived until then."""
        return self.signal(member, signal.SIGKILL)

    def signal(self, member: Member, number: int) -> bool:
        """Send a worker a signal; return whether it lived until then."""
        with self._lock:
            pid = member.pid
            if not pid or member.process is None:
                return False
            member.process.send_signal(number)
            member.pausing = number == signal.SIGSTOP or (member.pausing and number != signal.SIGCONT)
            if number == signal.SIGKILL:
                self.kills += 1
                self._killed.add(pid)
            return True

    def codes(self) -> Counter[int]:
        """Return how the lives that are over have ended."""
        with self._lock:
            return Counter(code for member in self.members for code in member.codes)

    def stop(self, timeout_s: float = _END_TIMEOUT_S) -> list[int]:
        """Have them drain and end; return their exit codes. Those that do not end in time are killed."""
        self._closed.set()
        if self._keeper is not None:
            self._keeper.join()
        ending = [(m, m.process) for m in self.members if m.process is not None and m.pid]
        for member, process in ending:
            if member.pausing:
                process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        codes = []
        deadline = time.monotonic() + timeout_s
        for member, process in ending:
            try:
                codes.append(process.wait(max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                self.problems.append(f"worker {member.name} did not end within {timeout_s:g} s")
                process.kill()
                codes.append(process.wait())
        return codes

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if self._keeper is not None:
            self._keeper.join()
        for member in self.members:
            if member.process is not None:
                member.process.kill()
                member.process.wait()
        for fd in self._pipe:
            os.close(fd)

    def _keep(self) -> None:
        while not self._closed.wait(_KEEP_S):
            for member in self.members:
                self._look_at(member)

    def _look_at(self, member: Member) -> None:
        process = member.process
        if process is not None:
            code = process.poll()
            if code is None:
                return
            with self._lock:
                announced = self._announced.pop(process.pid, None)
                if code == -signal.SIGKILL and announced is None and process.pid not in self._killed:
                    return  # by its own hand: its announcement is in the file, and is heard in a moment
                member.codes.append(code)
                member.process = None
            if announced is not None and self.on_death is not None:
                self.on_death(announced)
            # Not at once where it ended by itself: its server may be down.
            member.restart_at = time.monotonic() + (0.0 if code == -signal.SIGKILL else _PAUSE_AFTER_CRASH_S)
        if self.replacing and time.monotonic() >= member.restart_at:
            self._spawn(member)

    def _spawn(self, member: Member) -> None:
        command = ["worker", APP, "--name", member.name, "--log-level", "WARNING", "--log-format", "json"]
        environment = {**os.environ, **self.environment}
        with (self.folder / f"{member.name}.log").open("ab") as log:
            if not self.prefix:
                process: Process = shared_forge().start(command, environment, self._pipe[0], log)
            else:
                process = subprocess.Popen(
                    [*self.prefix, sys.executable, "-m", "sagabus", *command],
                    cwd=ROOT,
                    # Not `end_with_parent`: the thread that starts them may end before they do.
                    env={**environment, PARENT_FD: str(self._pipe[0])},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(self._pipe[0],),
                    start_new_session=True,
                )
        with self._lock:
            member.process, member.pausing = process, False
