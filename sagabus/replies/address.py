"""Reply addresses: what stands in `replyto` of a request, and which request an answer is for.

An address names the reply queue of one process: `~HOST-PID-RANDOM`. No endpoint has such a name. Which request an
answer is for travels as the "saga" that waits there, `client/ID`: replies carry it back, those to the starter of a saga
too.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Final

from sagabus.envelope import Envelope

PREFIX: Final = "~"
"""What every reply address begins with, and no endpoint does."""
_CLIENT: Final = "client"
_MOST_OF_A_HOST: Final = 64


def new_address() -> str:
    """Return an address that no other process has, nor this one had before."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname()[:_MOST_OF_A_HOST])
    return f"{PREFIX}{host}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def is_reply_address(name: str) -> bool:
    """Return whether *name* is that of a reply queue, and not of an endpoint."""
    return name.startswith(PREFIX)


def waiting_for(request_id: str) -> str:
    """Return what waits for the answer to a request, as `replysaga` says it."""
    return f"{_CLIENT}/{request_id}"


def answered_by(envelope: Envelope) -> str:
    """Return the id of the request that *envelope* answers."""
    name, _, request_id = envelope.saga.partition("/")
    # Who answers in another language may say only what caused the answer.
    return request_id if name == _CLIENT else envelope.causationid
