"""Row 18: the disk with the append-only file is full."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.chaos.arena import Arena
from tests.chaos.lab.disk import small_disk
from tests.chaos.lab.server import Server
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_DISK_MB: Final = 64
_CHUNK: Final = 65_536
_LASTS_S: Final = 1.5
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Fill the disk under load, wait until the server refuses writes for want of it, and clear it again."""
    disk = arena.use(small_disk(arena.folder / "disk", _DISK_MB))
    # No rewriting: what it wants is twice the room, which is another fault.
    server = arena.use(Server(disk / "server", {"auto-aof-rewrite-percentage": 0}))
    load = arena.load(server.url)
    load.send(at_least=arena.size)
    refused = happened = 0
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        before = _refusals(server)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            _fill(file)
            load.until(lambda before=before: _refusals(server) > before or _fill(file), "a refusal for want of disk")  # type: ignore[misc]
            time.sleep(_LASTS_S)
        refused += _refusals(server) - before
        happened += server.info("persistence")["aof_last_write_status"] == "err"
        filler.unlink()
    verdict = load.finish()
    return verdict.with_faults(happened, f"{refused} writes were refused")


def _fill(file: Any) -> bool:
    """Write until nothing more fits; return False."""
    size = _CHUNK
    while size:
        try:
            file.write(b"x" * size)
        except OSError:
            size //= 2
    return False


def _refusals(server: Server) -> int:
    errors: dict[str, Any] = server.info("errorstats")
    return int(errors.get("errorstat_MISCONF", {}).get("count", 0))


ROW = Row(
    18,
    fault="disk full",
    holds="stops, then goes on",
    run=run,
    errands=400,
    faults=5,
    quick_errands=20,
    quick_faults=1,
)
