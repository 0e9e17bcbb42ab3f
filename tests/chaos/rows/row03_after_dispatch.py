"""Row 3: a worker is killed after the dispatch, before it is marked; where store and queues are two servers."""

from __future__ import annotations

from tests.chaos.arena import Arena
from tests.chaos.crash import crash
from tests.chaos.ledger import Line
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict


def run(arena: Arena) -> Verdict:
    """Have workers die with effects sent that nobody has noted as sent: they are sent again, under the same ids."""
    store, queues = arena.server(), arena.server()
    load = arena.load(store.url, queues.url, failpoint="after-send", strikes=arena.faults, claim_s=60.0)
    verdict = crash(arena, load, _was_sending)
    return verdict.objecting("" if verdict.repeats else "nothing was sent twice, so no receiver had to deduplicate")


def _was_sending(load: Load, fault: Line) -> str:
    return "" if fault["ids"] else "killed after a dispatch of nothing"


ROW = Row(
    3,
    fault="worker killed after the dispatch, before it is marked",
    holds="the same ids again; receivers deduplicate",
    run=run,
    errands=600,
    faults=20,
    quick_errands=20,
    quick_faults=3,
)
