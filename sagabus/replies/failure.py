"""What tells a waiting process that its request was dead-lettered, so that it need not wait for its time-out."""

from __future__ import annotations

import sys
from typing import Final

from sagabus.envelope import Envelope, derive_id, encode, wrap
from sagabus.messages import message
from sagabus.secrecy.signing import Signing, signed
from sagabus.transport import Parcel, ParcelKind

FAILED: Final = "sagabus.RequestFailed"
"""The wire name of RequestFailed."""


@message(FAILED)
class RequestFailed:
    """Say that a request is a dead letter. Posted by the runtime.

    Attributes:
        endpoint: where.
        reason: the reason of the dead letter.
        error: what went wrong, in a line.
    """

    endpoint: str
    reason: str
    error: str


def failure_notice(
    request: Envelope, endpoint: str, reason: str, error: str, now_ms: int, signing: Signing | None
) -> Parcel:
    """Return the answer to a *request* that was given up at *endpoint*, to the reply queue that waits for one.

    Args:
        now_ms: the time, ms since 1970.
    """
    id_ = derive_id(endpoint, "request-failed", request.id)
    envelope = wrap(
        RequestFailed(endpoint, reason, error),
        id=id_,
        source=f"/{endpoint}",
        now_ms=now_ms,
        checked=True,
        correlationid=request.correlationid or request.id,
        causationid=request.id,
        saga=request.replysaga,
        traceparent=request.traceparent,
    )
    body = encode(signed(signing, envelope, request.replyto), sys.maxsize)
    return Parcel(ParcelKind.COMMAND, request.replyto, body, request.id, id_)
