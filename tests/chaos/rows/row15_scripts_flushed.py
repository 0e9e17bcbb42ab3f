"""Row 15: the server forgets its scripts, all the time."""

from __future__ import annotations

import threading
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.lab.server import Server
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_PAUSE_S: Final = 0.002


def run(arena: Arena) -> Verdict:
    """Flush the script cache in a loop, as long as the load runs."""
    server = arena.server()
    load = arena.load(server.url)
    over = threading.Event()
    flushes: list[int] = []
    flusher = threading.Thread(target=lambda: flushes.append(_flush(server, over)), daemon=True)
    load.send(at_least=arena.size)
    flusher.start()
    try:
        load.await_done(arena.size // 2)
        verdict = load.finish()
    finally:
        over.set()
        flusher.join()
    unknown = server.info("errorstats").get("errorstat_NOSCRIPT", {}).get("count", 0)
    return verdict.with_faults(min(flushes[0], unknown), f"{flushes[0]} flushes, {unknown} calls of unknown scripts")


def _flush(server: Server, over: threading.Event) -> int:
    count = 0
    with server.client() as client:
        while not over.wait(_PAUSE_S):
            client.script_flush()
            count += 1
    return count


ROW = Row(
    15,
    fault="script cache flushed in a loop",
    holds="not noticed",
    run=run,
    errands=1000,
    faults=1,
    quick_errands=30,
)
