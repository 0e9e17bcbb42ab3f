"""A live run of the credit check to look at: workers, sagas that forked, one that stays forked, dead letters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
from attrs import frozen

from examples.credit_check.messages import CheckCredit, ScoreReported
from examples.credit_check.saga import CreditCheck
from sagabus import Bus
from sagabus.advance import advance
from sagabus.commit import Want
from sagabus.envelope import Envelope, Incoming, SagaKey, encode, wrap
from sagabus.store.protocol import Bookkeeping, DeadLetter
from tests.servers import until

ROOT = Path(__file__).parents[2]
APP = "examples.credit_check.app:bus"
FORKED = SagaKey("CreditCheck", "forked")
APPLICANTS = 150


@frozen
class Stage:
    """What is on show.

    Attributes:
        bus: the same queues and sagas, without handlers.
        address: of the dashboard, with its token.
        raced: a completed saga in whose history two versions were merged.
    """

    bus: Bus
    address: str
    raced: SagaKey

    @property
    def origin(self) -> str:
        """Return the address without the token."""
        return self.address.partition("/?")[0]


@contextmanager
def stage(url: str, namespace: str) -> Iterator[Stage]:
    """Yield a stage on a server of one's own."""
    environment = {
        "SAGABUS_STORE": url,
        "SAGABUS_TRANSPORT": url,
        "CREDIT_CHECK_NAMESPACE": namespace,
        "PYTHONUNBUFFERED": "1",
    }
    with (
        Bus(url, url, namespace=namespace, dedupe_window=timedelta(hours=1)) as bus,
        _running(environment, "worker", APP, "--processes", "2"),
        _running(environment, "dashboard", APP, "--port", "0", "--allow-actions") as dashboard,
    ):
        bus.endpoint("credit", CreditCheck)
        bus.transport.queues()
        bus.send_many([CheckCredit(customer=f"C{n:04d}") for n in range(APPLICANTS)], to="credit")
        assert dashboard.stdout is not None
        address = dashboard.stdout.readline().rpartition(" ")[2].strip()
        raced = _raced(bus)
        _fork(bus)
        _give_up(bus)
        yield Stage(bus, address, raced)


@contextmanager
def _running(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sagabus", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if arguments[0] == "worker" else None,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _raced(bus: Bus) -> SagaKey:
    """Return a saga that has forked and was merged; send more applicants until there is one."""
    found: list[SagaKey] = []
    sent = APPLICANTS

    def merged() -> bool:
        nonlocal sent
        for number in range(sent):
            key = SagaKey("CreditCheck", f"C{number:04d}")
            entries = bus.store.history(key)
            if entries and entries[-1].completed and any(len(entry.parents) > 1 for entry in entries):
                found.append(key)
                return True
        bus.send_many([CheckCredit(customer=f"C{n:04d}") for n in range(sent, sent + 50)], to="credit")
        sent += 50
        return False

    until(merged, "a saga that forked and was merged")
    return found[0]


def _fork(bus: Bus) -> None:
    """Store a saga with two siblings, as two workers leave it that die before they send its MergeSagaState."""
    definition = bus.saga(FORKED.name)
    assert definition is not None

    def incoming(message: object, id_: str) -> Incoming:
        now_ms = time.time_ns() // 1_000_000
        envelope = wrap(message, id=id_, source="/equifax", now_ms=now_ms)
        return Incoming(msgspec.structs.replace(envelope, saga=str(FORKED), sagalife=1))

    begin = Incoming(wrap(CheckCredit(customer=FORKED.id), id="fork-0", source="/client", now_ms=0))
    (nothing,) = bus.store.load([Want(FORKED)])
    bus.store.commit([advance(definition, nothing, [begin])], by="worker-a")
    (begun,) = bus.store.load([Want(FORKED)])
    for worker, bureau, score in (("worker-a", "equifax", 720), ("worker-b", "experian", 690)):
        score_reported = incoming(ScoreReported(bureau=bureau, score=score), f"fork-{bureau}")
        bus.store.commit([advance(definition, begun, [score_reported])], by=worker)


def _give_up(bus: Bus) -> None:
    """Put messages on record that were given up: two for the same error, one for another."""
    now_ms = time.time_ns() // 1_000_000

    def letter(id_: str, body: bytes, error: str) -> DeadLetter:
        trace = f"Traceback (most recent call last):\n{error}"
        return DeadLetter(id_, "credit", "failed", error, trace, 5, now_ms, body, "credit.check", worker="worker-a")

    def check(customer: str) -> Envelope:
        return wrap(CheckCredit(customer=customer), id=f"dead-{customer}", source="/client", now_ms=now_ms)

    letters = [
        letter(f"dead-{customer}", encode(check(customer)), f"ValueError: no such customer: {customer}")
        for customer in ("D1", "D2")
    ]
    letters.append(letter("dead-D3", encode(check("D3")), "TimeoutError: the register did not answer"))
    bus.store.note(Bookkeeping(buried=tuple(letters)))
