"""The reply desk: who in this process waits for which answer, and the one thread that hands the answers out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from sagabus.envelope import Envelope, Incoming, admit
from sagabus.errors import CodecError, RequestError, RequestFailedError, SagabusError, UntrustedError
from sagabus.origin import ReplyAddress
from sagabus.replies.address import answered_by, new_address, waiting_for
from sagabus.replies.failure import FAILED
from sagabus.secrecy.signing import Signing
from sagabus.transport import Parcel, ParcelKind, ReplyQueue, Transport, reply_queue_of

_WAIT_S: Final = 5.0
_TROUBLE_WAIT_S: Final = 1.0
_JOIN_S: Final = 2.0
_RETRY_BYTES: Final = 64
_WAKE: Final = b""
"""No message: says to a desk that is closing that it need not wait for one."""


class Wait:
    """One request that is waited for.

    Attributes:
        address: what its message says of who waits.
        answer: the reply, a message; set by the thread of the desk.
    """

    __slots__ = ("address", "answer", "request_id")

    def __init__(self, request_id: str, endpoint: str) -> None:
        self.request_id = request_id
        self.address = ReplyAddress(endpoint, waiting_for(request_id))
        self.answer: Future[Any] = Future()


class ReplyDesk:
    """Has one reply queue for all requests of this process, made when the first of them is sent. Thread-safe.

    A process that was forked has a desk of its own.

    Args:
        transport: returns what has the queue.
        max_bytes: the size limit of an envelope.
        signing: how answers must be signed; None takes all of them.
    """

    def __init__(self, transport: Callable[[], Transport], *, max_bytes: int, signing: Signing | None) -> None:
        self._transport, self._max_bytes, self._signing = transport, max_bytes, signing
        self._forget_all()

    def _forget_all(self) -> None:
        self._pid = os.getpid()
        self._address = new_address()
        self._lock = threading.Lock()
        self._waits: dict[str, list[Wait]] = {}
        self._queue: ReplyQueue | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def _own(self) -> None:
        """Begin anew in a process that was forked: the queue is its parent's, and the thread is not here."""
        if self._pid != os.getpid():
            self._forget_all()

    def wait_for(self, request_id: str) -> Wait:
        """Return a wait for the answer to a request that is about to be sent; give it to `forget` in the end."""
        self._own()
        with self._lock:
            wait = Wait(request_id, self._address)
            self._waits.setdefault(request_id, []).append(wait)
        return wait

    def forget(self, wait: Wait) -> None:
        """Wait no longer: an answer that comes later is dropped."""
        with self._lock:
            waits = self._waits.get(wait.request_id, [])
            if wait in waits:
                waits.remove(wait)
            if not waits:
                self._waits.pop(wait.request_id, None)

    def open(self) -> None:
        """Make sure that the queue is there; before a request is sent.

        Raises:
            ConfigurationError: the transport has no reply queues.
            UnavailableError: the broker does not answer.
        """
        self._own()
        with self._lock:
            if self._thread is None:
                self._queue = reply_queue_of(self._transport(), self._address)
                self._thread = threading.Thread(
                    target=self._run, args=(self._queue,), name="sagabus-replies", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Take the queue away, and tell whoever still waits. A later request makes another one."""
        if self._pid != os.getpid():
            return
        with self._lock:
            thread, queue = self._thread, self._queue
            if thread is None or queue is None:
                return
            self._closing.set()
            left = [wait for waits in self._waits.values() for wait in waits]
        try:
            self._transport().send([Parcel(ParcelKind.COMMAND, self._address, _WAKE, "", "wake")])
        except SagabusError as error:
            self._log().debug("not-woken", error=str(error))
        thread.join(_WAIT_S + _JOIN_S)
        try:
            queue.close()
        except SagabusError as error:
            # It expires, or goes with its connection.
            self._log().warning("reply-queue-left", error=str(error))
        self._forget_all()
        for wait in left:
            _settle(
                wait.answer,
                error=RequestError(
                    wait.request_id,
                    f"the bus was closed while an answer to {wait.request_id} was waited for; what was sent goes on, "
                    f"so ask for its outcome later",
                ),
            )

    # -- in a thread of its own ----------------------------------------------------------------------------------

    def _run(self, queue: ReplyQueue) -> None:
        while not self._closing.is_set():
            try:
                bodies = queue.receive(_WAIT_S)
            except SagabusError as error:
                self._log().warning("no-replies", error=str(error))
                self._closing.wait(_TROUBLE_WAIT_S)
                continue
            for body in bodies:
                if body != _WAKE:
                    self._hand_out(body)

    def _hand_out(self, body: bytes) -> None:
        try:
            envelope = admit(body, self._max_bytes + _RETRY_BYTES)
            self._check(envelope)
        except CodecError as error:
            self._log().warning("reply-refused", error=str(error))
            return
        with self._lock:
            waits = self._waits.pop(answered_by(envelope), [])
        if not waits:
            self._log().debug("late-reply", message_id=envelope.id, message_type=envelope.type)
            return
        try:
            message = Incoming(envelope).message
        except CodecError as error:
            for wait in waits:
                _settle(wait.answer, error=error)
            return
        for wait in waits:
            if envelope.type == FAILED:
                _settle(
                    wait.answer,
                    error=RequestFailedError(wait.request_id, message.endpoint, message.reason, message.error),
                )
            else:
                _settle(wait.answer, message)

    def _check(self, envelope: Envelope) -> None:
        if self._signing is None:
            return
        try:
            self._signing.check(envelope, self._address)
        except UntrustedError as error:
            if self._signing.demand:
                raise
            self._log().warning("untrusted", error=str(error), taken=True)

    def _log(self) -> Any:
        from sagabus.observe.log import get_logger

        return get_logger().bind(reply_queue=self._address)


def _settle(answer: Future[Any], message: Any = None, error: Exception | None = None) -> None:
    """Set what was waited for, unless nobody waits any more."""
    if not answer.set_running_or_notify_cancel():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(message)
