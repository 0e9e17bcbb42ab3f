"""sagabus, with every guarantee of the README on: default options, decisions read from a queue that subscribes."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from attrs import define, field, frozen

from benchmarks.peers.ours_app import CheckHot, HotDecided
from benchmarks.peers.peer import PROCESSES, Running
from benchmarks.peers.task import BUREAUS, UndoneError, verify
from examples.credit_check.messages import CheckCredit, CreditDecided
from sagabus import Bus, SagabusError
from sagabus.messages import type_of
from sagabus.supervisor import Supervisor
from sagabus.transport import Delivery

APP: Final = "benchmarks.peers.ours_app:bus"
_START_S: Final = 30.0


class _Decision(msgspec.Struct):
    customer: str
    average: float


class _Decided(msgspec.Struct):
    id: str
    data: _Decision


_decided: Final = msgspec.json.Decoder(_Decided)


@define
class HeardBooks:
    """The books of a subscriber in the driver's process. Thread-safe."""

    _heard: dict[str, tuple[str, float, float]] = field(factory=dict)
    _again: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def enter(self, bodies: Sequence[bytes]) -> None:
        """Enter the decisions that some envelopes hold."""
        now = time.time()
        with self._lock:
            for body in bodies:
                envelope = _decided.decode(body)
                first, *_ = self._heard.setdefault(envelope.data.customer, (envelope.id, envelope.data.average, now))
                self._again += first != envelope.id

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
    """The peer that this is about, with so many worker processes."""

    processes: int = PROCESSES
    name: str = "sagabus"
    keeps: str = "all of the README, history included"

    def ready(self) -> None:
        """Return at once: it needs nothing else."""

    @contextmanager
    def running(self, url: str, folder: Path) -> Iterator[Running]:
        """Run its workers, and hear decisions in a thread of this process."""
        with Bus(url, url, namespace=f"peers-{uuid.uuid4().hex[:8]}") as bus:
            books = HeardBooks()
            topics = [type_of(CreditDecided).name, type_of(HotDecided).name]
            bus.transport.declare("books", subscriptions=topics)

            def start(checks: Sequence[str], replies: int) -> None:
                if replies == len(BUREAUS):
                    bus.send_many([CheckCredit(customer=check) for check in checks], to="credit")
                else:
                    bus.send_many([CheckHot(customer=check, replies=replies) for check in checks], to="hot")

            environment = {"SAGABUS_STORE": url, "SAGABUS_TRANSPORT": url, "PEERS_NAMESPACE": bus.namespace}
            options = ["--log-level", "ERROR"]
            crew = Supervisor(APP, self.processes, options=options, env=environment)
            with _reading(bus, books), crew:
                _await_endpoints(bus)
                yield Running(start, books, crew.pids, window=2000, namespace=bus.namespace)


@contextmanager
def _reading(bus: Bus, books: HeardBooks) -> Iterator[None]:
    """Read decisions in a thread of this process, until the block is left."""
    stop = threading.Event()

    def read() -> None:
        receiver = bus.transport.receiver(["books"], consumer="driver", claim_s=60.0)
        found: list[Delivery] = []
        while not stop.is_set():
            found = receiver.exchange([], found, [], 1000, 0.2).deliveries
            books.enter([delivery.body for delivery in found])
        receiver.exchange([], found, [], 0, 0.0)
        receiver.close()

    thread = threading.Thread(target=read, name="books")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _await_endpoints(bus: Bus) -> None:
    deadline = time.monotonic() + _START_S
    while not {"credit", "hot", "crowd", *BUREAUS} <= {queue.endpoint for queue in bus.transport.queues()}:
        if time.monotonic() > deadline:
            raise SagabusError(f"the workers did not start; run `sagabus worker {APP}` to see why")
        time.sleep(0.05)
