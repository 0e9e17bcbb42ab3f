"""One run: open the accounts, start the workers, send all transfers, kill workers, and wait until all is quiet."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from examples.credit_check.rollcall import Rollcall
from examples.transfer.app import TRANSFERS, open_bus
from examples.transfer.ledger import Ledger
from examples.transfer.town import Town
from sagabus import Bus, SagabusError
from sagabus.connect import choose_urls, scheme_of
from sagabus.supervisor import Supervisor

APP: Final = "examples.transfer.app:bus"
UNDER_WAY: Final = 1500
"""How many transfers are in the bank at once; the others wait outside."""
_START_TIMEOUT_S: Final = 60.0
_DRAIN_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02
_ROLL_EVERY_S: Final = 0.1
_QUIET_POLLS: Final = 3

Progress = Callable[[int], None]
"""Told how many transfers have an outcome."""


class RushError(SagabusError):
    """The run could not be made; the text names the next step."""


@frozen
class Plan:
    """What to run.

    Attributes:
        town: who wants what.
        processes: how many worker processes.
        kill_every_s: kill a worker with SIGKILL that often, in seconds, each in turn, or as soon after as the one whose
            turn it is works again; 0 for never.
        patience_s: give up when no outcome has come for so long.
    """

    town: Town
    processes: int
    kill_every_s: float = 1.0
    patience_s: float = 60.0


@define
class Rush:
    """The process that sends transfers and keeps the ledger; the workers are its children.

    Attributes:
        plan: what to run.
        namespace: of this run; unique.
        kills: how many workers were killed.
        seconds: from the first transfer sent to the last outcome heard.
        quiet: whether all queues were empty at the end.
    """

    plan: Plan
    namespace: str = field(factory=lambda: f"transfer-{uuid.uuid4().hex[:8]}")
    kills: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    quiet: bool = field(default=False, init=False)
    bus: Bus = field(init=False)
    ledger: Ledger = field(init=False)
    supervisor: Supervisor = field(init=False)
    _rollcall: Rollcall = field(init=False)
    _next_kill_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        urls = choose_urls(None, None)
        if any(scheme_of(url) == "memory" for url in urls):
            raise RushError(
                "memory: is within one process, and the workers are others; unset SAGABUS_STORE and "
                "SAGABUS_TRANSPORT, or name a server"
            )
        self.bus = open_bus(self.namespace, *urls)
        self.ledger = Ledger(self.bus)
        self._rollcall = Rollcall(self.bus)
        environment = {"SAGABUS_STORE": urls[0], "SAGABUS_TRANSPORT": urls[1], "TRANSFER_NAMESPACE": self.namespace}
        self.supervisor = Supervisor(APP, self.plan.processes, options=["--log-level", "ERROR"], env=environment)

    def run(self, progress: Progress) -> None:
        """Have every transfer brought to its end, then wait until nothing is under way, to hear a second outcome too.

        Raises:
            RushError: the workers did not start.
            SagabusError: a server cannot be used.
        """
        self.bus.store.open()
        self._open_accounts()
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

    def _open_accounts(self) -> None:
        for group in self.plan.town.groups:
            accounts = {key: account for key, account in self.plan.town.accounts.items() if key.group == group}
            self.bus.documents.compare_exchange({key: (None, account) for key, account in accounts.items()})

    def _call_roll(self) -> None:
        def pids() -> list[int]:
            self.supervisor.check()
            return self.supervisor.pids

        missing = self._rollcall.wait_for(pids, _START_TIMEOUT_S)
        if missing or self.supervisor.hopeless:
            raise RushError(f"not all workers have started; see what `python -m sagabus worker {APP}` says")

    def _work(self, progress: Progress) -> None:
        wishes = self.plan.town.wishes
        started_at = self.ledger.heard_at = time.monotonic()
        self._next_kill_at = started_at + self.plan.kill_every_s
        sent = 0
        while (ended := self.ledger.transfers) < len(wishes):
            progress(ended)
            # Not one by one: a few at a time keep the batches of the workers full.
            room = min(UNDER_WAY - (sent - ended), len(wishes) - sent)
            if room >= min(UNDER_WAY // 8, len(wishes) - sent) > 0:
                self.bus.send_many(wishes[sent : sent + room], to=TRANSFERS)
                sent += room
            self.supervisor.check()
            self._kill_somebody()
            if time.monotonic() - self.ledger.heard_at > self.plan.patience_s:
                break
            time.sleep(_POLL_S)
        progress(self.ledger.transfers)
        self.seconds = self.ledger.heard_at - started_at

    def _kill_somebody(self) -> None:
        if not self.plan.kill_every_s or time.monotonic() < self._next_kill_at:
            return
        pids = self.supervisor.pids
        number = self.kills % self.plan.processes
        if number >= len(pids) or pids[number] in self._rollcall.missing(pids):
            # Killed before it has begun, a worker would teach nothing.
            self._next_kill_at = time.monotonic() + _ROLL_EVERY_S
            return
        self._next_kill_at = time.monotonic() + self.plan.kill_every_s
        if self.supervisor.kill(number) is not None:
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
