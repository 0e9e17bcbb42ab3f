"""Showing: once a second a worker shows its card, and its lanes are told what is paused."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from sagabus.errors import SagabusError
from sagabus.runtime.lane import Lane
from sagabus.store.protocol import Store
from sagabus.telemetry.card import DRAINING, PAUSED, WAITS, WORKING, WorkerCard
from sagabus.telemetry.counters import Counts


class Showing:
    """What one worker shows of itself. Used by one thread.

    A store that does not answer disturbs nobody: the worker goes on as it was told last, and shows itself a second
    later.

    Args:
        store: where to.
        worker: its name.
        endpoints: what it works through.
        lanes: those that are told.
        counts: returns what it has counted.
        draining: returns whether it was told to stop.
        log: a structlog logger.
    """

    def __init__(
        self,
        store: Store,
        *,
        worker: str,
        endpoints: Sequence[str],
        lanes: Sequence[Lane],
        counts: Callable[[], Counts],
        draining: Callable[[], bool],
        log: Any,
    ) -> None:
        self._store, self._lanes, self._counts, self._draining, self._log = store, lanes, counts, draining, log
        self._card = WorkerCard(
            worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            endpoints=tuple(endpoints),
            started_ms=time.time_ns() // 1_000_000,
        )
        self._told: frozenset[str] = frozenset()
        self._handled, self._shown_at = 0, time.monotonic()
        self._well = True

    def begin(self) -> None:
        """Learn what is paused before anything is received.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        self._obey(frozenset(self._store.presence.paused()))

    def step(self) -> None:
        """Show the card, and do what the answer says."""
        try:
            orders = self._store.presence.show(self._card_now())
        except SagabusError as error:
            if self._well:
                self._log.warning("not-shown", error=str(error))
            self._well = False
        else:
            self._well = True
            self._obey(orders.paused)

    def end(self) -> None:
        """Take the card away: nobody need look for this worker. Where the store does not answer it goes by itself."""
        if not self._well:
            return
        try:
            self._store.presence.leave(self._card.worker)
        except SagabusError as error:
            self._log.debug("not-shown", error=str(error))

    def _obey(self, paused: frozenset[str]) -> None:
        paused = paused.intersection(self._card.endpoints)
        for lane in self._lanes:
            lane.paused = paused
        if paused != self._told:
            for endpoint in sorted(paused - self._told):
                self._log.info("paused", endpoint=endpoint)
            for endpoint in sorted(self._told - paused):
                self._log.info("resumed", endpoint=endpoint)
            self._told = paused

    def _card_now(self) -> WorkerCard:
        counts, now = self._counts(), time.monotonic()
        handled = sum(each.handled for each in counts.values())
        passed_s = now - self._shown_at
        per_s = (handled - self._handled) / passed_s if passed_s > 0 else 0.0
        self._handled, self._shown_at = handled, now
        card = self._card
        return WorkerCard(
            card.worker,
            card.host,
            card.pid,
            card.endpoints,
            card.started_ms,
            state=self._state(),
            handled_per_s=per_s,
            counts=counts,
        )

    def _state(self) -> str:
        if self._draining():
            return DRAINING
        if any(lane.pulse.waits_for for lane in self._lanes):
            return WAITS
        return PAUSED if self._told.issuperset(self._card.endpoints) else WORKING
