"""Row 14: connections are half-open: the server has gone from the other end, and nobody says so."""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_CLAIM_S: Final = 3.0
_BETWEEN: Final = 5


def run(arena: Arena) -> Verdict:
    """Freeze every connection there is; who waits for one must give up before others may claim what it holds."""
    server = arena.server()
    proxy = arena.proxy(server)
    load = arena.load(proxy.url, claim_s=_CLAIM_S, seen_at=(server.url, server.url))
    load.send(at_least=arena.size)
    frozen, longest_s = 0, 0.0
    for _ in range(arena.faults):
        load.await_done(load.finished() + _BETWEEN)
        frozen += proxy.freeze()
        frozen_at, under_way = time.monotonic(), load.under_way()
        load.until(lambda under_way=under_way: not under_way - load.done, "all that was under way")  # type: ignore[misc]
        longest_s = max(longest_s, time.monotonic() - frozen_at)
    verdict = load.finish()
    note = f"{frozen} connections, {proxy.held} bytes; what was under way had ended {longest_s:.1f} s later, at most"
    slow = f"what was under way took {longest_s:.1f} s, and claims run out after {_CLAIM_S:g} s"
    return verdict.with_faults(min(frozen, arena.faults), note).objecting(slow if longest_s > 5 * _CLAIM_S else "")


ROW = Row(
    14,
    fault="half-open connections",
    holds="a time-out shorter than the claim; no hang",
    run=run,
    errands=400,
    faults=6,
    quick_errands=20,
    quick_faults=1,
)
