"""Which source files change: told by the system through watchfiles, or, where that is not installed, looked for."""

from __future__ import annotations

import importlib.util
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

POLL_S: Final = 0.5
SETTLE_S: Final = 0.1
"""How long nothing more may change before what did is reported: an editor or a checkout writes several files."""
_TURN_MS: Final = 100
_PASSED_OVER: Final = frozenset({"__pycache__", "node_modules", "site-packages"})


class Changes:
    """The `.py` files below a folder that change while the block runs.

    Passed over are virtual environments and folders whose names begin with a dot.

    Args:
        poll: look for them even where the system would tell.
    """

    def __init__(self, folder: Path, *, poll: bool = False) -> None:
        self._folder = folder.resolve()
        missing = importlib.util.find_spec("watchfiles") is None
        self._polls = poll or missing
        self._hint = "; sagabus[dev] notices at once" if missing else ""
        self._stop, self._ready = threading.Event(), threading.Event()
        self._found: queue.SimpleQueue[set[Path]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="changes", daemon=True)

    @property
    def how(self) -> str:
        """Return what tells of changes, for people."""
        if not self._polls:
            return "watchfiles"
        return f"looking every {POLL_S:g} s{self._hint}"

    def take(self, timeout_s: float) -> set[Path]:
        """Return what has changed, as soon as it is quiet again; empty where nothing has within *timeout_s*."""
        changed: set[Path] = set()
        while True:
            try:
                changed |= self._found.get(timeout=SETTLE_S if changed else timeout_s)
            except queue.Empty:
                return changed

    def _watch(self) -> None:
        for changed in self._turns():
            self._ready.set()
            if changed:
                self._found.put(changed)

    def _turns(self) -> Iterator[set[Path]]:
        if not self._polls:
            try:
                yield from told(self._folder, self._stop)
                return
            except OSError:
                # The system watches no more files than it is set to; looking needs nothing of it.
                self._polls = True
        yield from looked(self._folder, self._stop.wait)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def told(folder: Path, stop: threading.Event) -> Iterator[set[Path]]:
    """Yield what changed below *folder* at each turn, first once it is watched, until *stop* is set.

    Raises:
        OSError: the system does not watch so many files.
    """
    import watchfiles

    for changes in watchfiles.watch(
        folder,
        watch_filter=lambda _change, path: _is_source(Path(path), folder),
        stop_event=stop,
        step=50,
        # What is passed over, such as the log of an embedded store, may never be quiet.
        debounce=300,
        rust_timeout=_TURN_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        yield {Path(path) for _, path in changes}


def looked(folder: Path, wait: Callable[[float], bool]) -> Iterator[set[Path]]:
    """Yield what changed below *folder* at each turn, first once it was looked at, until *wait* returns True.

    Args:
        wait: waits so many seconds, or until there is no need any more.
    """
    before = _marks(folder)
    yield set()
    while not wait(POLL_S):
        now = _marks(folder)
        yield {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
        before = now


def _marks(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Return by path what differs where a file is another than it was."""
    marks: dict[Path, tuple[int, int, int]] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_passed_over(Path(parent, name))]
        for name in files:
            if name.endswith(".py"):
                path = Path(parent, name)
                try:
                    status = path.stat()
                except OSError:
                    # It went between two looks, or leads nowhere.
                    continue
                marks[path] = status.st_mtime_ns, status.st_size, status.st_ino
    return marks


def _is_source(path: Path, folder: Path) -> bool:
    if path.suffix != ".py" or not path.is_relative_to(folder):
        return False
    between = path.parents[: len(path.parents) - len(folder.parents) - 1]
    return not any(map(_is_passed_over, between))


def _is_passed_over(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in _PASSED_OVER or (folder / "pyvenv.cfg").exists()
