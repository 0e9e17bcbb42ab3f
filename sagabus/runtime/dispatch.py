"""Dispatch: send what leaves, mark it dispatched, ack, ask for the next batch; in that order, in one trip."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from sagabus.envelope import decode
from sagabus.errors import CodecError
from sagabus.runtime.burial import Burial
from sagabus.runtime.outbound import Outbound
from sagabus.store.protocol import Bookkeeping, DeadLetter, Store
from sagabus.telemetry.counters import Counters
from sagabus.transport import Delivery, Outlet, Parcel, Receiver, Refusal, Transport, outlet_of

_PRESSURE_S: Final = 1.0


class Dispatcher:
    """Dispatches for one lane.

    Where queues and store share a server, sends, bookkeeping and acks are one atomic write, in one round trip with the
    next receive. Elsewhere the sends are confirmed first, then the store notes them, then the deliveries are acked; a
    crash in between repeats sends, under the same message ids.

    Attributes:
        noting: what the store is still to note, with its next load; the acks that wait for that are made by `noted`.
    """

    def __init__(
        self,
        transport: Transport,
        receiver: Receiver,
        store: Store,
        *,
        log: Any,
        give_up: Callable[[], bool],
        burial: Burial | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._transport, self._receiver, self._store, self._log = transport, receiver, store, log
        self._give_up = give_up
        self._burial = burial or Burial()
        self._counters = counters or Counters({})
        server = transport.server
        self._shared = server is not None and server == store.server
        # A store of somebody else's, around ours or made from it, says for itself what its commits can do.
        self._sends = self._shared and vars(type(store)).get("sends", False)
        self.noting: Bookkeeping | None = None
        self._unacked: list[Delivery] = []
        self._received: list[Delivery] = []

    def exchange(
        self, outbound: Outbound, limit: int, wait_s: float, now_ms: int, shares: Mapping[str, int] | None = None
    ) -> list[Delivery]:
        """Dispatch *outbound* and return the next deliveries, up to *limit*, waiting up to *wait_s* seconds for them.

        Of each endpoint come as many as *shares* says, at most; where the transport is joint.

        A queue at its length limit slows this down by up to a second; then the message is sent all the same, for a
        worker that waited for ever could be what the queue waits for.
        """
        if self._shared:
            return self._exchange_shared(outbound, limit, wait_s, now_ms, shares)
        return self._exchange_split(outbound, limit, wait_s, now_ms, shares)

    def outlet(self) -> Outlet | None:
        """Return how the store may put messages into queues itself; None where they lie on another server."""
        return outlet_of(self._transport) if self._sends else None

    def noted(self) -> None:
        """Ack what waited for `noting`, which the store has noted."""
        # In this order: where the broker does not answer, all of it is made again.
        if self._unacked:
            self._receiver.exchange([], self._unacked, [], 0, 0.0)
            self._unacked = []
        self.noting = None

    # -- one server ----------------------------------------------------------------------------------------------

    def _exchange_shared(
        self, outbound: Outbound, limit: int, wait_s: float, now_ms: int, shares: Mapping[str, int] | None
    ) -> list[Delivery]:
        parcels = outbound.parcels
        pressed_at = time.monotonic()
        force = False
        while True:
            if self._received:
                limit, wait_s = 0, 0.0
            also = self._store.note_commands(outbound.bookkeeping())
            result = self._receiver.exchange(
                parcels, outbound.done, also, limit, wait_s, force=force, **_shared_out(shares)
            )
            # Kept where a later try raises: they are ours, and would wait for their claim to run out.
            self._received += result.deliveries
            limit, wait_s = 0, 0.0
            if not result.refused:
                received, self._received = self._received, []
                return received
            if Refusal.FULL in result.refused.values():
                force = self._press(parcels, result.refused, pressed_at)
            else:
                # All others were sent; what has nowhere to go is put on record before anything is acked.
                self._store.note(Bookkeeping(buried=self._homeless(parcels, result.refused, now_ms)))
                parcels = []

    # -- two servers ---------------------------------------------------------------------------------------------

    def _exchange_split(
        self, outbound: Outbound, limit: int, wait_s: float, now_ms: int, shares: Mapping[str, int] | None
    ) -> list[Delivery]:
        homeless = self._send(outbound.parcels, now_ms)
        book = outbound.bookkeeping()
        if homeless:
            self._store.note(Bookkeeping(buried=homeless))
        if (book.dispatched or book.indexed) and not (book.scheduled or book.buried) and limit:
            # Only marks, and notes: they can go with the load of the next batch, if there is one.
            if shares is not None:
                deliveries = self._receiver.exchange([], [], [], limit, 0.0, **_shared_out(shares)).deliveries
            else:
                deliveries = self._receiver.receive(limit, 0.0)
            if deliveries:
                self.noting, self._unacked = book, list(outbound.done)
                return deliveries
        if book:
            self._store.note(book)
        return self._receiver.exchange([], outbound.done, [], limit, wait_s, **_shared_out(shares)).deliveries

    def _send(self, parcels: list[Parcel], now_ms: int) -> tuple[DeadLetter, ...]:
        if not parcels:
            return ()
        pressed_at = time.monotonic()
        homeless: tuple[DeadLetter, ...] = ()
        force = False
        while refused := self._transport.send(parcels, force=force):
            homeless += self._homeless(parcels, refused, now_ms)
            if Refusal.FULL not in refused.values():
                break
            force = self._press(parcels, refused, pressed_at)
            parcels = [p for i, p in enumerate(parcels) if refused.get(i) is not Refusal.NO_ENDPOINT]
        return homeless

    # -- refusals ------------------------------------------------------------------------------------------------

    def _press(self, parcels: list[Parcel], refused: dict[int, Refusal], since: float) -> bool:
        """Wait a little for a full queue; return whether to send all the same."""
        waited_s = time.monotonic() - since
        if waited_s >= _PRESSURE_S or self._give_up():
            full = sorted({parcels[i].to for i, refusal in refused.items() if refusal is Refusal.FULL})
            self._log.warning("queue-full", queues=full, waited_s=round(waited_s, 2))
            return True
        time.sleep(min(0.01 + waited_s / 2, 0.2))
        return False

    def _homeless(self, parcels: list[Parcel], refused: dict[int, Refusal], now_ms: int) -> tuple[DeadLetter, ...]:
        letters = []
        for index, refusal in refused.items():
            if refusal is Refusal.NO_ENDPOINT:
                parcel = parcels[index]
                letter = self._burial.of_homeless(parcel.to, parcel.body, parcel.id, now_ms)
                self._log.error(
                    "dead-lettered",
                    **_sender_of(parcel),
                    reason=letter.reason,
                    error=letter.error,
                    message_id=letter.id,
                )
                letters.append(letter)
        self._counters.homeless(len(letters))
        return tuple(letters)


def _shared_out(shares: Mapping[str, int] | None) -> dict[str, Any]:
    """Return the argument that says how much is received for whom; receivers of one endpoint know no such."""
    return {} if shares is None else {"shares": shares}


def _sender_of(parcel: Parcel) -> dict[str, str]:
    """Return which endpoint has sent *parcel*, for a log line; nothing where it cannot be read."""
    try:
        return {"endpoint": decode(parcel.body, sys.maxsize).source.removeprefix("/")}
    except CodecError:
        return {}
