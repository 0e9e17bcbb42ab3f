"""Row 23: messages come after the end of their saga, and before its beginning; some for a saga that never begins."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from sagabus.envelope import SagaKey
from tests.chaos.arena import Arena
from tests.chaos.load.driver import Load
from tests.chaos.load.errand import Errand, Sending
from tests.chaos.load.messages import CallOff, SetBell
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

_FAR_S: Final = 30_000.0
_TRIES: Final = 8


def run(arena: Arena) -> Verdict:
    """Replay what sagas began with after they have completed; call off watches before they begin, and some for good."""
    server = arena.server()
    load = arena.load(server.url, early_attempts=_TRIES)
    load.send(at_least=arena.size)
    load.await_done(arena.size // 2)
    late = _replay(load, arena.faults)
    early = [_early(load, f"early-{arena.seed}-{n}") for n in range(arena.faults)]
    for errand in early:
        load.until(lambda errand=errand: _waits(load, errand), "a message that waits for its saga")  # type: ignore[misc]
    for errand in early:
        load.bus.send(errand.sendings[1].message, to="watch", id=errand.sendings[1].id)
        load.accepted.append(errand)
    nobodys = [f"nobody-{arena.seed}-{n}" for n in range(arena.faults)]
    for name in nobodys:
        load.bus.send(CallOff(name), to="watch", id=f"off-{name}")
    load.until(lambda: len(list(load.bus.dead_letters.find())) >= len(nobodys), "dead letters of what nobody began")
    letters = list(load.bus.dead_letters.find())
    wrong = [f"{letter.id}: {letter.reason} after {letter.attempts} tries" for letter in letters if not _right(letter)]
    missing = {f"off-{name}" for name in nobodys} ^ {letter.id for letter in letters}
    load.bus.dead_letters.drop(letters)
    verdict = load.finish()
    note = f"{late} late, {len(early)} early, {len(nobodys)} dead-lettered as no-saga"
    objections = [*wrong, *(f"{id_} is a dead letter too many, or too few" for id_ in sorted(missing))]
    return verdict.with_faults(min(late, len(early), len(nobodys)), note).objecting(*objections)


def _right(letter: object) -> bool:
    return getattr(letter, "reason", "") == "no-saga" and getattr(letter, "attempts", 0) == _TRIES


def _replay(load: Load, count: int) -> int:
    """Send what began *count* completed sagas once more, as new messages; return how many that were."""
    replayed = 0
    for index, errand in enumerate(list(load.accepted)):
        if replayed < count and errand.last in load.done:
            again = tuple(evolve(sending, id=f"late-{sending.id}") for sending in errand.sendings)
            for sending in again:
                load.bus.send(sending.message, to=sending.to, id=sending.id)
            # Consumed they are, like all that was sent to it, and without effect.
            load.accepted[index] = evolve(errand, sendings=(*errand.sendings[:1], *errand.sendings[1:], *again))
            replayed += 1
    return replayed


def _early(load: Load, name: str) -> Errand:
    """Call off a watch that has not begun; return the errand that it will be."""
    off = Sending(f"off-{name}", CallOff(name), "watch")
    bell = Sending(f"bell-{name}", SetBell(name, _FAR_S), "watch")
    last = ("ended", name)
    load.bus.send(off.message, to=off.to, id=off.id)
    return Errand(SagaKey("Watch", name), (off, bell), frozenset({last}), last)


def _waits(load: Load, errand: Errand) -> bool:
    """Say whether a worker has seen that the saga is not there, and put the message off."""
    name = errand.sendings[0].id.encode()
    return any(name in item.body for item in load.bus.store.scheduled())


ROW = Row(
    23,
    fault="late and early messages",
    holds="no resurrection; nothing dropped in silence",
    run=run,
    errands=400,
    faults=60,
    quick_errands=20,
    quick_faults=4,
)
