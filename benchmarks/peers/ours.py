"""sagabus, with every guarantee of the README on: default options, decisions heard over the bus."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from benchmarks.listening import listening
from benchmarks.peers.ours_app import CheckHot, HotDecided
from benchmarks.peers.peer import PROCESSES, Running
from benchmarks.peers.task import BUREAUS, UndoneError, verify
from examples.credit_check.messages import CheckCredit, CreditDecided
from sagabus import Bus, Context, SagabusError
from sagabus.supervisor import Supervisor

_START_S: Final = 30.0


@define
class HeardBooks:
    """The books of a subscriber in the driver's process. Thread-safe."""

    _heard: dict[str, tuple[str, float, float]] = field(factory=dict)
    _again: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def credit(self, m: CreditDecided, context: Context) -> None:
        """Enter a decision."""
        self._enter(m.customer, m.average, context.message_id)

    def hot(self, m: HotDecided, context: Context) -> None:
        """Enter the decision on a hot check."""
        self._enter(m.customer, m.average, context.message_id)

    def _enter(self, check: str, said: float, message_id: str) -> None:
        now = time.time()
        with self._lock:
            first, *_ = self._heard.setdefault(check, (message_id, said, now))
            self._again += first != message_id

    def done(self) -> int:
        """Return how many checks were decided."""
        return len(self._heard)

    def times(self, checks: Sequence[str]) -> list[float]:
        """Return when each decision was heard."""
        missing = [check for check in checks if check not in self._heard]
        if missing:
            raise UndoneError(f"{len(missing)} of {len(checks)} checks were not decided")
        return [self._heard[check][2] for check in checks]

    def close(self, expected: int) -> None:
        """Look at every decision, and begin an empty book."""
        with self._lock:
            heard, again = dict(self._heard), self._again
            self._heard.clear()
            self._again = 0
        verify({check: said for check, (_, said, _) in heard.items()}, again, expected)


@frozen
class Ours:
    """The peer that this is about."""

    name: str = "sagabus"
    keeps: str = "all of the README, history included"

    def ready(self) -> None:
        """Return at once: it needs nothing else."""

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers, and hear decisions in a thread of this process."""
        with Bus(url, url, namespace=f"peers-{uuid.uuid4().hex[:8]}") as bus:
            books = HeardBooks()
            desk = bus.endpoint("books")
            desk.consumer(books.credit)
            desk.consumer(books.hot)

            def start(checks: Sequence[str], replies: int) -> None:
                if replies == len(BUREAUS):
                    bus.send_many([CheckCredit(customer=check) for check in checks], to="credit")
                else:
                    bus.send_many([CheckHot(customer=check, replies=replies) for check in checks], to="hot")

            environment = {"SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url, "PEERS_NAMESPACE": bus.namespace}
            options = ["--log-level", "ERROR"]
            crew = Supervisor("benchmarks.peers.ours_app:bus", PROCESSES, options=options, env=environment)
            with listening(bus, ["books"]), crew:
                _await_endpoints(bus)
                yield Running(start, books, crew.pids, window=2000)


def _await_endpoints(bus: Bus) -> None:
    deadline = time.monotonic() + _START_S
    while not {"credit", "hot", "crowd", *BUREAUS} <= {queue.endpoint for queue in bus.transport.queues()}:
        if time.monotonic() > deadline:
            raise SagabusError(
                "the workers did not start; run `sagabus worker benchmarks.peers.ours_app:bus` to see why"
            )
        time.sleep(0.05)
