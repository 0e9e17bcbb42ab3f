"""Exclusive sagas on real worker processes: their handlers are not run in vain, and no holder's death is the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from sagabus import Bus
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.supervisor import Supervisor
from tests.integration import exclusiveapp
from tests.integration.exclusiveapp import Alone, Racing
from tests.integration.processes import ROOT
from tests.servers import until

KEYS = ("a", "b", "c")
MESSAGES = 200


@frozen
class Stage:
    """A bus and a folder that one test and its workers share."""

    bus: Bus
    folder: Path

    def workers(self, processes: int, claim_s: float) -> Supervisor:
        """Return worker processes, not yet started, whose leases last *claim_s* seconds without a sign of life."""
        env = {
            "SAGABUS_STORE": self.bus.store_url,
            "SAGABUS_TRANSPORT": self.bus.transport_url,
            "EXCLUSIVEAPP_NAMESPACE": self.bus.namespace,
            "EXCLUSIVEAPP_FOLDER": str(self.folder),
            "EXCLUSIVEAPP_CLAIM_S": str(claim_s),
            "PYTHONPATH": str(ROOT),
        }
        return Supervisor("tests.integration.exclusiveapp:bus", processes, options=("--log-level", "error"), env=env)

    def runs(self, what: str) -> Counter[tuple[str, int]]:
        """Return how often the handler of each message was run: (key, number) -> times."""
        return Counter((key, int(number)) for name, key, number, _ in exclusiveapp.noted(self.folder) if name == what)

    def numbers(self, saga: str, key: str) -> list[int]:
        """Return what one saga has handled, in order."""
        definition = exclusiveapp.bus.saga(saga)
        assert definition is not None
        (snapshot,) = self.bus.store.load([Want(SagaKey(saga, key))])
        return list(definition.codec.decode(snapshot.versions[0].state).numbers) if snapshot.versions else []

    def until_all(self, saga: str) -> None:
        """Return once every message was handled."""
        until(lambda: sum(len(self.numbers(saga, key)) for key in KEYS) == MESSAGES, f"all of {saga}")


@pytest.fixture
def stage(valkey_url: str, namespace: str, tmp_path: Path) -> Iterator[Stage]:
    with Bus(valkey_url, valkey_url, namespace=namespace) as bus:
        bus.endpoint("numbers", *(definition.cls for definition in exclusiveapp.bus.endpoints["numbers"].sagas))
        yield Stage(bus, tmp_path)


def test_handlers_of_an_exclusive_saga_run_once_on_racing_workers(stage: Stage) -> None:
    """200 messages for three sagas: each handler runs once, and those of a serial saga more often."""
    stage.bus.send_many([Racing(KEYS[n % 3], n) for n in range(MESSAGES)], to="numbers")
    with stage.workers(2, claim_s=30.0):
        stage.until_all("Serial")
        stage.bus.send_many([Alone(KEYS[n % 3], n) for n in range(MESSAGES)], to="numbers")
        stage.until_all("Exclusive")
    everything = {(KEYS[n % 3], n) for n in range(MESSAGES)}
    assert stage.runs("Alone") == dict.fromkeys(everything, 1)
    assert set(stage.runs("Racing")) == everything
    assert stage.runs("Racing").total() > MESSAGES
    for saga in ("Exclusive", "Serial"):
        handled = [(key, n) for key in KEYS for n in stage.numbers(saga, key)]
        assert len(handled) == MESSAGES
        assert set(handled) == everything


@pytest.mark.chaos
def test_exclusive_saga_of_a_killed_worker_is_taken_over(stage: Stage) -> None:
    """Its handler is run again, for nobody can know how far it came; the state has what it did once."""
    stage.bus.send(Alone("held", 1), to="numbers")
    with stage.workers(1, claim_s=1.5) as workers:
        until(lambda: stage.runs("Alone")["held", 1] == 1, "the first run")
        first = workers.kill(0)
        # The successor has the name, and the message at once; the lease of its predecessor has to end first.
        workers.check()
        until(lambda: stage.runs("Alone")["held", 1] == 2, "the second run")
        (stage.folder / "gate").touch()
        until(lambda: stage.numbers("Exclusive", "held") == [1], "the commit")
    assert [int(pid) == first for *_, pid in exclusiveapp.noted(stage.folder)] == [True, False]


def test_long_handler_of_an_exclusive_saga_keeps_it(stage: Stage) -> None:
    """Signs of life renew the lease of a handler that takes longer than that lasts; others wait, and run nothing."""
    stage.bus.send(Alone("held", 1), to="numbers")
    with stage.workers(2, claim_s=2.0):
        until(lambda: stage.runs("Alone")["held", 1] == 1, "the run")
        key = SagaKey("Exclusive", "held")
        (first,) = stage.bus.store.leases.read([key])
        assert first is not None
        stage.bus.send(Alone("held", 2), to="numbers")

        def renewed_past_its_end() -> bool:
            (now,) = stage.bus.store.leases.read([key])
            return now is not None and now.token == first.token and now.now_ms > first.until_ms

        until(renewed_past_its_end, "the end of the first grant, renewed")
        (stage.folder / "gate").touch()
        until(lambda: sorted(stage.numbers("Exclusive", "held")) == [1, 2], "both")
    assert stage.runs("Alone") == {("held", 1): 1, ("held", 2): 1}
