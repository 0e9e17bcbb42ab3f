"""Envelopes: one message on the wire as a CloudEvents 1.0 JSON object, and how ids are derived.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md; extension attributes are the lower-case names
below.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from sagabus.codec import MAX_DEPTH
from sagabus.errors import CodecError, ConfigurationError, HandlerMisuseError
from sagabus.messages import MessageType, registry, type_of
from sagabus.records import Entry
from sagabus.wire_json import check, check_numbers

MAX_BYTES: Final = 1_048_576
"""The size limit of one envelope, unless the bus says another."""
MAX_ID_LENGTH: Final = 200
"""The most characters of an id, and of every other name that may become part of a key."""
MAX_SOURCE_LENGTH: Final = 1000
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A number that scripts, MessagePack and other languages' JSON all keep as it is."""
Attempt = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)]
Source = Annotated[str, msgspec.Meta(max_length=MAX_SOURCE_LENGTH)]
SagaName = Annotated[str, msgspec.Meta(max_length=2 * MAX_ID_LENGTH + 1)]


_UNQUOTED: Final = re.compile("[A-Za-z0-9_.~-]*").fullmatch
"""What `quote` leaves as it is."""


class SagaKey(NamedTuple):
    """Which saga: the name of its class and its id."""

    name: str
    id: str

    def __str__(self) -> str:
        return f"{self.name}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> SagaKey:
        """Read what `str` wrote: the id is all behind the first slash."""
        name, slash, saga_id = text.partition("/")
        if not slash:
            raise ConfigurationError(f"{text!r} is no saga; write NAME/ID, as CreditCheck/42")
        return cls(name, saga_id)

    def tag(self) -> str:
        """Return the key in a form that is safe inside a Redis hash tag."""
        return f"{self.name}/{self.id if _UNQUOTED(self.id) else quote(self.id, safe='')}"

    @classmethod
    def from_tag(cls, tag: str) -> SagaKey:
        """Read what `tag` wrote."""
        name, _, saga_id = tag.partition("/")
        return cls(name, unquote(saga_id))


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message and what the runtime knows of it.

    Attributes:
        id: unique to the message; the same through redelivery, retries and copies to several subscribers.
        source: who sent it: `/ENDPOINT` or `/client`.
        type: the wire name of the message.
        time: when it was made, RFC 3339, UTC.
        data: the body, not yet decoded.
        dataversion: the version of the message class that wrote the body.
        correlationid: the id of the first message of the conversation.
        causationid: the id of the message whose handling sent this one.
        replyto: the endpoint that waits for a reply.
        replysaga: the saga that waits for a reply, as `name/id`.
        replylife: which life of it.
        saga: the saga that this message is for, where its sender knew.
        sagalife: which life of it; 0 for any.
        timer: the name of the timer that this is.
        attempt: how often handling it was begun, this time included; 1 the first time.
        traceparent: W3C trace context.
        signaturekey: the id of the key that signed it; empty where nobody has.
        signature: over all of it but itself and `attempt`, base64url.
        datacontenttype: JSON, where a foreign sender says what the body is.
        data_base64: nothing: bodies are no bytes.
    """

    specversion: Literal["1.0"]
    id: Name
    source: Source
    type: Name
    time: Name = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")
    dataversion: Count = 1
    correlationid: Name = ""
    causationid: Name = ""
    replyto: Name = ""
    replysaga: SagaName = ""
    replylife: Count = 0
    saga: SagaName = ""
    sagalife: Count = 0
    timer: Name = ""
    attempt: Attempt = 1
    traceparent: Name = ""
    signaturekey: Source = ""
    signature: Source = ""
    datacontenttype: str = ""
    data_base64: None = None

    def with_attempt(self, attempt: int) -> Envelope:
        """Return this envelope as it is sent for another try."""
        return msgspec.structs.replace(self, attempt=attempt)


_decoder: Final = msgspec.json.Decoder(Envelope)
_encoder: Final = msgspec.json.Encoder()


def encode(envelope: Envelope, max_bytes: int = MAX_BYTES) -> bytes:
    """Return *envelope* as CloudEvents JSON.

    Raises:
        CodecError: it is longer than *max_bytes*; reason `too-large`.
    """
    data = _encoder.encode(envelope)
    if len(data) > max_bytes:
        raise CodecError(
            f"{envelope.type} {envelope.id} is {len(data)} bytes, over the limit of {max_bytes}; "
            f"send a reference to the data instead, or raise max_message_bytes on the Bus",
            "too-large",
        )
    return data


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> Envelope:
    """Return the envelope that *data* holds; its body stays undecoded.

    This is for what we have written ourselves; `admit` is for what comes from anywhere.

    Raises:
        CodecError: it is no CloudEvents 1.0 JSON object, or too large.
    """
    if len(data) > max_bytes:
        raise CodecError(f"an envelope of {len(data)} bytes is over the limit of {max_bytes}", "too-large")
    try:
        envelope = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        if "length" in str(error):
            raise CodecError(f"{_TOO_LONG} ({error})") from error
        raise CodecError(f"no CloudEvents 1.0 envelope: {error}") from error
    if not envelope.id or not envelope.type:
        raise CodecError(f"an envelope needs a type, and an id of 1 to {MAX_ID_LENGTH} characters")
    return envelope


def admit(data: bytes, max_bytes: int = MAX_BYTES) -> Envelope:
    """Return the envelope that came off the wire as *data*; as `received`."""
    return received(data, max_bytes).envelope


def received(data: bytes, max_bytes: int = MAX_BYTES) -> Incoming:
    """Return what came off the wire as *data*. Its body stays undecoded, unless that is the quickest way to look at it.

    Attributes that are not known here are passed over, as CloudEvents asks of receivers, and do not survive a retry.

    Raises:
        CodecError: it is no CloudEvents 1.0 JSON object, too large, nested too deep, or JSON that readers could take
            for different things; or an attribute could be no part of a key, or has control characters.
    """
    if len(data) > max_bytes:
        raise CodecError(f"an envelope of {len(data)} bytes is over the limit of {max_bytes}", "too-large")
    try:
        envelope = decode(data, max_bytes)
    except CodecError:
        # What is wrong with it as JSON says more.
        check(data, MAX_DEPTH + 1)
        raise
    message = None
    if _encoder.encode(envelope) == data:
        # As we write it ourselves: there is nothing to look at but the body.
        body, kind = bytes(envelope.data), registry.find(envelope.type)
        message = None if kind is None else kind.codec.as_written(body, envelope.dataversion)
        if message is None:
            check(body)
        else:
            check_numbers(body)
    else:
        check(data, MAX_DEPTH + 1)
    if (
        b"\\" in data
        or b"\x7f" in data
        or not data.isascii()
        or len(envelope.saga + envelope.replysaga) > MAX_ID_LENGTH
    ):
        # Only then can a character be in it that is forbidden, or a part of a saga's name be too long.
        check_attributes(envelope)
    if envelope.datacontenttype:
        content = envelope.datacontenttype.partition(";")[0].strip().lower()
        if content and content != "application/json" and not content.endswith("+json"):
            raise CodecError(f"a body of {content[:50]!r} is not JSON; send application/json")
    return Incoming(envelope, message)


def check_attributes(envelope: Envelope) -> None:
    """Refuse an envelope whose attributes could be no parts of keys, or could forge a line where they are shown.

    Raises:
        CodecError: one is too long, or has a character that CloudEvents forbids in attributes.
    """
    e = envelope
    names = (e.id, e.type, e.replyto, e.timer, e.correlationid, e.causationid, e.time, e.traceparent)
    sagas = e.saga, e.replysaga
    long_names = e.source, e.signaturekey, e.signature
    if (
        max(map(len, names)) > MAX_ID_LENGTH
        or max(map(len, long_names)) > MAX_SOURCE_LENGTH
        or (max(map(len, sagas)) > MAX_ID_LENGTH and any(_is_long_saga(saga) for saga in sagas))
    ):
        raise CodecError(_TOO_LONG)
    text = "".join((*names, *sagas, *long_names))
    if not text.isprintable() and (found := _FORBIDDEN.search(text)):
        raise CodecError(f"an attribute has the character {found[0]!r}, which CloudEvents forbids there; leave it out")


_TOO_LONG: Final = (
    f"an attribute is too long: an id, a name or a saga's id has at most {MAX_ID_LENGTH} characters, a source or a "
    f"signature {MAX_SOURCE_LENGTH}; shorten it, or hash it"
)


def _is_long_saga(saga: str) -> bool:
    name, _, saga_id = saga.partition("/")
    return max(len(name), len(saga_id)) > MAX_ID_LENGTH


def check_saga_id(saga_id: str, subject: str) -> str:
    """Return *saga_id*, which has come out of a message's body.

    Args:
        subject: where it stood, for the error.

    Raises:
        CodecError: it is too long, or has a character that could stand in no attribute.
    """
    if len(saga_id) > MAX_ID_LENGTH:
        raise CodecError(f"{subject} has {len(saga_id)} characters; the id of a saga has at most {MAX_ID_LENGTH}")
    if not saga_id.isprintable() and (found := _FORBIDDEN.search(saga_id)):
        raise CodecError(f"{subject} has the character {found[0]!r}; the id of a saga goes without")
    return saga_id


def wrap(message: object, *, id: str, source: str, now_ms: int, checked: bool = False, **attributes: Any) -> Envelope:
    """Return *message* in an envelope; *attributes* are further fields of `Envelope`.

    Args:
        checked: whether the attributes come from an envelope that was admitted, and from names that were declared.

    Raises:
        CodecError: no receiver would admit it.
    """
    kind = type_of(message)
    if isinstance(message, type):
        raise HandlerMisuseError(
            f"{message.__qualname__} is a class; send a message of it: {message.__qualname__}(...)"
        )
    body = kind.codec.encode(message)
    if kind.codec.plain:
        check_numbers(body)
    else:
        check(body)
    envelope = Envelope(
        specversion="1.0",
        id=id,
        source=source,
        type=kind.name,
        time=rfc3339(now_ms),
        data=msgspec.Raw(body),
        dataversion=kind.version,
        **attributes,
    )
    if not checked:
        check_attributes(envelope)
    return envelope


@lru_cache(maxsize=64)
def rfc3339(ms: int) -> str:
    """Return a time in ms since 1970 as RFC 3339 text, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def chosen_id(given: str | None) -> str:
    """Return the message id that a sender has *given*, or a random one.

    Raises:
        ConfigurationError: it is none.
    """
    if given is None:
        return uuid.uuid4().hex
    if not 0 < len(given) <= MAX_ID_LENGTH:
        raise ConfigurationError(
            f"a message id has 1 to {MAX_ID_LENGTH} characters, this one {len(given)}; shorten it, or hash it"
        )
    return given


def derive_id(*parts: object) -> str:
    """Return the message id that follows from *parts*: the same for the same parts, in every process; 32 hex digits."""
    return id_of(joined(*parts))


def joined(*parts: object) -> str:
    """Return *parts* in one text, as `id_of` takes them. One that is empty at the end leaves room for what follows."""
    return "\x1f".join(map(str, parts))


def id_of(parts: str) -> str:
    """Return what `derive_id` does for parts that were joined before."""
    return blake2b(parts.encode(), digest_size=16).hexdigest()


class Incoming(Entry):
    """An envelope about to be handled; its message is decoded once, when first asked for."""

    envelope: Envelope
    _message: Any = None

    @property
    def id(self) -> str:
        """Return the message id."""
        return self.envelope.id

    @property
    def kind(self) -> MessageType:
        """Return the message type; raises CodecError where none has the name."""
        return registry.named(self.envelope.type)

    @property
    def message(self) -> Any:
        """Return the message; raises CodecError where the body does not fit its class."""
        if self._message is None:
            self._message = self.kind.codec.decode(self.envelope.data, self.envelope.dataversion)
        return self._message

    def __repr__(self) -> str:
        return f"Incoming({self.envelope.type} {self.envelope.id})"
