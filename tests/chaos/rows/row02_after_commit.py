"""Row 2: a worker is killed after its commit, before the ack."""

from __future__ import annotations

from tests.chaos.arena import Arena
from tests.chaos.crash import consumed, crash
from tests.chaos.ledger import Line
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict


def everything_stored(load: Load, fault: Line) -> str:
    """The store has every id that was committed as consumed."""
    missing = set(fault["ids"]) - consumed(load, fault).keys()
    return f"killed after a commit that did not store {sorted(missing)}" if missing else ""


def run(arena: Arena) -> Verdict:
    """Have workers die with a batch committed, its effects undispatched, its messages unacked."""
    server = arena.server()
    load = arena.load(server.url, failpoint="after-commit", strikes=arena.faults, claim_s=60.0)
    return crash(arena, load, everything_stored)


ROW = Row(
    2,
    fault="worker killed after the commit, before the ack",
    holds="effect once",
    run=run,
    errands=600,
    faults=20,
    quick_errands=20,
    quick_faults=2,
)
