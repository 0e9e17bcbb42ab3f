"""A dead letter: one message that was given up, and all that is needed to understand it and to try again."""

from __future__ import annotations

from attrs import frozen


@frozen
class DeadLetter:
    """A message that was given up. Those of older versions have nothing from `context` on.

    Attributes:
        id: the message id; where it could not be read, one derived from its bytes.
        endpoint: whose queue it came from, or was meant for.
        reason: a stable word: `undecodable`, `unknown-type`, `unknown-version`, `too-large`, `no-handler`, `no-saga`,
            `no-endpoint`, `failed`, `killed-worker`, `timed-out`, `cancelled`, `corrupt` where what was stored of it is
            damaged, or that of another `CodecError`.
        error: what happened, in a line.
        traceback: where, for a handler that raised; else empty.
        attempts: how often handling it was begun.
        at_ms: when it was given up, ms since 1970, store's clock.
        body: the message as it came off the wire.
        type: its wire name, where it could be read.
        saga: the saga that it was for, as `name/id`, where known.
        context: the saga as it was then, a JSON object, see `saga_context`; empty where no saga was looked at.
        worker: who gave it up; empty where nobody was to handle it.
        host: the machine that the worker ran on.
        handler: the function that was to handle it, where known.
    """

    id: str
    endpoint: str
    reason: str
    error: str
    traceback: str
    attempts: int
    at_ms: int
    body: bytes
    type: str = ""
    saga: str = ""
    context: bytes = b""
    worker: str = ""
    host: str = ""
    handler: str = ""

    @property
    def name(self) -> str:
        """Return what tells it from all others: an event may be given up by several endpoints."""
        return f"{self.endpoint}/{self.id}"
