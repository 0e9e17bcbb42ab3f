"""Outgoing messages as the outbox keeps them: one line of JSON each, readable for ever."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from sagabus.envelope import Envelope, SagaKey, derive_id, encode, rfc3339
from sagabus.errors import CodecError
from sagabus.messages import MERGE
from sagabus.records import RecordWithAside
from sagabus.secrecy.signing import Signing, signed
from sagabus.transport import Parcel, ParcelKind


class OutgoingKind(enum.Enum):
    """What is to be done with an outgoing message."""

    COMMAND = "c"
    EVENT = "e"
    TIMER = "t"


class Outgoing(RecordWithAside, frozen=True):
    """One message that a commit released, or will.

    Attributes:
        kind: to an endpoint, to the subscribers of a topic, or to an endpoint when it is due.
        to: the endpoint or the topic.
        id: the message id.
        partition_key: keeps messages for one saga in one partition.
        body: the envelope, JSON.
        due_ms: when a timer is due, ms since 1970, store's clock; 0 for the others.
        envelope: what *body* holds, where it was made here.
    """

    kind: OutgoingKind
    to: str
    id: str
    partition_key: str
    body: bytes
    due_ms: int = 0
    envelope: Envelope | None = None

    def parcel(self) -> Parcel:
        """Return this command or event as a transport takes it."""
        kind = ParcelKind.EVENT if self.kind is OutgoingKind.EVENT else ParcelKind.COMMAND
        return Parcel(kind, self.to, self.body, self.partition_key, self.id)


_line_encoder: Final = msgspec.json.Encoder()
_line_decoder: Final = msgspec.json.Decoder(tuple[OutgoingKind, str, str, str, int, msgspec.Raw])
MERGE_LINE: Final = b"M"
"""Stands in an outbox for the MergeSagaState that the store posted; `posted_merge` makes the message of it."""


def _line(message: Outgoing) -> bytes:
    m = message
    return _line_encoder.encode((m.kind, m.to, m.id, m.partition_key, m.due_ms))[:-1] + b"," + m.body + b"]\n"


def to_lines(messages: Iterable[Outgoing]) -> bytes:
    """Return *messages* as lines of JSON, each ended by a newline."""
    return b"".join(map(_line, messages))


def from_lines(lines: bytes) -> tuple[list[Outgoing], bool]:
    """Return the messages that *lines* hold, and whether a posted MergeSagaState is among them.

    Raises:
        CodecError: a line cannot be read.
    """
    messages, merge = [], False
    for line in lines.splitlines():
        if line == MERGE_LINE:
            merge = True
        else:
            try:
                kind, to, id_, partition_key, due_ms, body = _line_decoder.decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise CodecError(f"a line of an outbox cannot be read: {error}") from error
            messages.append(Outgoing(kind, to, id_, partition_key, bytes(body), due_ms))
    return messages, merge


def merge_id(key: SagaKey, life: int, last_id: str) -> str:
    """Return the id of the MergeSagaState that a commit whose last message was *last_id* posts."""
    return derive_id("merge", key, life, last_id)


def posted_merge(
    key: SagaKey,
    life: int,
    last_id: str,
    endpoint: str,
    now_ms: int,
    signing: Signing | None = None,
    traceparent: str = "",
) -> Outgoing:
    """Return the MergeSagaState that the store posted with the commit whose last message was *last_id*.

    Args:
        traceparent: the trace context of that message.
    """
    id_ = merge_id(key, life, last_id)
    envelope = Envelope(
        specversion="1.0",
        id=id_,
        source=f"/{endpoint}",
        type=MERGE,
        time=rfc3339(now_ms),
        causationid=last_id,
        correlationid=last_id,
        saga=str(key),
        sagalife=life,
        traceparent=traceparent,
    )
    return Outgoing(OutgoingKind.COMMAND, endpoint, id_, key.id, encode(signed(signing, envelope, endpoint)))
