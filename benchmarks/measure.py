"""The measurements. Each looks at what was decided before it believes what it measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from benchmarks.meter import MeterRead, Readings, cpu_s
from benchmarks.witness import GIVE_UP_S, Witness
from examples.credit_check.history import races_of
from examples.credit_check.messages import CheckCredit
from sagabus import Bus

OPEN_CHECKS: Final = 2000
"""How many checks are under way at once while throughput is measured: no worker is ever idle, and no queue is full."""


@frozen
class Throughput:
    """What many checks at once cost.

    A message is one copy in one queue: a check, three requests, three scores, a decision, and a MergeSagaState a merge.

    Attributes:
        checks: how many were decided.
        messages: how many entries were put into queues, counted by the server.
        seconds: from the first check sent to the last decision heard.
        busy_s: until the queues were empty too, after the last late scores.
        worker_cpu_s, store_cpu_s, driver_cpu_s: processor time, user and system, of all workers, of the server (its
            writing to disk included), and of the process that sends checks and hears decisions.
        worker_round_trips: of all workers, over all that they did, idle polls and timers included.
        worker_messages: how many messages the workers handled: all but the decisions.
        forks, merges: of the sagas, from their history.
    """

    checks: int
    messages: int
    seconds: float
    busy_s: float
    worker_cpu_s: float
    store_cpu_s: float
    driver_cpu_s: float
    worker_round_trips: int
    worker_messages: int
    forks: int
    merges: int

    def figures(self) -> dict[str, float]:
        """Return the figures by name; CPU in microseconds a message."""
        return {
            "checks_per_s": self.checks / self.seconds,
            "messages_per_s": self.messages / self.busy_s,
            "round_trips_per_message": self.worker_round_trips / self.worker_messages,
            "worker_cpu_us_per_message": self.worker_cpu_s / self.worker_messages * 1e6,
            "store_cpu_us_per_message": self.store_cpu_s / self.messages * 1e6,
            "driver_cpu_us_per_message": self.driver_cpu_s / self.messages * 1e6,
            "forks_per_check": self.forks / self.checks,
            "merges_per_check": self.merges / self.checks,
        }


@frozen
class Latency:
    """How long one check takes when nothing else is under way.

    Attributes:
        milliseconds: from before sending to the decision being heard: a dozen hops between processes; sorted.
    """

    milliseconds: tuple[float, ...]

    def figures(self) -> dict[str, float]:
        """Return the figures by name."""
        return {
            "latency_p50_ms": statistics.median(self.milliseconds),
            "latency_p99_ms": self.milliseconds[max(0, round(len(self.milliseconds) * 0.99) - 1)],
        }


@frozen
class _Reading:
    workers: Sequence[MeterRead]
    server: Mapping[str, Any]
    sent: int
    driver_cpu_s: float

    @classmethod
    def take(cls, bus: Bus, readings: Readings, pids: Sequence[int]) -> _Reading:
        workers = readings.take(pids)
        link: Any = bus.store.link  # type: ignore[attr-defined]
        server = _info(link.on_node("", "INFO", "cpu"))
        stats = _info(link.on_node("", "INFO", "commandstats"))
        sent = int(stats["cmdstat_xadd"].split(",")[0].removeprefix("calls="))
        return cls(workers, server, sent, cpu_s())

    @property
    def worker_cpu_s(self) -> float:
        return sum(worker.cpu_s for worker in self.workers)

    @property
    def round_trips(self) -> int:
        return sum(worker.round_trips for worker in self.workers)

    @property
    def store_cpu_s(self) -> float:
        return float(self.server["used_cpu_user"]) + float(self.server["used_cpu_sys"])


def _info(reply: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)


def throughput(bus: Bus, witness: Witness, readings: Readings, pids: Sequence[int], checks: int) -> Throughput:
    """Have *checks* customers decided as fast as it goes.

    Raises:
        WrongResultError: a decision is missing, wrong, or there twice.
    """
    customers = [f"T{number:08}" for number in range(checks)]
    before = _Reading.take(bus, readings, pids)
    started_at = time.perf_counter()
    decide(bus, witness, customers)
    seconds = witness.last_at - started_at
    while any(queue.depth for queue in bus.transport.queues()):  # late scores are part of the work
        time.sleep(0.01)
    busy_s = time.perf_counter() - started_at
    after = _Reading.take(bus, readings, pids)
    # The readings are messages too: a handful, too few to see.
    messages = after.sent - before.sent
    races = races_of(bus.store, customers)
    return Throughput(
        checks=checks,
        messages=messages,
        seconds=seconds,
        busy_s=busy_s,
        worker_cpu_s=after.worker_cpu_s - before.worker_cpu_s,
        store_cpu_s=after.store_cpu_s - before.store_cpu_s,
        driver_cpu_s=after.driver_cpu_s - before.driver_cpu_s,
        worker_round_trips=after.round_trips - before.round_trips,
        worker_messages=messages - checks,
        forks=races.forks,
        merges=races.merges,
    )


def decide(bus: Bus, witness: Witness, customers: Sequence[str]) -> None:
    """Send the checks of *customers*, some at a time, and wait for their decisions."""
    before, sent, done = witness.count, 0, 0
    seen_at = time.perf_counter()
    while done < len(customers) and time.perf_counter() - seen_at < GIVE_UP_S:
        if witness.count - before > done:
            done, seen_at = witness.count - before, time.perf_counter()
        batch = customers[sent : sent + OPEN_CHECKS - (sent - done)]
        if len(batch) >= min(OPEN_CHECKS // 8, len(customers) - sent) and batch:
            bus.send_many([CheckCredit(customer=customer) for customer in batch], to="credit")
            sent += len(batch)
        time.sleep(0.005)
    witness.verify(before + len(customers))


def latency(bus: Bus, witness: Witness, checks: int) -> Latency:
    """Have *checks* customers decided one after the other.

    Raises:
        WrongResultError: a decision is missing, wrong, or there twice.
    """
    decided_before = witness.count
    taken: list[float] = []
    for number in range(checks):
        customer = f"L{number:08}"
        started_at = time.perf_counter()
        bus.send(CheckCredit(customer=customer), to="credit")
        taken.append((witness.wait_for(customer) - started_at) * 1000)
        time.sleep(0.002)  # the late score of this one is no load for the next
    witness.verify(decided_before + checks)
    return Latency(tuple(sorted(taken)))
