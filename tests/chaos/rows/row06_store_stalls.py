"""Row 6: the store stalls for longer than clients wait, so that they send again what it has in its buffers already."""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

STALL_S: Final = 2.0
_CLAIM_S: Final = 3.0
"""Time-outs are a part of it, and shorter than the stall."""
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Stop the server for a while, again and again."""
    server = arena.server()
    load = arena.load(server.url, claim_s=_CLAIM_S)
    load.send(at_least=arena.size)
    connections = 0
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        before = server.info("stats")["total_connections_received"]
        server.pause()
        time.sleep(STALL_S)
        server.resume()
        connections += server.info("stats")["total_connections_received"] - before
    verdict = load.finish()
    return verdict.with_faults(arena.faults, f"clients connected {connections} times anew while it stood")


ROW = Row(
    6,
    fault="store stalls for 2 s",
    holds="one effect in spite of client retries",
    run=run,
    errands=400,
    faults=6,
    quick_errands=20,
    quick_faults=1,
)
