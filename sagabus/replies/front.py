"""The front of a bus: what requests and asynchronous sends do, over an entrance and a reply desk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Protocol

from sagabus import effects
from sagabus.errors import ConfigurationError, RequestTimeoutError
from sagabus.origin import ReplyAddress
from sagabus.outgoing import Outgoing
from sagabus.replies.desk import ReplyDesk, Wait
from sagabus.replies.entrance import Entrance
from sagabus.secrecy.signing import Signing
from sagabus.transport import Transport


class Writer(Protocol):
    """Makes the message that an effect asks for, under an id, with who waits for an answer."""

    def __call__(self, effect: effects.Effect, id_: str, reply_to: ReplyAddress | None = None, /) -> Outgoing: ...


class Front:
    """Waits for answers and for sends, without holding up an event loop. Thread-safe.

    Args:
        write: makes messages.
        enter: sends them and waits until they are sent.
        sending: returns what other sends are made in.
        transport: returns what carries them; may have to connect first.
        max_bytes: the size limit of an envelope.
        signing: how answers must be signed.
    """

    def __init__(
        self,
        write: Writer,
        enter: Callable[[Sequence[Outgoing]], list[str]],
        sending: Callable[[Sequence[Outgoing]], AbstractContextManager[None]],
        transport: Callable[[], Transport],
        *,
        max_bytes: int,
        signing: Signing | None,
    ) -> None:
        self._write, self._enter, self._sending = write, enter, sending
        self._entrance = Entrance(transport)
        self._desk = ReplyDesk(transport, max_bytes=max_bytes, signing=signing)

    async def send(self, outgoing: Outgoing) -> str:
        """Send a message and return its id."""
        with self._sending([outgoing]):
            return await asyncio.wrap_future(self._entrance.send(outgoing))

    async def call(self, function: Callable[[], Any]) -> Any:
        """Return what *function* returns, called in the thread that sends."""
        return await asyncio.wrap_future(self._entrance.call(function))

    async def request(self, message: Any, to: str | None, timeout_s: timedelta | float, id_: str) -> Any:
        """Send a message and return the answer; see `Bus.request`."""
        timeout_s = _seconds(timeout_s)
        wait, outgoing = self._written(message, to, id_)
        try:
            async with asyncio.timeout(timeout_s):
                with self._sending([outgoing]):
                    await asyncio.wrap_future(self._entrance.send(outgoing, self._desk.open))
                return await asyncio.wrap_future(wait.answer)
        except TimeoutError:
            raise _timed_out(outgoing, timeout_s) from None
        finally:
            self._desk.forget(wait)

    def ask(self, message: Any, to: str | None, timeout_s: timedelta | float, id_: str) -> Any:
        """Send a message and return the answer; see `Bus.ask`."""
        timeout_s = _seconds(timeout_s)
        give_up_at = time.monotonic() + timeout_s
        self._desk.open()
        wait, outgoing = self._written(message, to, id_)
        try:
            self._enter([outgoing])
            return wait.answer.result(max(give_up_at - time.monotonic(), 0.0))
        except TimeoutError:
            raise _timed_out(outgoing, timeout_s) from None
        finally:
            self._desk.forget(wait)

    def close(self) -> None:
        """Send what is in hand, and take the reply queue away."""
        self._entrance.close()
        self._desk.close()

    def _written(self, message: Any, to: str | None, id_: str) -> tuple[Wait, Outgoing]:
        wait = self._desk.wait_for(id_)
        try:
            return wait, self._write(effects.Send(message, to), id_, wait.address)
        except BaseException:
            self._desk.forget(wait)
            raise


def _seconds(timeout: timedelta | float) -> float:
    timeout_s = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not 0 < timeout_s < float("inf"):
        raise ConfigurationError(f"timeout ({timeout_s:g} s) must be positive, and finite: an answer may never come")
    return timeout_s


def _timed_out(outgoing: Outgoing, timeout_s: float) -> RequestTimeoutError:
    assert outgoing.envelope is not None
    return RequestTimeoutError(outgoing.id, outgoing.envelope.type, outgoing.to, timeout_s)
