"""A session of `sagabus dev`: workers that are drained and started again whenever the app changes and can be loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from attrs import define, field

from sagabus.dev.changes import Changes
from sagabus.dev.dashboard import Dashboard
from sagabus.dev.screen import Screen
from sagabus.dev.survey import Survey
from sagabus.supervisor import Supervisor

if TYPE_CHECKING:
    from sagabus.store.embedded import EmbeddedServer

DRAIN_S: Final = 20.0
"""How long workers have for what is in hand; what takes longer is delivered again."""
_TURN_S: Final = 0.2
_WAIT_S: Final = 0.05
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Two edits within a second that leave a file as long as it was would pass for one, were it taken from bytecode.
_ENV: Final = {"PYTHONDONTWRITEBYTECODE": "1"}


@define
class DevSession:
    """Runs an app until Ctrl-C. For the main thread of a process that ends with it.

    Attributes:
        app: `package.module:bus`, importable from the current folder.
        processes: how many workers.
        log_level: of the workers.
        screen: what is said, and to whom.
        changes: of the source files.
        dashboard: None for none.
        without: why there is none.
    """

    app: str
    processes: int
    log_level: str
    screen: Screen
    changes: Changes
    dashboard: Dashboard | None = None
    without: str = ""
    _workers: Supervisor | None = field(default=None, init=False)
    _survey: Survey | None = field(default=None, init=False)
    _server: EmbeddedServer | None = field(default=None, init=False)
    _awaited_since: float | None = field(default=None, init=False)
    _signals: int = field(default=0, init=False)

    def run(self) -> int:
        """Run until a signal ends it; return the exit code: 0 where all workers ended well, else 1."""
        for number in _STOPPING:
            signal.signal(number, self._on_signal)
        try:
            with self.changes:
                self._load([])
                while not self._signals:
                    changed = self.changes.take(_TURN_S)
                    if changed and not self._signals:
                        self._load(self._named(changed))
                    self._look_after()
        finally:
            self.screen.ending()
            code = self._drain()
            if self.dashboard is not None:
                self.dashboard.stop()
            self._hold("")
            for number in _STOPPING:
                signal.signal(number, signal.SIG_IGN)
        return code

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 1 and self._workers is not None:
            self._workers.abort()

    def _load(self, changed: Sequence[str]) -> None:
        """Start workers on the app as it is now, in the place of those that run, if it can be loaded."""
        began = time.monotonic()
        found = self._surveyed()
        if found is None:
            return
        if found.problem:
            self.screen.broken(changed, found.problem, runs=bool(self._workers and self._workers.pids))
            return
        if self._workers is not None:
            self.screen.reloading(changed)
            self._drain()
        if self._signals:
            return
        self._hold(found.folder)
        if self._survey is None:
            shown = self.dashboard.address if self.dashboard is not None else self.without
            self.screen.welcome(found, self.processes, self.changes.how, shown)
        self._survey = found
        options = ("--log-level", self.log_level)
        self._workers = Supervisor(self.app, self.processes, options=options, env=_ENV, name=f"dev-{os.getpid()}")
        self._workers.start()
        if self.dashboard is not None:
            self.dashboard.start()
        self._awaited_since = began

    def _surveyed(self) -> Survey | None:
        """Return what is on the bus of the app as it is now; None where a signal came first."""
        with tempfile.TemporaryDirectory(prefix="sagabus-dev-") as folder:
            path = Path(folder, "survey")
            process = subprocess.Popen(
                [sys.executable, "-m", "sagabus.dev.survey", self.app, str(path)],
                env=os.environ | _ENV,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            while process.poll() is None:
                if self._signals:
                    process.kill()
                    process.wait()
                    return None
                time.sleep(_WAIT_S)
            if path.exists():
                return msgspec.json.decode(path.read_bytes(), type=Survey)
            return Survey(problem=f"importing it ended the process, with exit code {process.returncode}")

    def _look_after(self) -> None:
        ended = None if self.dashboard is None else self.dashboard.ended()
        if ended is not None:
            self.screen.without_dashboard(ended)
        if self._workers is None:
            return
        self._workers.check()
        if self._awaited_since is not None and self._workers.health().ready:
            self.screen.ready(took_s=time.monotonic() - self._awaited_since)
            self._awaited_since = None
        if self._workers.hopeless and not self._workers.pids:
            self._workers.stop()
            self._workers = None
            self.screen.idle()

    def _drain(self) -> int:
        workers, code = self._workers, 0
        if self.dashboard is not None:
            self.dashboard.end()
        if workers is not None:
            code = workers.stop(DRAIN_S)
        self._workers = None
        return code

    def _hold(self, folder: str) -> None:
        """Keep the embedded server of *folder* running, also while no worker does; let go of any other."""
        from sagabus.store.embedded import EmbeddedServer

        if self._server is not None and (not folder or self._server.folder != Path(folder).resolve()):
            self._server.close()
            self._server = None
        if folder and self._server is None:
            self._server = EmbeddedServer.open(Path(folder))

    def _named(self, changed: Iterable[Path]) -> list[str]:
        return sorted(str(path.relative_to(self.screen.folder)) for path in changed)
