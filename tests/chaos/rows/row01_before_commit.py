"""Row 1: a worker is killed before its commit."""

from __future__ import annotations

from tests.chaos.arena import Arena
from tests.chaos.crash import consumed, crash
from tests.chaos.ledger import Line
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict


def nothing_stored(load: Load, fault: Line) -> str:
    """The store knows none of the ids that were about to be committed, and none of them has left a queue."""
    there = consumed(load, fault)
    return f"killed before a commit of {sorted(there)}, which were stored" if there else ""


def run(arena: Arena) -> Verdict:
    """Have workers die with a batch computed and not committed."""
    server = arena.server()
    load = arena.load(server.url, failpoint="before-commit", strikes=arena.faults, claim_s=60.0)
    return crash(arena, load, nothing_stored)


ROW = Row(
    1,
    fault="worker killed before its commit",
    holds="no effect; redelivered",
    run=run,
    errands=600,
    faults=20,
    quick_errands=20,
    quick_faults=2,
)
