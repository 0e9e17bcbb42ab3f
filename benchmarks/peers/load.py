"""Who used the processor: groups of processes, the server, and the rest of the machine. Linux only, from /proc."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@frozen
class Usage:
    """What was used while *seconds* went by.

    Attributes:
        workers, server, driver, others: cores, all together at most those that the machine has.
        commands, reads: of the server. A read is what came in one go: about a round trip.
        bytes: to the server and from it, over the sockets.
    """

    seconds: float
    workers: float
    server: float
    driver: float
    others: float
    commands: int
    reads: int
    bytes: int


@frozen
class Mark:
    """The counters at one moment; times in seconds."""

    at: float
    workers: float
    server: float
    driver: float
    machine: float
    commands: int
    reads: int
    bytes: int

    @classmethod
    def now(cls, pids: Sequence[int], client: Any, servers: Sequence[int] = ()) -> Mark:
        """Read all counters; *pids* are workers, whose descendants count with them, as those of *servers* do."""
        info = client.info("all")
        return cls(
            time.perf_counter(),
            sum(_used_s(pid) for pid in _with_descendants(pids)),
            sum(_used_s(pid) for pid in {info["process_id"], *_with_descendants(servers)}),
            time.process_time(),
            _machine_s(),
            info["total_commands_processed"],
            info["total_reads_processed"],
            info["total_net_input_bytes"] + info["total_net_output_bytes"],
        )

    def until(self, later: Mark) -> Usage:
        """Return what was used from this moment to *later*."""
        seconds = later.at - self.at
        workers, server, driver = (
            (getattr(later, name) - getattr(self, name)) / seconds for name in ("workers", "server", "driver")
        )
        others = (later.machine - self.machine) / seconds - workers - server - driver
        commands, reads = later.commands - self.commands, later.reads - self.reads
        return Usage(seconds, workers, server, driver, others, commands, reads, later.bytes - self.bytes)


def _used_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def parent(pid: int) -> int | None:
    """Return the parent of a process, where it can be seen from here."""
    try:
        return _parent(Path(f"/proc/{pid}"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _parent(process: Path) -> int:
    return int((process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])


def _with_descendants(pids: Sequence[int]) -> set[int]:
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children[_parent(entry)].append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, ahead = set(pids), list(pids)
    while ahead:
        fresh = [child for child in children[ahead.pop()] if child not in found]
        found.update(fresh)
        ahead += fresh
    return found


def _machine_s() -> float:
    """Return what all processors have done so far; not idling, not waiting for disks."""
    user, nice, system, _idle, _wait, *rest = map(
        int, Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]
    )
    return (user + nice + system + sum(rest)) * _TICK_S
