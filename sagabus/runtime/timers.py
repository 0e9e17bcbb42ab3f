"""The pump: sends what waits in the store when its time has come, and keeps house. Every worker has one."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from sagabus.bus import Bus
from sagabus.errors import SagabusError
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.runtime.burial import Burial
from sagabus.runtime.housekeeping import Housekeeping
from sagabus.store.protocol import Bookkeeping, DeadLetter, Scheduled
from sagabus.telemetry.counters import Counters
from sagabus.transport import Parcel, Refusal

POLL_S: Final = 0.1
_BATCH: Final = 256
_LONGEST_LEASE_S: Final = 10.0
_TROUBLE_WAIT_S: Final = 1.0


class TimerPump:
    """Moves due messages from the store into their queues.

    A message is sent, confirmed, and only then forgotten: one that is sent twice has the same id both times.

    Attributes:
        counters: count what could not be sent.
    """

    def __init__(self, bus: Bus, *, log: Any, worker: str = "") -> None:
        self._bus, self._log = bus, log
        # Who does not answer for as long as a claim lasts is taken for gone, here as there.
        self._lease_s = min(_LONGEST_LEASE_S, bus.claim_s)
        self._burial = Burial(worker)
        self.counters = Counters({})
        self._housekeeping = Housekeeping(bus, worker, log=log)

    def run(self, stop: threading.Event) -> None:
        """Pump until *stop* is set."""
        while not stop.is_set():
            try:
                moved = self.pump()
                self._housekeeping.step(time.monotonic())
            except SagabusError as error:
                self._log.error("timers-waiting", error=str(error))
                stop.wait(_TROUBLE_WAIT_S)
            else:
                if moved < _BATCH:
                    stop.wait(POLL_S)

    def pump(self) -> int:
        """Send up to a batch of what is due; return how many messages were due."""
        due = self._bus.store.due(_BATCH, self._lease_s)
        damaged = [item for item in due if item.unreadable]
        whole = [item for item in due if not item.unreadable] if damaged else due
        through, homeless = self._send(whole) if whole else ([], [])
        if through or damaged:
            letters = self._letters(homeless, damaged) if homeless or damaged else ()
            ids = tuple(item.id for item in (*through, *damaged))
            self._bus.store.note(Bookkeeping(unscheduled=ids, buried=letters))
            self.counters.homeless(len(letters))
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

    def _letters(self, homeless: list[Scheduled], damaged: list[Scheduled]) -> tuple[DeadLetter, ...]:
        # Given up now, however long ago it was due: letters expire by when they were given up.
        now_ms, _ = self._bus.store.next_due_ms()
        return (
            *(self._letter(item, now_ms) for item in homeless),
            *(self._letter_of_damaged(item, now_ms) for item in damaged),
        )

    def _letter(self, item: Scheduled, now_ms: int) -> DeadLetter:
        letter = self._burial.of_homeless(item.endpoint, item.body, item.id, now_ms)
        self._log.error("dead-lettered", reason=letter.reason, error=letter.error, message_id=letter.id)
        return letter

    def _letter_of_damaged(self, item: Scheduled, now_ms: int) -> DeadLetter:
        """Put on record what cannot be sent, as nobody knows where to: its bytes, and the id they were found under."""
        name = item.id.encode(errors="surrogateescape").decode(errors="backslashreplace")
        error = (
            f"the store keeps something under {name!r} until its time that cannot be read ({item.unreadable}); "
            f"the body is what was there: send its message again, or restore the store from a backup"
        )
        letter = self._burial.of_body("", item.body, name, now_ms, "corrupt", error)
        self._log.error("dead-lettered", reason=letter.reason, error=letter.error, message_id=letter.id)
        return letter


def _parcel(item: Scheduled) -> Parcel:
    return Outgoing(OutgoingKind.COMMAND, item.endpoint, item.id, item.partition_key or item.id, item.body).parcel()
