"""Row 20: a worker's clock jumps by an hour, forwards and backwards, as long as it works."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Final

from sagabus import Bus
from tests.chaos.arena import Arena
from tests.chaos.ledger import FAULT, Ledger
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

HOUR_S: Final = 3600.0
_EVERY_S: Final = 0.2
_WINDOW_S: Final = 900.0
"""How long ids are remembered: less than the clock jumps."""
_real_ns: Final = time.time_ns


class _Clock:
    """The wall clock of a worker; its monotonic clock goes on, as it does where an administrator sets the time."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.offset_s = 0.0

    def time_ns(self) -> int:
        return _real_ns() + int(self.offset_s * 1e9)

    def time(self) -> float:
        return self.time_ns() / 1e9

    def jump(self) -> None:
        self.offset_s = self._chance.choice((-HOUR_S, 0.0, HOUR_S))


def jumping(bus: Bus) -> None:
    """Have the wall clock of a worker jump; a hook."""
    from tests.chaos.load.app import ledger, settings

    clock = _Clock(settings.seed)
    time.time, time.time_ns = clock.time, clock.time_ns  # type: ignore[assignment]
    threading.Thread(target=_jump, args=(clock, ledger), name="jumps", daemon=True).start()


def _jump(clock: _Clock, ledger: Ledger) -> None:
    while True:
        before = clock.offset_s
        clock.jump()
        if clock.offset_s != before:
            ledger.note(FAULT, point="clock", ids=[], sagas=[], offset_s=clock.offset_s, shown=time.time())
        time.sleep(_EVERY_S)


def run(arena: Arena) -> Verdict:
    """Let clocks jump under load, and send everything once more, to see that no id was forgotten early."""
    server = arena.server()
    load = arena.load(server.url, hook=f"{__name__}:jumping", dedupe_window_s=_WINDOW_S)
    load.send(at_least=arena.size)
    load.await_faults(arena.faults)
    load.await_done(arena.size // 2)
    load.send_again()
    load.await_done(arena.size)
    early = sum(line.get("key") in _far(load.accepted) for line in load.lines if line.get("kind") == "rung")
    verdict = load.finish()
    return verdict.with_faults(len(load.faults)).objecting(f"{early} far timers have fired" if early else "")


def _far(errands: Any) -> set[str]:
    """Return the watches whose bells were not to ring within this run."""
    return {errand.saga.id for errand in errands if errand.last[0] == "ended" and len(errand.sendings) > 1}


ROW = Row(
    20,
    fault="a worker's clock jumps by an hour, either way",
    holds="nothing expires early; order unaffected",
    run=run,
    errands=600,
    faults=40,
    quick_errands=20,
    quick_faults=4,
)
