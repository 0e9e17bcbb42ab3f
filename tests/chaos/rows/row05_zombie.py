"""Row 5: a worker is stopped with a batch computed, for longer than its claim lasts, and then goes on."""

from __future__ import annotations

import signal
import time
from typing import Final

from sagabus.commit import Lifecycle, Want
from sagabus.envelope import SagaKey
from tests.chaos.arena import Arena
from tests.chaos.crash import consumed
from tests.chaos.ledger import Line
from tests.chaos.load.driver import Load
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_CLAIM_S: Final = 1.5
_BEYOND_S: Final = 1.5 * _CLAIM_S


def run(arena: Arena) -> Verdict:
    """Have workers stop themselves right before a commit; wake them when others have done their work."""
    server = arena.server()
    load = arena.load(
        server.url,
        workers=3,
        failpoint="before-commit",
        strikes=arena.faults,
        strike=int(signal.SIGSTOP),
        # Were all of them zombies, nobody would overtake any.
        paced=True,
        claim_s=_CLAIM_S,
    )
    load.send(at_least=arena.size)
    overtaken = 0
    for nth in range(arena.faults):
        load.await_faults(nth + 1)
        fault = load.faults[nth]
        stopped_at = time.monotonic()
        load.until(lambda fault=fault: _overtaken(load, fault), "the work of a zombie, done by others")  # type: ignore[misc]
        # Sooner than its claim ends nobody overtakes it but by what its saga can do without.
        time.sleep(max(stopped_at + _BEYOND_S - time.monotonic(), 0))
        overtaken += 1
        for member in load.crew.members:
            if member.pid == fault["pid"]:
                load.crew.signal(member, signal.SIGCONT)
        load.strike_over(nth)
    verdict = load.finish()
    note = f"claims of {_CLAIM_S:g} s; {overtaken} commits came after others had done the work"
    return verdict.with_faults(overtaken, note)


def _overtaken(load: Load, fault: Line) -> bool:
    """Say whether every message that the zombie was about to commit has been handled by somebody else.

    What was about a saga that has completed meanwhile, a merge perhaps, may be of no use to it any more: acked, and not
    consumed.
    """
    wants = [Want(SagaKey.parse(saga)) for saga in fault["sagas"]]
    ended = all(snapshot.lifecycle is Lifecycle.COMPLETED for snapshot in load.bus.store.load(wants))
    return ended or set(fault["ids"]) <= consumed(load, fault).keys()


ROW = Row(
    5,
    fault="zombie worker: stopped beyond its claim, then let go on",
    holds="its late commit does no harm",
    run=run,
    errands=400,
    faults=10,
    quick_errands=20,
    quick_faults=1,
)
