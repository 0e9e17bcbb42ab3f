"""The supervisor: keeps worker processes running, restarts those that crash, and ends them in good order."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from attrs import define, field

from sagabus.health.health_file import HealthFile
from sagabus.health.probes import Probes
from sagabus.health.vitals import Health, together
from sagabus.observe.log import get_logger
from sagabus.telemetry.counters import total
from sagabus.telemetry.counts_file import CountsFile, LivesCounts
from sagabus.telemetry.work import Work

PARENT_FD: Final = "SAGABUS_PARENT_FD"
"""Names the file descriptor whose end of file tells a worker that its supervisor is gone."""
HOPELESS: Final = 2
"""The exit code of a worker whose app or command line says what cannot be: starting it again would not help."""
_REASONS: Final = {
    0: "it ended without being told to",
    1: "it failed; its own lines above say why",
    4: "store or broker do not answer",
    5: "a handler hangs; its own lines above say which",
}
_HEALTHY_S: Final = 5.0
_MAX_BACKOFF_S: Final = 10.0
_CHECK_S: Final = 0.2
_LOOK_EVERY_S: Final = 1.0


@define
class _Child:
    name: str
    file: HealthFile
    counts: LivesCounts
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    crashes: int = 0
    restart_at: float | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


@define
class Supervisor:
    """Runs *processes* workers of an app, each in a process of its own; replaces those that end, or are stuck.

    A worker that is restarted keeps its name, so it gets back at once what its predecessor had not finished. One that
    keeps ending is started later and later, at least every ten seconds: a server that is down may come back at any
    time. Only what an app or a command line says is hopeless. Where the supervisor itself dies, its workers drain and
    end.

    Attributes:
        app: `package.module:attribute` of the bus.
        processes: how many.
        endpoints: which endpoints they work on; all by default.
        options: further command-line options of `sagabus worker`.
        env: environment variables beyond those of this process.
        name: what the names of the workers begin with; unique by default.
        probes: where to say how all of them are.
        counting: whether the workers tell what they count; `work` says so.
        restarts: how many crashed workers were replaced so far.
        hopeless: whether a worker has ended because what it was asked for cannot be; none is restarted then.
    """

    app: str
    processes: int
    endpoints: Sequence[str] | None = None
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(factory=dict)
    name: str | None = None
    probes: Probes = field(factory=Probes)
    counting: bool = False
    restarts: int = field(default=0, init=False)
    hopeless: bool = field(default=False, init=False)
    _children: list[_Child] = field(factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    _aborted: bool = field(default=False, init=False)
    _signals: int = field(default=0, init=False)
    _pipe: tuple[int, int] | None = field(default=None, init=False)
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)
    _look_at: float = field(default=0.0, init=False)
    _log: Any = field(factory=get_logger, init=False)

    def start(self) -> Self:
        """Start the workers and return at once."""
        base = self.name or f"{socket.gethostname()}-{os.getpid()}-{random.getrandbits(16):04x}"
        self._pipe = os.pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="sagabus-")
        folder = Path(self._folder.name)
        self._children = [
            _Child(f"{base}-{slot}", HealthFile(folder / str(slot)), LivesCounts(CountsFile(folder / f"{slot}.counts")))
            for slot in range(self.processes)
        ]
        for child in self._children:
            self._spawn(child)
        return self

    @property
    def pids(self) -> list[int]:
        """Return the process ids of the workers that run."""
        return [child.process.pid for child in self._children if child.runs and child.process is not None]

    def check(self) -> None:
        """Replace workers that ended by themselves; later and later where one keeps crashing at its start.

        One that is stuck is killed first, and what it had in hand is redelivered.
        """
        now = time.monotonic()
        if now >= self._look_at and not self._stopping:
            self._look_at = now + _LOOK_EVERY_S
            self._kill_stuck()
        for child in self._children:
            if self._stopping or self.hopeless or child.process is None or child.runs:
                continue
            if child.restart_at is None:
                self._ended(child, child.process.returncode, now)
            elif now >= child.restart_at:
                self.restarts += 1
                self._spawn(child)

    def _kill_stuck(self) -> None:
        for child in self._children:
            health = child.file.read(self.probes.alive_within_s) if child.runs else None
            if health is not None and not health.alive:
                self._log.error("worker-stuck", worker=child.name, reasons=list(health.reasons))
                assert child.process is not None
                child.process.kill()
                child.process.wait()

    def health(self) -> Health:
        """Return how the workers are, taken together; any thread may ask."""
        within_s = self.probes.alive_within_s
        parts = [(child.name, child.file.read(within_s) if child.runs else None) for child in self._children]
        return together(parts, draining=self._stopping)

    def work(self) -> Work:
        """Return what the workers have done since this supervisor began, taken together; any thread may ask."""
        within_s = self.probes.alive_within_s
        healths = {child.name: child.file.read(within_s) if child.runs else None for child in self._children}
        return Work(
            total(child.counts.counts() for child in self._children),
            {name: health is not None and health.alive for name, health in healths.items()},
            self.restarts,
        )

    def _ended(self, child: _Child, code: int, now: float) -> None:
        if code == HOPELESS:
            self.hopeless = True
            self._log.error("worker-ended", worker=child.name, exit_code=code, reason="restarting would not help")
            return
        child.crashes = 0 if now - child.started_at > _HEALTHY_S else child.crashes + 1
        delay_s = min(0.5 * 2.0 ** (child.crashes - 2), _MAX_BACKOFF_S) if child.crashes > 1 else 0.0
        child.restart_at = now + delay_s
        self._log.warning(
            "worker-ended", worker=child.name, exit_code=code, reason=_reason(code), restart_in_s=round(delay_s, 1)
        )
        if not delay_s:
            self.restarts += 1
            self._spawn(child)

    def run(self) -> int:
        """Start, keep running until SIGTERM or SIGINT, drain, and return the exit code; a second signal aborts.

        The exit code is 0 where all ended well, 2 where the workers cannot be started, else 1. For the main thread of a
        process that ends with it: a signal that comes later is ignored, so that it does not change the exit code.
        """
        wake_read, wake_write = os.pipe()
        for fd in (wake_read, wake_write):
            os.set_blocking(fd, False)
        # A handler may interrupt anything, so it takes no lock: it counts, and the byte Python writes wakes the loop.
        before_fd = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        handlers = {signal.SIGTERM: self._on_signal, signal.SIGINT: self._on_signal, signal.SIGCHLD: _on_child}
        for number, handler in handlers.items():
            signal.signal(number, handler)
        try:
            self.start()
            with self.probes.answered(self.health, self._log):
                while not (self._signals or self.hopeless):
                    if select.select([wake_read], [], [], _CHECK_S)[0]:
                        os.read(wake_read, 4096)
                    self.check()
                code = self.stop()
            return HOPELESS if self.hopeless else code
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(before_fd)
            os.close(wake_read)
            os.close(wake_write)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1:
            self.abort()

    def stop(self, timeout_s: float = 60.0) -> int:
        """Have the workers finish what is in hand and end; return 0 where all that ran ended well, else 1.

        Those that do not end within *timeout_s* seconds are killed; what they held is redelivered.
        """
        running = [child for child in self._children if child.runs]
        if not self._stopping:
            self._stopping = True
            self._signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        codes = []
        for child in running:
            assert child.process is not None
            try:
                codes.append(child.process.wait(max(0.0, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                self._log.error("worker-killed", worker=child.name, reason=f"did not end within {timeout_s:g} s")
                child.process.kill()
                codes.append(child.process.wait())
        self._close_pipe()
        if self._folder is not None:
            self._folder.cleanup()
        # One that SIGTERM itself has ended had not begun to work.
        well = not self._aborted and all(code in (0, -signal.SIGTERM) for code in codes)
        return 0 if well else 1

    def abort(self) -> None:
        """Have the workers end at once, whatever they have in hand; that is redelivered. `stop` waits for them."""
        self._stopping = self._aborted = True
        self._signal(signal.SIGKILL)

    def kill(self, index: int) -> int | None:
        """Kill the running worker number *index* (modulo how many run) with SIGKILL; return its pid, None if none runs.

        `check` replaces it at once, however often it is killed.
        """
        running = [child for child in self._children if child.runs]
        if not running:
            return None
        child = running[index % len(running)]
        assert child.process is not None
        child.process.kill()
        child.process.wait()
        child.crashes, child.started_at = 0, float("-inf")
        return child.process.pid

    def _spawn(self, child: _Child) -> None:
        assert self._pipe is not None
        command = [sys.executable, "-m", "sagabus", "worker", self.app, "--name", child.name, *self.options]
        child.file.remove()
        command += ["--health-file", str(child.file.path), "--alive-within", str(self.probes.alive_within_s)]
        if self.counting:
            child.counts.begin_life()
            command += ["--counts-file", str(child.counts.file.path)]
        if self.endpoints is not None:
            command += ["--endpoints", ",".join(self.endpoints)]
        child.process = subprocess.Popen(
            command,
            env={**os.environ, **self.env, PARENT_FD: str(self._pipe[0])},
            stdin=subprocess.DEVNULL,
            pass_fds=(self._pipe[0],),
            # Ctrl-C reaches the whole foreground group; the supervisor alone says when workers end.
            start_new_session=True,
        )
        child.started_at, child.restart_at = time.monotonic(), None

    def _signal(self, number: int) -> None:
        for child in self._children:
            if child.process is not None and child.runs:
                child.process.send_signal(number)

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _reason(code: int) -> str:
    """Return why a worker ended, as its exit code tells."""
    if code < 0:
        return f"killed by signal {-code}"
    return _REASONS.get(code, "unknown")


def _on_child(_number: int, _frame: object) -> None:
    """Do nothing: that there is a handler wakes the loop."""


def follow_parent(fd: int, gone: Callable[[], None]) -> None:
    """Wait until the supervisor that holds the other end of *fd* is gone, then call *gone*."""
    os.read(fd, 1)
    gone()
