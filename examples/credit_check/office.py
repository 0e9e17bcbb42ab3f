"""One run: open the ledger, start the workers, let the applicants in, and close when all is quiet."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field, frozen

from examples.credit_check.app import KEPT_FOR
from examples.credit_check.applicants import Applicant
from examples.credit_check.ledger import Ledger
from examples.credit_check.rollcall import Rollcall
from sagabus import Bus, SagabusError
from sagabus.connect import choose_urls, scheme_of
from sagabus.supervisor import Supervisor

APP: Final = "examples.credit_check.app:bus"
OPEN_CHECKS: Final = 400
"""How many applicants are in the office at once; the others wait outside, so that nobody waits long inside."""
_START_TIMEOUT_S: Final = 60.0
_DRAIN_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02
_ROLL_EVERY_S: Final = 0.1
_QUIET_POLLS: Final = 3

Progress = Callable[[int], None]
"""Told how many customers have a decision."""


class OfficeError(SagabusError):
    """The office could not do its work; the text names the next step."""


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
        kills: how many workers were killed.
        quiet: whether all queues were empty in the end.
    """

    plan: Plan
    namespace: str = field(factory=lambda: f"credit-check-{uuid.uuid4().hex[:8]}")
    seconds: float = field(default=0.0, init=False)
    kills: int = field(default=0, init=False)
    quiet: bool = field(default=False, init=False)
    bus: Bus = field(init=False)
    ledger: Ledger = field(init=False)
    supervisor: Supervisor = field(init=False)
    _rollcall: Rollcall = field(init=False)
    _next_kill_at: float = field(default=0.0, init=False)
    _random: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        urls = choose_urls(plan.store, plan.transport)
        if any(scheme_of(url) == "memory" for url in urls):
            raise OfficeError(
                "memory: is within one process, and the workers are others; "
                "leave the URL out, or use embedded:, redis: or, for the transport, amqp:"
            )
        self.bus = Bus(*urls, namespace=self.namespace, dedupe_window=KEPT_FOR)
        self.ledger = Ledger(self.bus)
        self._rollcall = Rollcall(self.bus)
        self._random = random.Random(plan.seed)
        environment = {
            "SAGABUS_STORE": urls[0],
            "SAGABUS_TRANSPORT": urls[1],
            "CREDIT_CHECK_NAMESPACE": self.namespace,
            "CREDIT_CHECK_SEED": str(plan.seed),
        }
        self.supervisor = Supervisor(APP, plan.processes, options=["--log-level", "ERROR"], env=environment)

    def run(self, progress: Progress) -> None:
        """Have every applicant decided, then wait until nothing is under way, so that a second decision would be seen.

        Raises:
            OfficeError: the workers did not start.
            SagabusError: a server cannot be used.
        """
        # Connected first: a wrong URL is reported once, here, and not by every worker.
        self.bus.store.open()
        self.bus.transport.queues()
        clerk = self.bus.worker([self.ledger.endpoint.name, self._rollcall.endpoint.name])
        thread = threading.Thread(target=clerk.run, name="ledger", daemon=True)
        try:
            thread.start()
            self.supervisor.start()
            self._call_roll()
            self._work(progress)
            self.quiet = self._drained()
            self.supervisor.stop()
            # What the workers still had in hand when they were told to end has left by now.
            self.quiet = self.quiet and self._drained()
        finally:
            self.supervisor.stop()
            clerk.stop()
            if thread.is_alive():
                thread.join()

    def _call_roll(self) -> None:
        def pids() -> list[int]:
            self.supervisor.check()
            return self.supervisor.pids

        missing = self._rollcall.wait_for(pids, _START_TIMEOUT_S)
        if missing:
            raise OfficeError(
                f"{len(missing)} of {self.plan.processes} workers did not start within {_START_TIMEOUT_S:g} s; "
                f"see what `python -m sagabus worker {APP}` says"
            )

    def _work(self, progress: Progress) -> None:
        waiting = [applicant.check() for applicant in reversed(self.plan.applicants)]
        started_at = self.ledger.heard_at = time.monotonic()
        self._next_kill_at = started_at + self.plan.kill_every_s
        sent, decided = 0, -1
        while decided < len(self.plan.applicants):
            decided = self.ledger.customers
            progress(decided)
            room = min(OPEN_CHECKS - (sent - decided), len(waiting))
            if room > 0:
                self.bus.send_many([waiting.pop() for _ in range(room)], to="credit")
                sent += room
            self.supervisor.check()
            self._kill_somebody()
            if time.monotonic() - self.ledger.heard_at > self.plan.patience_s:
                break
            time.sleep(_POLL_S)
        self.seconds = self.ledger.heard_at - started_at

    def _kill_somebody(self) -> None:
        if not self.plan.kill_every_s or time.monotonic() < self._next_kill_at:
            return
        if self._rollcall.missing(self.supervisor.pids):
            # Killed before it has begun, a worker would teach nothing, and the others would have nobody to race with.
            self._next_kill_at = time.monotonic() + _ROLL_EVERY_S
            return
        self._next_kill_at = time.monotonic() + self.plan.kill_every_s
        if self.supervisor.kill(self._random.randrange(self.plan.processes)) is not None:
            self.kills += 1

    def _drained(self) -> bool:
        """Wait until all queues have been empty for a moment; return whether they were."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        quiet = 0
        while quiet < _QUIET_POLLS:
            if time.monotonic() > deadline:
                return False
            self.supervisor.check()
            quiet = quiet + 1 if not any(queue.depth for queue in self.bus.transport.queues()) else 0
            time.sleep(5 * _POLL_S)
        return True
