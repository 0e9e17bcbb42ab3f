"""Row 10: the end of the append-only file is torn off."""

from __future__ import annotations

import os
import random
from typing import Final

from sagabus.envelope import SagaKey
from tests.chaos.arena import Arena
from tests.chaos.load.errand import Mix
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict
from tests.chaos.whole import completed, halves

_MOST_BYTES: Final = 40_000
_BETWEEN: Final = 10


def run(arena: Arena) -> Verdict:
    """Kill workers and server, tear off some of its file, look at every saga, and go on; the clients send all again."""
    chance = random.Random(arena.seed)
    server = arena.server()
    # Fewer parts: what is looked at is the whole history of a saga, and a record keeps so much of it.
    load = arena.load(server.url, mix=Mix(gather_every=20, watch_every=6, parts=30))
    load.send(at_least=arena.size)
    torn = 0
    objections: list[str] = []
    forgotten: set[SagaKey] = set()
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        load.down_tools()
        done = {errand.saga for errand in list(load.accepted) if errand.last in load.done}
        server.kill()
        file = server.append_only_file()
        size = file.stat().st_size
        # Somewhere in a record, most of the time; one byte is enough to spoil the last.
        lost = min(chance.randint(1, _MOST_BYTES), size - 1)
        os.truncate(file, size - lost)
        server.restart()
        torn += lost
        objections += halves(load.bus)
        forgotten |= done - completed(load.bus)
        load.take_up()
        load.send_again()
    verdict = load.finish(forgotten=forgotten)
    note = f"{torn} bytes were torn off; {len(forgotten)} completed sagas were forgotten, and completed again"
    return verdict.with_faults(arena.faults, note).objecting(*objections)


ROW = Row(
    10,
    fault="append-only file torn",
    holds="each commit whole or absent; state, ids and outbox agree",
    run=run,
    errands=600,
    faults=10,
    quick_errands=30,
    quick_faults=1,
)
