"""Reading of envelopes, and of the bodies in them."""

from __future__ import annotations

from contextlib import suppress

import examples.credit_check.messages
from sagabus.envelope import Incoming, admit, decode, encode
from sagabus.errors import CodecError

assert examples.credit_check.messages


def target(data: bytes) -> None:
    """What is admitted is written and read again as it was, whatever is in its body."""
    with suppress(CodecError):
        decode(data)
    with suppress(CodecError):
        envelope = admit(data)
        again = admit(encode(envelope))
        assert again == envelope
        Incoming(envelope).message  # noqa: B018
