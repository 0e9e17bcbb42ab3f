"""Workers that kill themselves at a failpoint, and what the store has of the ids in hand at that moment."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from sagabus.commit import Want
from sagabus.envelope import SagaKey
from tests.chaos.arena import Arena
from tests.chaos.ledger import Line
from tests.chaos.load.driver import Load
from tests.chaos.verdict import Verdict

Check = Callable[[Load, Line], str]
"""Looks at a fault while its worker is dead and not replaced; returns what is wrong, "" for nothing."""


@define
class Crash:
    """Crashes at one point, each looked at before anybody can mend it."""

    load: Load
    check: Check
    looked: int = field(default=0, init=False)
    objections: list[str] = field(factory=list, init=False)

    def look(self, fault: Line) -> None:
        """Look at *fault*; called by the crew."""
        objection = self.check(self.load, fault)
        if objection:
            self.objections.append(objection)
        self.looked += 1


def crash(arena: Arena, load: Load, check: Check) -> Verdict:
    """Send until workers have crashed as often as the arena asks for; return the verdict.

    *load* has a failpoint with as many strikes, and a claim time that is longer than a restart: until a worker is back
    under its name, nobody else touches what it held.
    """
    crash = Crash(load, check)
    load.crew.on_death = crash.look
    load.send(at_least=arena.size)
    load.until(lambda: crash.looked >= arena.faults, f"crash number {arena.faults}")
    verdict = load.finish()
    return verdict.with_faults(crash.looked).objecting(*crash.objections)


def consumed(load: Load, fault: Line) -> dict[str, bytes]:
    """Return which of the ids in hand the store has as consumed, each with its outbox."""
    found: dict[str, bytes] = {}
    wants = [Want(SagaKey.parse(saga), tuple(fault["ids"])) for saga in fault["sagas"]]
    for snapshot in load.bus.store.load(wants):
        found |= snapshot.consumed
    return found
