"""What a store may hold: states, outboxes, records and history, waiting messages and dead letters."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from examples.credit_check.saga import CreditCheck
from sagabus.codec import plain_state, shown_state
from sagabus.commit import Want
from sagabus.definition import definition_of
from sagabus.documents.key import DocumentKey
from sagabus.envelope import SagaKey
from sagabus.errors import CodecError, CorruptDocumentError
from sagabus.outgoing import from_lines
from sagabus.store import redis_documents, redis_letters, redis_timers
from sagabus.store.layout import history_entry, snapshot

_STATES: Final = definition_of(CreditCheck).codec
_WANT: Final = Want(SagaKey("CreditCheck", "1"), ("m",))


def target(data: bytes) -> None:
    """Each is read, or refused with the error that is documented."""
    for read in (_STATES.decode, plain_state, from_lines, history_entry):
        with suppress(CodecError):
            read(data)
    shown_state(data)
    half = data[: len(data) // 2]
    fields = [b"m", data, b"tname", half, b"va:1", half, b"s", data]
    with suppress(CodecError):
        snapshot(_WANT, 1, fields, [data])
    with suppress(CorruptDocumentError):
        redis_documents._stored(DocumentKey("d"), [b"m", data, b"va:1", data])
    redis_timers.read_row(half, data)
    redis_letters._read(half, data)
