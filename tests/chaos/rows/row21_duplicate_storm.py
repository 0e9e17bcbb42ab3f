"""Row 21: every message is sent five times, in any order."""

from __future__ import annotations

import random
from typing import Any, Final

from attrs import define, evolve

from sagabus import Bus
from sagabus.transport import Exchanged
from tests.chaos.arena import Arena
from tests.chaos.row import Row
from tests.chaos.verdict import Verdict

COPIES: Final = 5


def storm(bus: Bus) -> None:
    """Have a worker send everything five times, shuffled; a hook."""
    chance = random.Random(bus.namespace)
    kind: Any = type(bus)
    kind.points = _Stormy(kind.points, chance)


@define
class _Stormy:
    """What wraps stores and transports, and their senders once more."""

    _inner: Any
    _chance: random.Random

    def store(self, store: Any) -> Any:
        return self._inner.store(store)

    def transport(self, transport: Any) -> Any:
        return _Storm(self._inner.transport(transport), self._chance)


@define
class _Storm:
    _inner: Any
    _chance: random.Random

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def receiver(self, *args: Any, **options: Any) -> Any:
        return _Storm(self._inner.receiver(*args, **options), self._chance)

    def send(self, parcels: Any, **options: Any) -> Any:
        order = self._shuffled(parcels)
        refused = self._inner.send([parcels[i] for i in order], **options)
        return {order[position]: refusal for position, refusal in refused.items()}

    def exchange(self, parcels: Any, *args: Any, **options: Any) -> Exchanged:
        order = self._shuffled(parcels)
        done: Exchanged = self._inner.exchange([parcels[i] for i in order], *args, **options)
        return evolve(done, refused={order[position]: refusal for position, refusal in done.refused.items()})

    def _shuffled(self, parcels: Any) -> list[int]:
        order = list(range(len(parcels))) * COPIES
        self._chance.shuffle(order)
        return order


def run(arena: Arena) -> Verdict:
    """Send everything five times: workers what they send, the clients what they sent."""
    server = arena.server()
    load = arena.load(server.url, hook=f"{__name__}:storm")
    load.send(at_least=arena.size)
    for _ in range(COPIES - 1):
        load.await_done(len(load.accepted) // 2)
        load.send_again()
    load.await_done(arena.size)
    verdict = load.finish()
    note = f"{verdict.repeats} effects were offered again under the ids that they had"
    return verdict.with_faults(verdict.repeats, note)


ROW = Row(
    21,
    fault=f"duplicate storm: every message {COPIES} times, shuffled",
    holds="the outcome set of one delivery",
    run=run,
    errands=600,
    faults=1,
    quick_errands=20,
)
