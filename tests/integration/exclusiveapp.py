"""The app that worker processes of `test_exclusive.py` run: an exclusive saga and a serial one that note each run.

From the environment: `EXCLUSIVEAPP_NAMESPACE`, `EXCLUSIVEAPP_FOLDER` (`runs` is there, and the gate), and
`EXCLUSIVEAPP_CLAIM_S`, how long a lease lasts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from attrs import define, field

from sagabus import Bus, Saga, message, starts

FOLDER = Path(os.environ.get("EXCLUSIVEAPP_FOLDER", "."))
CLAIM_S = float(os.environ.get("EXCLUSIVEAPP_CLAIM_S", "30"))
GATE_TIMEOUT_S = 30.0


@message("exclusiveapp.alone")
class Alone:
    key: str
    number: int


@message("exclusiveapp.racing")
class Racing:
    key: str
    number: int


@define
class Numbers:
    numbers: list[int] = field(factory=list)


def note(m: Any) -> None:
    """Note a run of a handler, whatever becomes of it; lines of several processes do not mix."""
    with (FOLDER / "runs").open("a") as runs:
        runs.write(f"{type(m).__name__} {m.key} {m.number} {os.getpid()}\n")


def noted(folder: Path) -> list[list[str]]:
    """Return what was noted so far: name of the message, key, number and pid of each run."""
    path = folder / "runs"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _wait_for(what: Any) -> None:
    give_up_at = time.monotonic() + GATE_TIMEOUT_S
    while not what() and time.monotonic() < give_up_at:
        time.sleep(0.005)


class Exclusive(Saga[Numbers], key="key", exclusive=True):
    @starts
    def alone(self, m: Alone) -> None:
        note(m)
        if m.key == "held":
            _wait_for((FOLDER / "gate").exists)
        self.state.numbers.append(m.number)


class Serial(Saga[Numbers], key="key"):
    @starts
    def racing(self, m: Racing) -> None:
        note(m)
        # Two workers have loaded all sagas before either commits, so one of them has run its handlers in vain.
        _wait_for(lambda: len({pid for what, *_, pid in noted(FOLDER) if what == "Racing"}) > 1)
        self.state.numbers.append(m.number)


bus = Bus(namespace=os.environ.get("EXCLUSIVEAPP_NAMESPACE", "exclusiveapp"), claim_s=CLAIM_S)
bus.endpoint("numbers", Exclusive, Serial, batch=4)
