"""A file that says how a process is, for probes that run a command: `sagabus health --file PATH`."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from attrs import asdict, frozen

from sagabus.health.vitals import Health

WRITE_EVERY_S: Final = 1.0
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a disk that is full says; it may have room again."""


class _Written(msgspec.Struct, frozen=True):
    """What the file holds. Its age is told by a clock that nobody sets: the one that runs since the machine began."""

    alive: bool
    ready: bool
    reasons: list[str]
    at: str
    at_monotonic_s: float
    pid: int


@frozen
class HealthFile:
    """One such file, replaced as a whole.

    Attributes:
        path: where it is; who looks must look on the same machine, and may be in another container.
    """

    path: Path

    def write(self, health: Health) -> None:
        """Say how this process is.

        Raises:
            OSError: the file cannot be written.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        held = _Written(**_fields(health), at=at, at_monotonic_s=time.monotonic(), pid=os.getpid())
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            beside.write_bytes(msgspec.json.encode(held) + b"\n")
            beside.replace(self.path)
        except OSError:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def read(self, within_s: float) -> Health | None:
        """Return how the process that writes here is; None for no file: then nobody knows.

        One that has not written for longer than *within_s* seconds is neither alive nor ready.
        """
        try:
            held = msgspec.json.decode(self.path.read_bytes(), type=_Written)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            return Health(False, False, (f"{self.path} cannot be read: {error}",))
        age_s = time.monotonic() - held.at_monotonic_s
        if not 0 <= age_s <= within_s:
            return Health(False, False, (f"nothing was said since {held.at}", *held.reasons))
        return Health(held.alive, held.ready, tuple(held.reasons))

    def remove(self) -> None:
        """Say nothing any more."""
        self.path.unlink(missing_ok=True)


class HealthWriter:
    """Writes a file once a second, in a thread of its own, for as long as the block.

    Where the disk is full the file goes, and is back when there is room: an old one would say that this process is
    stuck, and have it killed.

    Args:
        ask: says how this process is.
        log: a structlog logger; is told once when the file cannot be written, and again when it can.
    """

    def __init__(self, file: HealthFile, ask: Callable[[], Health], log: Any) -> None:
        self._file, self._ask, self._log = file, ask, log
        self._well = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health-file", daemon=True)

    def __enter__(self) -> None:
        try:
            self._file.write(self._ask())
        except OSError as error:
            if error.errno not in _PASSING:
                # A mistake in the path is the user's to mend, so it is raised here and not logged there.
                raise
            self._not_written(error)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.remove()

    def _run(self) -> None:
        while not self._stop.wait(WRITE_EVERY_S):
            try:
                self._file.write(self._ask())
            except OSError as error:
                self._not_written(error)
            else:
                self._well = True

    def _not_written(self, error: OSError) -> None:
        if self._well:
            self._log.error("health-not-written", path=str(self._file.path), error=str(error))
        self._well = False
        with suppress(OSError):
            self._file.remove()


def _fields(health: Health) -> dict[str, Any]:
    return {**asdict(health), "reasons": list(health.reasons)}
