"""The pump: sends what waits in the store when its time has come. Every worker has one; a lease keeps them apart."""

from __future__ import annotations

import threading
from typing import Any, Final

from sagabus.bus import Bus
from sagabus.errors import SagabusError
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.runtime.dispatch import homeless_letter
from sagabus.store.protocol import Bookkeeping, DeadLetter, Scheduled
from sagabus.transport import Parcel, Refusal

POLL_S: Final = 0.1
_BATCH: Final = 256
_LEASE_S: Final = 10.0
_TROUBLE_WAIT_S: Final = 1.0


class TimerPump:
    """Moves due messages from the store into their queues.

    A message is sent, confirmed, and only then forgotten: one that is sent twice has the same id both times.
    """

    def __init__(self, bus: Bus, *, log: Any) -> None:
        self._bus, self._log = bus, log

    def run(self, stop: threading.Event) -> None:
        """Pump until *stop* is set."""
        while not stop.is_set():
            try:
                moved = self.pump()
            except SagabusError as error:
                self._log.error("timers-waiting", error=str(error))
                stop.wait(_TROUBLE_WAIT_S)
            else:
                if moved < _BATCH:
                    stop.wait(POLL_S)

    def pump(self) -> int:
        """Send up to a batch of what is due; return how many messages were due."""
        due = self._bus.store.due(_BATCH, _LEASE_S)
        if not due:
            return 0
        through, homeless = self._send(due)
        if through:
            letters = tuple(self._letter(item) for item in homeless)
            self._bus.store.note(Bookkeeping(unscheduled=tuple(item.id for item in through), buried=letters))
        return len(due)

    def _send(self, due: list[Scheduled]) -> tuple[list[Scheduled], list[Scheduled]]:
        """Send *due*; return what need not be sent again, and which part of that has nowhere to go.

        What is for a full queue stays until its lease ends, and holds up nothing that is for others.
        """
        refused = self._bus.transport.send([_parcel(item) for item in due])
        homeless = [due[i] for i, refusal in refused.items() if refusal is Refusal.NO_ENDPOINT]
        if Refusal.FULL not in refused.values():
            return due, homeless
        others = [item for i, item in enumerate(due) if i not in refused]
        through, more = self._send(others) if others else ([], [])
        return [*homeless, *through], [*homeless, *more]

    def _letter(self, item: Scheduled) -> DeadLetter:
        letter = homeless_letter(item.endpoint, item.body, item.id, item.due_ms)
        self._log.error("dead-lettered", reason=letter.reason, error=letter.error, message_id=letter.id)
        return letter


def _parcel(item: Scheduled) -> Parcel:
    return Outgoing(OutgoingKind.COMMAND, item.endpoint, item.id, item.partition_key or item.id, item.body).parcel()
