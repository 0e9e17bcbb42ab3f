"""Row 12: replicas do not confirm: nothing may be released that they do not have."""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.lab.proxy import Way
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_SETTLES_S: Final = 1.0
_HELD_S: Final = 2.0
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Hold the replica's link, see that everything stands, and let it go on."""
    server, replica = arena.server(), arena.server()
    proxy = arena.proxy(server)
    replica.follow("127.0.0.1", proxy.port)
    load = arena.load(server.url, bus={"durability": "replicated"})
    load.send(at_least=arena.size)
    stood = 0
    objections: list[str] = []
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        proxy.hold(Way.REPLIES)
        time.sleep(_SETTLES_S)  # what was confirmed before is on its way to those who act on it
        before = len(load.lines), len(load.accepted)
        time.sleep(_HELD_S)
        after = len(load.lines), len(load.accepted)
        proxy.release()
        stood += proxy.held > 0
        if after[0] - before[0]:
            objections.append(f"{after[0] - before[0]} effects while no replica confirmed anything")
        if after[1] - before[1]:
            objections.append(f"{after[1] - before[1]} sends were accepted while no replica confirmed anything")
    verdict = load.finish()
    note = f"{proxy.held} bytes were held from the replica, {_HELD_S + _SETTLES_S:g} s each time"
    return verdict.with_faults(stood, note).objecting(*objections)


ROW = Row(
    12,
    fault="WAIT times out",
    holds="nothing released",
    run=run,
    errands=300,
    faults=4,
    quick_errands=20,
    quick_faults=1,
)
