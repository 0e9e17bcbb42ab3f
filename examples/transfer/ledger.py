"""The ledger: an independent witness. It hears every outcome on the bus and never looks at an account."""

from __future__ import annotations

import threading
import time
from typing import Final

from sagabus import Bus, Context
from sagas.transfer import MoneyTransferred, TransferRefused

LEDGER: Final = "ledger"

Outcome = MoneyTransferred | TransferRefused


class Ledger:
    """Every outcome that was ever announced. Thread-safe.

    Args:
        bus: gets an endpoint of the ledger's own, which subscribes to the outcomes.

    Attributes:
        heard_at: when the latest outcome came that said anything new, `time.monotonic()`.
    """

    def __init__(self, bus: Bus) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[str, dict[str, Outcome]] = {}
        self.heard_at = time.monotonic()
        self.endpoint = bus.endpoint(LEDGER)
        self.endpoint.consumer(MoneyTransferred, TransferRefused)(self.ended)

    def ended(self, m: Outcome, context: Context) -> None:
        """Enter an outcome under its transfer and its message id; a second copy of one message says nothing new."""
        with self._lock:
            entries = self._outcomes.setdefault(m.transfer, {})
            if context.message_id not in entries:
                entries[context.message_id] = m
                self.heard_at = time.monotonic()

    @property
    def transfers(self) -> int:
        """Return how many transfers have an outcome."""
        return len(self._outcomes)

    def outcomes(self) -> dict[str, list[Outcome]]:
        """Return transfer -> outcomes, in the order they came; one each, if all is well."""
        with self._lock:
            return {transfer: list(entries.values()) for transfer, entries in self._outcomes.items()}
