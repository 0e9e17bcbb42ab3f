"""The app that worker processes of the tests run: a credit check, and consumers that the tests hold up and watch.

From the environment: `CREDITAPP_NAMESPACE`, `CREDITAPP_FOLDER` (files that tell who did what, and the gate that held
handlers wait for), `CREDITAPP_BROKEN` (fail while being imported).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog
from attrs import define, field

from sagabus import Bus, Saga, UnmergeableStateError, handles, message, starts

FOLDER = Path(os.environ.get("CREDITAPP_FOLDER", "."))
GATE_TIMEOUT_S = 30.0

if os.environ.get("CREDITAPP_BROKEN"):
    raise RuntimeError("this app cannot be imported")


@message("creditapp.check")
class CheckCredit:
    customer: str


@message("creditapp.score-reported")
class ScoreReported:
    customer: str
    bureau: str
    score: int


@message("creditapp.decided")
class CreditDecided:
    customer: str
    approved: bool


@message("creditapp.overdue")
class Overdue:
    pass


@message("held.job")
class HeldJob:
    number: int


@message("quick.job")
class QuickJob:
    number: int
    stop: str = ""


@message("bad.job")
class BadJob:
    pass


@define
class CreditState:
    scores: dict[str, int] = field(factory=dict)
    seen: set[str] = field(factory=set)


def everything(siblings: Sequence[CreditState]) -> CreditState:
    """Keep the scores of all siblings, unless one has a score of 666."""
    merged = CreditState()
    for sibling in siblings:
        if 666 in sibling.scores.values():
            raise UnmergeableStateError("666 goes with nothing")
        merged.scores.update(sibling.scores)
        merged.seen |= sibling.seen
    return merged


class CreditCheck(Saga[CreditState], key="customer", merger=everything):
    @starts
    def requested(self, m: CheckCredit) -> None:
        structlog.get_logger("mine").info("asked", customer=m.customer)
        logging.getLogger("theirs").warning("asked too")
        self.defer(Overdue(), after=timedelta(hours=1), name="overdue")

    @handles
    def scored(self, m: ScoreReported) -> None:
        if m.score < 0:
            raise ValueError("a score is not negative")
        self.state.scores[m.bureau] = m.score

    @handles
    def overdue(self, m: Overdue) -> None:
        self.state.seen.add("overdue")

    def decide(self) -> None:
        if len(self.state.scores) > 1:
            self.publish(CreditDecided(self.id, min(self.state.scores.values()) > 600))
            self.complete()


def note(what: str) -> None:
    """Append a line to the file that tells the test what was done, in one write."""
    fd = os.open(FOLDER / "done", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{what} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


bus = Bus(namespace=os.environ.get("CREDITAPP_NAMESPACE", "creditapp"))
bus.endpoint("credit", CreditCheck)
held = bus.endpoint("held", batch=1, concurrency=1)
quick = bus.endpoint("quick", batch=4)
bad = bus.endpoint("bad", max_attempts=1)
bus.route(QuickJob, to="quick")


@held.consumer
def hold(m: HeldJob) -> None:
    """Wait until the test opens the gate."""
    note(f"begin-{m.number}")
    pause, opened = threading.Event(), FOLDER / "gate"
    for _ in range(round(GATE_TIMEOUT_S / 0.01)):
        if opened.exists():
            note(f"end-{m.number}")
            return
        pause.wait(0.01)


@quick.consumer
def do(m: QuickJob) -> None:
    """Note that it was done; ask a process to stop where the job says so, for a drain that begins at a known place."""
    note(f"quick-{m.number}")
    if m.stop:
        os.kill({"worker": os.getpid(), "supervisor": os.getppid()}[m.stop], signal.SIGTERM)


@bad.consumer
def fail(m: BadJob) -> None:
    """Fail every time."""
    raise ValueError("never works")
