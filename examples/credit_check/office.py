"""One run: open the ledger, start the workers, let the applicants in, and close when all is quiet."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field, frozen

from examples.credit_check.app import KEPT_FOR
from examples.credit_check.applicants import Applicant
from examples.credit_check.ledger import Ledger
from examples.racing.crew import Crew, urls_of
from sagabus import Bus

APP: Final = "examples.credit_check.app:bus"
OPEN_CHECKS: Final = 400
"""How many applicants are in the office at once; the others wait outside, so that nobody waits long inside."""
_POLL_S: Final = 0.02

Progress = Callable[[int], None]
"""Told how many customers have a decision."""


@frozen
class Plan:
    """What to run.

    Attributes:
        applicants: who comes, in order.
        processes: how many worker processes.
        seed: of the bureaus' scores and latencies, and of who is killed.
        kill_every_s: kill a random worker with SIGKILL that often, in seconds, or as soon after as its predecessor has
            been replaced and works; 0 for never.
        patience_s: give up when no decision has come for so long.
        store, transport: URLs; None for what the environment says.
    """

    applicants: Sequence[Applicant]
    processes: int
    seed: int = 1
    kill_every_s: float = 0.0
    patience_s: float = 60.0
    store: str | None = None
    transport: str | None = None


@define
class Office:
    """The process that lets applicants in and keeps the ledger; the workers are its children.

    Every run has a namespace of its own on store and transport, so runs do not disturb each other.

    Attributes:
        seconds: from the first applicant to the last decision.
        quiet: whether all queues were empty in the end.
    """

    plan: Plan
    namespace: str = field(factory=lambda: f"credit-check-{uuid.uuid4().hex[:8]}")
    seconds: float = field(default=0.0, init=False)
    quiet: bool = field(default=False, init=False)
    bus: Bus = field(init=False)
    ledger: Ledger = field(init=False)
    crew: Crew = field(init=False)

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        urls = urls_of(plan.store, plan.transport)
        self.bus = Bus(*urls, namespace=self.namespace, dedupe_window=KEPT_FOR)
        self.ledger = Ledger(self.bus)
        chance = random.Random(plan.seed)
        environment = {
            "SAGABUS_STORE": urls[0],
            "SAGABUS_TRANSPORT": urls[1],
            "CREDIT_CHECK_NAMESPACE": self.namespace,
            "CREDIT_CHECK_SEED": str(plan.seed),
        }
        self.crew = Crew(
            self.bus,
            APP,
            plan.processes,
            environment,
            plan.kill_every_s,
            victim=lambda: chance.randrange(plan.processes),
            all_at_work=True,
        )

    @property
    def kills(self) -> int:
        """Return how many workers were killed."""
        return self.crew.kills

    def run(self, progress: Progress) -> None:
        """Have every applicant decided, then wait until nothing is under way, so that a second decision would be seen.

        Raises:
            CrewError: the workers did not start.
            SagabusError: a server cannot be used.
        """
        # Connected first: a wrong URL is reported once, here, and not by every worker.
        self.bus.store.open()
        self.bus.transport.queues()
        with self.crew.at_work(self.ledger.endpoint.name):
            self._work(progress)
            self.quiet = self.crew.finish()

    def _work(self, progress: Progress) -> None:
        waiting = [applicant.check() for applicant in reversed(self.plan.applicants)]
        started_at = self.ledger.heard_at = time.monotonic()
        sent, decided = 0, -1
        while decided < len(self.plan.applicants):
            decided = self.ledger.customers
            progress(decided)
            room = min(OPEN_CHECKS - (sent - decided), len(waiting))
            if room > 0:
                self.bus.send_many([waiting.pop() for _ in range(room)], to="credit")
                sent += room
            self.crew.look_after()
            if time.monotonic() - self.ledger.heard_at > self.plan.patience_s:
                break
            time.sleep(_POLL_S)
        self.seconds = self.ledger.heard_at - started_at
