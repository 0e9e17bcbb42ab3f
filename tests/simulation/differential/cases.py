"""What schedules are drawn from: sagas, what they begin with, and what may happen to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from examples.credit_check.messages import CheckCredit, ScoreReported
from examples.credit_check.saga import CreditCheck
from sagabus import Bus, Context, Saga
from sagabus.definition import SagaDefinition
from sagabus.store.protocol import Store
from sagabus.testing.simulator.inquiry import Inquiry
from sagabus.testing.simulator.scene import Scene
from sagabus.testing.simulator.verdict import Expectations
from sagabus.testing.simulator.world import Budget, Settings
from sagabus.transport import Transport
from tests import sagas_for_tests as shared
from tests.simulation.differential.sagas import (
    Delivery,
    End,
    Late,
    Open,
    Restarted,
    Serial,
    Shop,
    Tally,
    Waiting,
    Weigh,
    Word,
)


@frozen
class Case:
    """One saga, or some, with what they begin with and what may happen.

    Attributes:
        furnish: puts endpoints on a bus.
        start, messages: in the queues from the beginning.
        settings: what may happen.
        sees: outcomes and reasons of commits that its schedules must have between them.
    """

    furnish: Callable[[Bus], object]
    start: tuple[Any, ...]
    messages: tuple[Any, ...] = ()
    settings: Settings = field(factory=Settings)
    sees: frozenset[str] = frozenset({"stored", "forked"})

    def open(self, store: str | Store = "memory:", transport: str | Transport = "memory:", namespace: str = "n") -> Bus:
        """Return a bus with the sagas of the case."""
        bus = Bus(store, transport, namespace=namespace)
        self.furnish(bus)
        return bus

    def definitions(self) -> dict[str, SagaDefinition]:
        """Return the sagas of the case by name."""
        return {d.name: d for endpoint in self.open().endpoints.values() for d in endpoint.sagas}

    def inquiry(self) -> Inquiry:
        """Return the case as the simulator takes it. That sagas are sound is tested elsewhere."""
        return Inquiry(
            Scene.of(self.open()), self.start, self.messages, self.settings, Expectations(outcomes=(), must_end=False)
        )


def shop(bus: Bus) -> None:
    """Put two sagas and a consumer on *bus*, an endpoint each."""
    bus.endpoint("shop", Shop)
    bus.endpoint("delivery", Delivery)

    @bus.endpoint("scales").consumer
    def weigh(m: Weigh, context: Context) -> None:
        context.reply(Word(f"{m.word} of 1 kg"))


def alone(saga: type[Saga[Any]]) -> Callable[[Bus], object]:
    """Return what puts *saga* on a bus."""
    return lambda bus: bus.endpoint("desk", saga)


def settings(
    workers: int = 2, batch: int = 1, duplicates: int = 0, resends: int = 0, timeouts: bool = True
) -> Settings:
    """Return what may happen; whether merges are as good as serial orders is another test's question."""
    return Settings(workers, batch, Budget(duplicates, resends, 0), timeouts, serial_merges=False)


SCORES = tuple(ScoreReported(bureau, 690 + 10 * n) for n, bureau in enumerate(("equifax", "experian", "transunion")))
TEST_SCORES = tuple(shared.ScoreReported(bureau, 700) for bureau in "abc")
WORDS = (Word("one"), Word("two"), Word("three"))

CASES: dict[str, Case] = {
    "credit-check": Case(
        alone(CreditCheck), (CheckCredit("42"),), SCORES, settings(workers=3), frozenset({"stored", "forked", "merged"})
    ),
    "timers": Case(alone(Waiting), (Open("7"),), WORDS[:2], settings()),
    "merge-handler": Case(
        alone(shared.CreditCheck), (shared.CheckCredit("42"),), (*TEST_SCORES, shared.Nudge()), settings(workers=3)
    ),
    "serial": Case(alone(Serial), (Open("7"),), WORDS, settings(workers=3), frozenset({"stored", "settle"})),
    "duplicates": Case(
        alone(CreditCheck),
        (CheckCredit("42"),),
        SCORES,
        settings(duplicates=2, resends=1),
        frozenset({"stored", "forked", "duplicate"}),
    ),
    "batches": Case(
        alone(shared.CreditCheck),
        (shared.CheckCredit("42"),),
        TEST_SCORES,
        settings(workers=3, batch=2, duplicates=2),
        frozenset({"stored", "forked", "duplicate", "consumed"}),
    ),
    "late": Case(
        alone(Late),
        (Open("7"),),
        (*WORDS, End()),
        settings(workers=3, batch=2),
        frozenset({"stored", "forked", "late", "settle", "completed"}),
    ),
    "restarted": Case(
        alone(Restarted),
        (Open("7"), Open("7")),
        (*WORDS, End()),
        settings(workers=3),
        frozenset({"stored", "forked", "late", "settle"}),
    ),
    "ancestor": Case(alone(Tally), (Open("7"),), WORDS, settings(workers=3)),
    "conversation": Case(shop, (Open("7"),), (), settings(duplicates=1)),
}
