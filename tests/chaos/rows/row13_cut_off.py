"""Row 13: a worker's packets to the store are lost, all of them, and nobody tells it."""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.lab.netns import SERVER_ADDRESS, await_cable, await_delivery, network
from tests.chaos.lab.server import Server
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_CLAIM_S: Final = 2.0
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Pull the cable between workers and store for longer than claims last; clients beside the store go on sending."""
    net = arena.use(network())
    config: dict[str, str | int] = {"bind": SERVER_ADDRESS, "protected-mode": "no"}
    server = arena.use(Server(arena.folder / "server", config, prefix=net.servers.prefix))
    beside = f"unix://{server.socket}"
    load = arena.load(
        f"redis://{SERVER_ADDRESS}:{server.port}",
        claim_s=_CLAIM_S,
        seen_at=(beside, beside),
        prefix=net.workers.prefix,
    )
    load.send(at_least=arena.size)
    stood = 0
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        net.pull()
        time.sleep(_CLAIM_S / 4)  # what had been received is handled
        before = len(load.lines)
        time.sleep(_CLAIM_S)
        stood += load.under_way() != set() and len(load.lines) - before < _BETWEEN
        net.plug()
        await_cable(net)
    await_delivery(net)
    verdict = load.finish()
    return verdict.with_faults(min(stood, net.pulls), f"{net.pulls} times, {1.25 * _CLAIM_S:g} s each")


ROW = Row(
    13,
    fault="workers cut off from the store, packets dropped",
    holds="recovers",
    run=run,
    errands=300,
    faults=5,
    quick_errands=20,
    quick_faults=1,
)
