"""Row 8: the server holds all writes for a while, as it does before a planned failover."""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_PAUSE_MS: Final = 1500
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Pause writes, again and again, and see that clients are held."""
    server = arena.server()
    load = arena.load(server.url, claim_s=3.0)
    load.send(at_least=arena.size)
    held = 0
    with server.client() as client:
        for _ in range(arena.faults):
            load.await_done(load.finished() + _BETWEEN)
            client.execute_command("CLIENT", "PAUSE", _PAUSE_MS, "WRITE")
            time.sleep(_PAUSE_MS / 2000)
            held += int(client.info("clients")["blocked_clients"]) > 0
            time.sleep(_PAUSE_MS / 1000)
    verdict = load.finish()
    return verdict.with_faults(held)


ROW = Row(
    8,
    fault="writes paused",
    holds="backs off, loses nothing",
    run=run,
    errands=400,
    faults=6,
    quick_errands=20,
    quick_faults=1,
)
