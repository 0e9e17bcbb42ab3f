"""The way in for code on an event loop: one thread sends, and what many tasks send at the same time leaves together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Final

from attrs import define, field

from sagabus.errors import QueueFullError, UnknownEndpointError
from sagabus.outgoing import Outgoing
from sagabus.replies.full_queue import FULL_WAIT_S, full_pause_s
from sagabus.transport import Parcel, Refusal, Transport

_MOST_AT_ONCE: Final = 500
_JOIN_S: Final = 15.0


@define(eq=False)
class Entry:
    """One message on its way in, or a call that is made between two sends.

    Attributes:
        done: set when the broker has it; cancelled, what has not left yet stays.
        parcel: the message.
        call: what is called instead of a send, where there is no parcel; its result is that of *done*.
        before: called before the send.
        waited_s: for how long its queue has been full.
        due: when to try again, on the monotonic clock.
    """

    parcel: Parcel | None = None
    call: Callable[[], Any] | None = None
    before: Callable[[], None] | None = None
    done: Future[Any] = field(factory=Future)
    waited_s: float = 0.0
    due: float = 0.0


class Entrance:
    """Sends for tasks that must not wait for a server themselves. Thread-safe; its thread is made at the first send.

    A message whose queue is full waits by itself, and holds up no other. A process that was forked has a thread of its
    own.

    Args:
        transport: returns what sends; called in the thread, for it may have to connect first.
    """

    def __init__(self, transport: Callable[[], Transport]) -> None:
        self._transport = transport
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Entry | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def send(self, outgoing: Outgoing, before: Callable[[], None] | None = None) -> Future[str]:
        """Have *outgoing* sent, and *before* called first; return what its id will be the result of."""
        entry = Entry(parcel=outgoing.parcel(), before=before)
        self._put(entry)
        return entry.done

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Have *function* called between two sends; return what will have its result."""
        entry = Entry(call=function)
        self._put(entry)
        return entry.done

    def _put(self, entry: Entry) -> None:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._inbox.put(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sagabus-entrance", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Send what is in hand and end the thread; a later send makes another one."""
        if self._pid != os.getpid():
            return
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._inbox.put(None)
        thread.join(_JOIN_S)

    # -- in a thread of its own ----------------------------------------------------------------------------------

    def _run(self) -> None:
        put_off: list[Entry] = []
        open_ = True
        while open_ or put_off:
            entries, open_ = self._take(put_off, open_)
            put_off = [entry for entry in put_off if entry not in entries]
            for entry in entries:
                if entry.parcel is None:
                    _make(entry)
            put_off += self._send([entry for entry in entries if entry.parcel is not None and _is_ready(entry)])

    def _take(self, put_off: Sequence[Entry], open_: bool) -> tuple[list[Entry], bool]:
        """Wait for what there is to do, and return it, and whether more will come."""
        due = min((entry.due for entry in put_off), default=None)
        entries: list[Entry] = []
        wait_s = None if due is None else max(due - time.monotonic(), 0.0)
        if not open_:
            time.sleep(wait_s or 0.0)
        else:
            try:
                entry = self._inbox.get(timeout=wait_s)
                while entry is not None and len(entries) < _MOST_AT_ONCE - 1:
                    entries.append(entry)
                    entry = self._inbox.get_nowait()
                if entry is None:
                    open_ = False
                else:
                    entries.append(entry)
            except Empty:
                # Everything that is there was taken.
                pass
        now = time.monotonic()
        return [*(entry for entry in put_off if entry.due <= now), *entries], open_

    def _send(self, entries: list[Entry]) -> list[Entry]:
        """Send *entries* and return those whose queue is full, to be tried again."""
        put_off: list[Entry] = []
        while entries:
            parcels = [entry.parcel for entry in entries if entry.parcel is not None]
            try:
                transport = self._transport()
                refused = transport.send(parcels)
                known = (
                    [queue.endpoint for queue in transport.queues()] if Refusal.NO_ENDPOINT in refused.values() else []
                )
            except Exception as error:
                for entry in entries:
                    entry.done.set_exception(error)
                return put_off
            full = Refusal.FULL in refused.values()
            left: list[Entry] = []
            for index, (entry, parcel) in enumerate(zip(entries, parcels, strict=True)):
                if refused.get(index) is Refusal.NO_ENDPOINT:
                    entry.done.set_exception(UnknownEndpointError(parcel.to, known))
                elif refused.get(index) is Refusal.FULL:
                    put_off += _put_off(entry, parcel)
                elif full:
                    # Where one queue is full nothing was sent, to no other either.
                    left.append(entry)
                else:
                    entry.done.set_result(parcel.id)
            entries = left
        return put_off


def _is_ready(entry: Entry) -> bool:
    """Return whether *entry* is to be sent now: nobody has cancelled it, and what comes before has been done."""
    if entry.due:
        return True
    if not entry.done.set_running_or_notify_cancel():
        return False
    try:
        if entry.before is not None:
            entry.before()
    except Exception as error:
        entry.done.set_exception(error)
        return False
    return True


def _put_off(entry: Entry, parcel: Parcel) -> list[Entry]:
    """Return *entry*, to be tried again later; nothing where it has waited long enough."""
    if entry.waited_s >= FULL_WAIT_S:
        entry.done.set_exception(QueueFullError(parcel.to, entry.waited_s))
        return []
    pause_s = full_pause_s(entry.waited_s)
    entry.waited_s += pause_s
    entry.due = time.monotonic() + pause_s
    return [entry]


def _make(entry: Entry) -> None:
    """Make the call that *entry* is."""
    assert entry.call is not None
    if not entry.done.set_running_or_notify_cancel():
        return
    try:
        entry.done.set_result(entry.call())
    except Exception as error:
        entry.done.set_exception(error)
