"""Row 9: the store is killed, and started again on its append-only file."""

from __future__ import annotations

from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_BETWEEN = 5


def run(arena: Arena) -> Verdict:
    """Kill the server under load, again and again; what it had acknowledged is in its file."""
    # With everysec, a server whose disk is busy with a sync keeps what it acknowledges in its own memory for up to two
    # seconds: whoever kills it then takes that with it.
    server = arena.server(appendfsync="always")
    # What was handed out and never arrived comes again after the claim time.
    load = arena.load(server.url, claim_s=1.5)
    load.send(at_least=arena.size)
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        server.kill()
        server.restart()
    verdict = load.finish()
    return verdict.with_faults(server.starts - 1)


ROW = Row(
    9,
    fault="store killed, started again on its AOF (`appendfsync always`)",
    holds="baseline: what was acknowledged survives",
    run=run,
    errands=1000,
    faults=10,
    quick_errands=30,
    quick_faults=1,
)
