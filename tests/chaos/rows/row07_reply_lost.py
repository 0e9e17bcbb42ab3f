"""Row 7: a write is done and its reply lost: of a commit, or of a dispatch."""

from __future__ import annotations

from typing import Final

from sagabus.link import Script
from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_WRITES: Final = (Script.beside("sagabus.store", "commit.lua"), Script.beside("transports", "settle.lua"))


def run(arena: Arena) -> Verdict:
    """Lose the reply to a commit, then that to a dispatch, in turn: the client must ask again."""
    server = arena.server()
    proxy = arena.proxy(server)
    load = arena.load(proxy.url, seen_at=(server.url, server.url))
    load.send(at_least=arena.size)
    for nth in range(arena.faults):
        load.await_done(load.finished() + 1)
        proxy.lose_next_reply(_WRITES[nth % len(_WRITES)].sha.encode())
        load.until(lambda nth=nth: proxy.lost > nth, f"lost reply number {nth + 1}")  # type: ignore[misc]
    verdict = load.finish()
    return verdict.with_faults(proxy.lost)


ROW = Row(
    7,
    fault="reply lost on the way",
    holds="the stored result comes back; one effect",
    run=run,
    errands=600,
    faults=60,
    quick_errands=20,
    quick_faults=4,
)
