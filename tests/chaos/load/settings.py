"""What a worker process of the load is told, through one environment variable."""

from __future__ import annotations

import os
import signal
from typing import Any, Final, Self

import msgspec
from attrs import field, frozen

VARIABLE: Final = "CHAOS_LOAD"


@frozen
class Settings:
    """How the app of the load runs; rows choose, workers read.

    Attributes:
        store, transport: URLs.
        namespace: of the bus.
        ledger: path of the file that effects are written to.
        seed: of scores, and of when failpoints strike.
        claim_s: after how many seconds without a sign of life another worker takes over.
        batch: of every saga's endpoint.
        concurrency: of every consumer's endpoint, in each process.
        max_attempts: after how many tries a message is dead-lettered.
        first_delay_s: before the second try.
        early_attempts: as max_attempts, for messages whose saga is not there.
        dedupe_window_s: how long a message id is remembered; completed sagas as long.
        bus: further options of `Bus`.
        failpoint: where a worker kills itself: `before-` or `after-`, then `load`, `commit`, `note` (of the store),
            `send` (of the transport) or `exchange` (of a receiver); "" for nowhere.
        strikes: how often that happens in all, whatever process it is.
        nth: a process kills itself when it comes there for the nth time; drawn from this range, both ends included.
        strike: the signal that it sends itself there; SIGSTOP makes a zombie of it, until somebody has it go on.
        paced: whether a strike waits until the one before it is said to be over (`Load.strike_over`).
        hook: `package.module:function`, called with the bus of every worker before it works: for what else a row does
            inside a worker.
        extra: whatever a row's hook wants to know.
    """

    store: str
    transport: str
    namespace: str
    ledger: str
    seed: int = 1
    claim_s: float = 5.0
    batch: int = 8
    concurrency: int = 32
    max_attempts: int = 10
    first_delay_s: float = 0.05
    early_attempts: int = 40
    dedupe_window_s: float = 3600.0
    bus: dict[str, Any] = field(factory=dict)
    failpoint: str = ""
    strikes: int = 0
    nth: tuple[int, int] = (3, 20)
    strike: int = signal.SIGKILL
    paced: bool = False
    hook: str = ""
    extra: dict[str, Any] = field(factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that tell a worker."""
        return {VARIABLE: msgspec.json.encode(self).decode()}

    @classmethod
    def from_environment(cls) -> Self:
        """Return what this process was told."""
        return msgspec.json.decode(os.environ[VARIABLE], type=cls)
