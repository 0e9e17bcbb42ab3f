"""Row 16: the server has no memory left, and refuses whatever would take more."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.chaos.arena import Arena
from tests.chaos.lab.server import Server
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_ROOM_BYTES: Final = 20_000
_LASTS_S: Final = 1.0
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Leave the server no room, wait until it has refused some writes, and give it room again."""
    server = arena.server()
    load = arena.load(server.url)
    load.send(at_least=arena.size)
    refused = happened = 0
    with server.client() as client:
        for _ in range(arena.faults):
            load.await_done(load.finished() + _BETWEEN)
            before = _refusals(server)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + _ROOM_BYTES)
            load.until(lambda before=before: _refusals(server) > before, "a refusal for want of memory")  # type: ignore[misc]
            time.sleep(_LASTS_S)
            client.config_set("maxmemory", 0)
            refused += _refusals(server) - before
            happened += 1
    verdict = load.finish()
    return verdict.with_faults(happened, f"{refused} writes were refused")


def _refusals(server: Server) -> int:
    errors: dict[str, Any] = server.info("errorstats")
    return int(errors.get("errorstat_OOM", {}).get("count", 0))


ROW = Row(
    16,
    fault="out of memory",
    holds="refused whole; goes on when there is room",
    run=run,
    errands=600,
    faults=8,
    quick_errands=20,
    quick_faults=1,
)
