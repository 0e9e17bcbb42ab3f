"""One run: open the accounts, start the workers, send all transfers, kill workers, and wait until all is quiet."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from examples.racing.crew import Crew, urls_of
from examples.transfer.app import TRANSFERS, open_bus
from examples.transfer.ledger import Ledger
from examples.transfer.town import Town
from sagabus import Bus

APP: Final = "examples.transfer.app:bus"
UNDER_WAY: Final = 1500
"""How many transfers are in the bank at once; the others wait outside."""
_POLL_S: Final = 0.02

Progress = Callable[[int], None]
"""Told how many transfers have an outcome."""


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
        seconds: from the first transfer sent to the last outcome heard.
        quiet: whether all queues were empty at the end.
    """

    plan: Plan
    namespace: str = field(factory=lambda: f"transfer-{uuid.uuid4().hex[:8]}")
    seconds: float = field(default=0.0, init=False)
    quiet: bool = field(default=False, init=False)
    bus: Bus = field(init=False)
    ledger: Ledger = field(init=False)
    crew: Crew = field(init=False)

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        urls = urls_of(None, None)
        self.bus = open_bus(self.namespace, *urls)
        self.ledger = Ledger(self.bus)
        environment = {"SAGABUS_STORE": urls[0], "SAGABUS_TRANSPORT": urls[1], "TRANSFER_NAMESPACE": self.namespace}
        self.crew = Crew(
            self.bus, APP, plan.processes, environment, plan.kill_every_s, victim=lambda: self.kills % plan.processes
        )

    @property
    def kills(self) -> int:
        """Return how many workers were killed."""
        return self.crew.kills

    def run(self, progress: Progress) -> None:
        """Have every transfer brought to its end, then wait until nothing is under way, to hear a second outcome too.

        Raises:
            CrewError: the workers did not start.
            SagabusError: a server cannot be used.
        """
        self.bus.store.open()
        self._open_accounts()
        with self.crew.at_work(self.ledger.endpoint.name):
            self._work(progress)
            self.quiet = self.crew.finish()

    def _open_accounts(self) -> None:
        for group in self.plan.town.groups:
            accounts = {key: account for key, account in self.plan.town.accounts.items() if key.group == group}
            self.bus.documents.compare_exchange({key: (None, account) for key, account in accounts.items()})

    def _work(self, progress: Progress) -> None:
        wishes = self.plan.town.wishes
        started_at = self.ledger.heard_at = time.monotonic()
        sent = 0
        while (ended := self.ledger.transfers) < len(wishes):
            progress(ended)
            # Not one by one: a few at a time keep the batches of the workers full.
            room = min(UNDER_WAY - (sent - ended), len(wishes) - sent)
            if room >= min(UNDER_WAY // 8, len(wishes) - sent) > 0:
                self.bus.send_many(wishes[sent : sent + room], to=TRANSFERS)
                sent += room
            self.crew.look_after()
            if time.monotonic() - self.ledger.heard_at > self.plan.patience_s:
                break
            time.sleep(_POLL_S)
        progress(self.ledger.transfers)
        self.seconds = self.ledger.heard_at - started_at
