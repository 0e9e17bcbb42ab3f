"""Row 19: slots move from node to node of a cluster, under load."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from redis.crc import key_slot

from tests.chaos.arena import Arena
from tests.chaos.lab.cluster import PRIMARIES, Cluster
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_BETWEEN: Final = 2


def run(arena: Arena) -> Verdict:
    """Move slots that are in use: those of queues, of live sagas, of timers; each to another node."""
    chance = random.Random(arena.seed)
    cluster = arena.use(Cluster(arena.folder / "cluster"))
    load = arena.load(cluster.url)
    load.send(at_least=arena.size)
    keys = 0
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        slots = sorted({key_slot(name.encode()) for name in _in_use(load)})
        queues = sorted({key_slot(name.encode()) for name in _in_use(load, "q:*")})
        # Every second one carries a queue: those are the busy ones.
        slot = chance.choice(queues if chance.random() < 0.5 else slots)
        target = (cluster.owner(slot) + chance.randint(1, PRIMARIES - 1)) % PRIMARIES
        keys += cluster.move_slot(slot, target)
    verdict = load.finish()
    return verdict.with_faults(cluster.moved if keys else 0, f"{keys} keys moved with {cluster.moved} slots")


def _in_use(load: Load, pattern: str = "*") -> Iterator[str]:
    store: Any = load.bus.store
    for page in store.link.scan(f"{load.settings.namespace}:{pattern}"):
        yield from page


ROW = Row(
    19,
    fault="slots move between nodes of a cluster",
    holds="baseline",
    run=run,
    errands=300,
    faults=60,
    quick_errands=15,
    quick_faults=4,
)
