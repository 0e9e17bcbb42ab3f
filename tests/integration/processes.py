"""Worker processes of `tests.integration.creditapp`, for tests that watch them from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from sagabus import Bus
from tests.integration.starter import ROOT, Starter
from tests.servers import until

APP = "tests.integration.creditapp:bus"


@frozen
class Place:
    """A namespace on a server and a folder, which one test and its processes share."""

    url: str
    namespace: str
    folder: Path
    starter: Starter

    @property
    def env(self) -> dict[str, str]:
        """Return what the app reads from its environment."""
        return {
            "SAGABUS_STORE": self.url,
            "SAGABUS_TRANSPORT": self.url,
            "CREDITAPP_NAMESPACE": self.namespace,
            "CREDITAPP_FOLDER": str(self.folder),
        }

    def done(self) -> list[str]:
        """Return what the processes have noted so far, without their pids."""
        return [line.split()[0] for line in self._lines()]

    def pid_of(self, what: str) -> int:
        """Return the process that noted *what* last."""
        return [int(line.split()[1]) for line in self._lines() if line.split()[0] == what][-1]

    def _lines(self) -> list[str]:
        path = self.folder / "done"
        return path.read_text().splitlines() if path.exists() else []

    def await_done(self, what: str, *, times: int = 1) -> None:
        """Return once *what* was noted so many times."""
        until(lambda: self.done().count(what) >= times, f"{what}, {times} times")

    def open_gate(self) -> None:
        """Let held handlers go on."""
        (self.folder / "gate").touch()

    @contextmanager
    def bus(self) -> Iterator[Bus]:
        """Yield a bus that declares the app's queues but has no handlers: for sending and looking."""
        with Bus(self.url, self.url, namespace=self.namespace) as bus:
            yield bus

    def depth(self, endpoint: str) -> int:
        """Return how many messages wait, or were received and not acked; 0 where there is no such queue."""
        with self.bus() as bus:
            return {queue.endpoint: queue.depth for queue in bus.transport.queues()}.get(endpoint, 0)

    def send_quick_jobs(self, total: int, *, stop_at: int, whom: str) -> None:
        """Send jobs numbered from 0; the one numbered *stop_at* asks *whom*, `worker` or `supervisor`, to stop."""
        jobs = [{"number": n} | ({"stop": whom} if n == stop_at else {}) for n in range(total)]
        self.sagabus("send", APP, "quick.job", "-", input="\n".join(map(json.dumps, jobs)))

    def sagabus(
        self,
        *args: str,
        check: bool = True,
        anew: bool = False,
        input: str = "",
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; *anew* in an interpreter of its own, for what is about how it begins."""
        whole = {**os.environ, **self.env, **(env or {})}
        if anew:
            command = self.command(*args)
            done = subprocess.run(
                command, input=input, cwd=cwd, env=whole, capture_output=True, text=True, timeout=60, check=False
            )
        else:
            done = self.starter.run(args, said=input, cwd=cwd, env=whole)
        assert not check or done.returncode == 0, done.stderr
        return done

    @contextmanager
    def running(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command for as long as the block; kill it if it has not ended by then."""
        process = subprocess.Popen(
            self.command(*args),
            env={**os.environ, **self.env},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            # What it may still hold up ends with the gate open, its own children included.
            self.open_gate()
            process.kill()
            process.communicate(timeout=60)

    @staticmethod
    def command(*args: str) -> Sequence[str]:
        """Return the command line of `sagabus ARGS`."""
        return (sys.executable, "-m", "sagabus", *args)


def signal_until_ended(process: subprocess.Popen[str], number: int) -> int:
    """Send *number* again and again, for two that are pending at once count as one; return the exit code."""

    def ended() -> bool:
        if process.poll() is None:
            process.send_signal(number)
        return process.poll() is not None

    until(ended, "the end of the process")
    assert process.returncode is not None
    return process.returncode
