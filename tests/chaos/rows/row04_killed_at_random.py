"""Row 4: workers killed at random, under load."""

from __future__ import annotations

import random

from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

WORKERS = 3


def run(arena: Arena) -> Verdict:
    """Kill a worker at a time, whichever is at work, as soon as another one is."""
    chance = random.Random(arena.seed)
    server = arena.server()
    load = arena.load(server.url, workers=WORKERS)
    load.send(at_least=arena.size)
    while load.crew.kills < arena.faults:
        load.until(lambda: len(load.crew.at_work()) > 1, "two workers at work")
        # Somewhere in its work, not always at its beginning.
        load.await_done(load.finished() + chance.randint(1, 5))
        at_work = load.crew.at_work()
        if at_work:
            load.crew.kill(chance.choice(at_work))
    verdict = load.finish()
    return verdict.with_faults(load.crew.kills)


ROW = Row(
    4,
    fault="workers killed at random",
    holds="baseline",
    run=run,
    errands=2000,
    faults=200,
    quick_errands=60,
    quick_faults=4,
)
