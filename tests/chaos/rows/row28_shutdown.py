"""Row 28: workers are told to end under load; once, and twice."""

from __future__ import annotations

import random
import signal

from tests.chaos.arena import Arena
from tests.chaos.load.crew import Member
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_DRAINED = 0
_ABORTED = 1
WORKERS = 3


def run(arena: Arena) -> Verdict:
    """Tell a worker at a time to end, in turn once and twice; it is replaced under its name."""
    chance = random.Random(arena.seed)
    server = arena.server()
    load = arena.load(server.url, workers=WORKERS)
    load.send(at_least=arena.size)
    drained = aborted = 0
    objections: list[str] = []
    for turn in range(arena.faults):
        load.until(lambda: len(load.crew.at_work()) == WORKERS, "three workers at work")
        load.await_done(load.finished() + chance.randint(1, 5))
        member = chance.choice(load.crew.members)
        code = _ended(load, member, twice=turn % 2 == 1)
        if turn % 2 == 0:
            objections.append("" if code == _DRAINED else f"a worker told once ended with {code}")
            drained += code == _DRAINED
        else:
            # The first signal may have been enough: there was nothing in hand.
            objections.append("" if code in (_DRAINED, _ABORTED) else f"a worker told twice ended with {code}")
            aborted += code == _ABORTED
    verdict = load.finish()
    note = f"{drained} drained and ended with 0, {aborted} aborted and ended with 1"
    return verdict.objecting(*objections).with_faults(drained + aborted, note)


def _ended(load: Load, member: Member, *, twice: bool) -> int:
    """Send SIGTERM, again and again where *twice*, until *member* has ended; return its exit code."""
    lives = len(member.codes)
    load.crew.signal(member, signal.SIGTERM)

    def over() -> bool:
        if len(member.codes) > lives:
            return True
        if twice:
            load.crew.signal(member, signal.SIGTERM)
        return False

    load.until(over, f"the end of {member.name}", 90.0)
    return member.codes[lives]


ROW = Row(
    28,
    fault="shutdown: SIGTERM under load, once and twice",
    holds="drains and exits 0; the second aborts, nothing is lost",
    run=run,
    errands=600,
    faults=20,
    quick_errands=30,
    quick_faults=2,
)
