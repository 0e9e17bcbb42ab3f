"""Row 27: a script of the store meets something half-way that it cannot write to."""

from __future__ import annotations

import time
from typing import Any, Final

from sagabus.commit import Lifecycle, Want
from sagabus.store.layout import Keys
from tests.chaos.arena import Arena
from tests.chaos.lab.server import Server
from tests.chaos.load.driver import Load
from tests.chaos.load.errand import Mix
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

PARTS: Final = ("r", "i", "o", "h")
"""The keys of a saga that commit.lua writes: record, ids, outbox, history."""
_LOOKS: Final = 3
_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 5.0
_SWAP: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('SET', KEYS[1], 'foreign')
"""
_RESTORE: Final = """
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
"""


def run(arena: Arena) -> Verdict:
    """Put a foreign value in the place of each key of a live saga in turn; its other keys stay as they are."""
    server = arena.server()
    # Sagas that live for a while, and messages that are tried more often than a script fails.
    mix = Mix(gather_every=2, watch_every=0, parts=100)
    load = arena.load(server.url, mix=mix, window=6, batch=2, max_attempts=1000, first_delay_s=0.02)
    load.send(at_least=arena.size)
    failures = 0
    tried = 0
    objections: list[str] = []
    while failures < arena.faults:
        failed, changed = _spoil(server, load, PARTS[tried % len(PARTS)])
        tried += failed
        failures += failed
        objections += changed
    verdict = load.finish()
    note = f"{_wrong_types(server)} scripts failed on {failures} foreign values"
    return verdict.with_faults(failures, note).objecting(*objections)


def _spoil(server: Server, load: Load, part: str) -> tuple[bool, list[str]]:
    """Spoil one key of a live saga until scripts have failed on it; return whether they did, and what changed."""
    prefix = _live(load)
    spoiled, kept = f"{prefix}{part}", f"{prefix}kept"
    others = [f"{prefix}{other}" for other in PARTS if other != part]
    changed: list[str] = []
    with server.client(decode_responses=False) as client:
        if client.exists(f"{prefix}o"):
            # An earlier commit's messages are on their way, and their outbox is about to be cleared: rightly.
            return False, []
        before = _wrong_types(server)
        client.eval(_SWAP, 2, spoiled, kept)
        try:
            shown = [client.dump(name) for name in others]
            deadline = time.monotonic() + _PATIENCE_S
            while _wrong_types(server) == before and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
            for _ in range(_LOOKS):
                time.sleep(_LOOK_S)
                now = [client.dump(name) for name in others]
                changed += [
                    f"{name} was written while {spoiled} could not be"
                    for name, was, is_ in zip(others, shown, now, strict=True)
                    if was != is_
                ]
        finally:
            client.eval(_RESTORE, 2, spoiled, kept)
    return _wrong_types(server) > before, changed


def _live(load: Load) -> str:
    """Return what all keys of some live saga begin with, which gathers and has more messages to come."""
    keys = Keys(load.settings.namespace)
    found: list[str] = []

    def look() -> bool:
        for errand in reversed(list(load.accepted)):
            if errand.last[0] == "gathered" and errand.last not in load.done:
                (snapshot,) = load.bus.store.load([Want(errand.saga)])
                if snapshot.lifecycle is Lifecycle.LIVE:
                    found.append(keys.saga(errand.saga))
                    return True
        return False

    load.until(look, "a live saga")
    return found[0]


def _wrong_types(server: Server) -> int:
    errors: dict[str, Any] = server.info("errorstats")
    return int(errors.get("errorstat_WRONGTYPE", {}).get("count", 0))


ROW = Row(
    27,
    fault="a store's script fails half-way",
    holds="nothing half-written",
    run=run,
    errands=60,
    faults=40,
    quick_errands=8,
    quick_faults=4,
)
