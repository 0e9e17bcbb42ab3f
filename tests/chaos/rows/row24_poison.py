"""Row 24: handlers that raise each time, of consumers and of sagas, and some that kill their worker."""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from attrs import define

from sagabus import Bus, RetryPolicy, Saga, message, starts
from sagabus.dead_letters.letter import DeadLetter
from tests.chaos.arena import Arena
from tests.chaos.ledger import FAULT
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_TRIES: Final = 3
KINDS: Final = ("raises", "saga", "kills")


@message("chaos.poison")
class Poison:
    """Cannot be handled."""

    kind: str
    number: int


@message("chaos.poison-saga")
class PoisonSaga:
    """Cannot be handled by a saga."""

    number: int


@define
class Nothing:
    """No state."""


class Fragile(Saga[Nothing], key="number"):
    """Raises whatever comes."""

    @starts
    def begun(self, m: PoisonSaga) -> None:
        raise ValueError(f"poison {m.number}")


def served(bus: Bus) -> None:
    """Have a worker serve poison; a hook."""
    from tests.chaos.load.app import ledger

    endpoint = bus.endpoint("poison", Fragile, retry=RetryPolicy(_TRIES, first_delay_s=0.05, max_delay_s=0.5))

    @endpoint.consumer
    def swallow(m: Poison) -> None:
        if m.kind == "kills":
            ledger.note(FAULT, point="poison", ids=[], sagas=[])
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(f"poison {m.number}")


def run(arena: Arena) -> Verdict:
    """Send poison among the other messages; it must end as dead letters, and the others go on."""
    server = arena.server()
    load = arena.load(server.url, workers=3, hook=f"{__name__}:served", claim_s=1.0)
    load.send(at_least=arena.size)
    sent: dict[str, tuple[str, int]] = {}
    for number in range(arena.faults):
        kind = KINDS[number % len(KINDS)]
        poison: Any = PoisonSaga(number) if kind == "saga" else Poison(kind, number)
        sent[load.bus.send(poison, to="poison", id=f"poison-{number}")] = kind, number
        load.await_done(load.finished() + 1)
    load.until(lambda: len(list(load.bus.dead_letters.find())) >= len(sent), "dead letters of all poison")
    # A pump that was killed between a send and its note sends once more: what comes twice is given up twice.
    load.until(lambda: _quiet(load.bus), "an end of poison")
    letters = list(load.bus.dead_letters.find())
    objections = [text for letter in letters if (text := _objection(letter, sent))]
    load.bus.dead_letters.drop(letters)
    verdict = load.finish()
    kills = load.crew.codes()[-signal.SIGKILL]
    note = f"{len(letters)} dead letters with their errors, {kills} workers killed by poison"
    return verdict.with_faults(len(letters), note).objecting(*objections)


def _quiet(bus: Bus) -> bool:
    """Return whether no poison is on its way any more."""
    waits = any(queue.depth for queue in bus.transport.queues() if queue.endpoint == "poison")
    return not waits and all(timer.endpoint != "poison" for timer in bus.store.scheduled())


def _objection(letter: DeadLetter, sent: dict[str, tuple[str, int]]) -> str:
    """Return what is wrong with a dead letter; "" for nothing."""
    kind, number = sent.get(letter.id, ("", -1))
    if letter.attempts != _TRIES:
        return f"{letter.id} ({kind}) was given up after {letter.attempts} tries instead of {_TRIES}"
    if kind == "kills":
        return "" if letter.reason == "killed-worker" else f"{letter.id} killed its workers, and is {letter.reason}"
    told = letter.reason == "failed" and f"ValueError: poison {number}" in letter.error and letter.traceback
    return "" if told else f"{letter.id} is {letter.reason}: {letter.error}, {len(letter.traceback)} of traceback"


ROW = Row(
    24,
    fault="poison: handlers that raise, and that kill their worker",
    holds="dead-lettered with its error after max_attempts; the others go on",
    run=run,
    errands=300,
    faults=30,
    quick_errands=15,
    quick_faults=3,
)
