"""The copy of a dead letter that is sent again: the message as it was, or with another body, and attempts anew."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from attrs import field, frozen

from sagabus import envelope as envelopes
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.patch import changes
from sagabus.envelope import Envelope, Incoming
from sagabus.errors import CodecError, UnreadableDeadLetterError
from sagabus.messages import registry, type_of
from sagabus.secrecy.signing import Signing, signed
from sagabus.transport import Parcel, ParcelKind

_UNREADABLE: Final = frozenset({"undecodable", "unknown-type", "unknown-version", "too-large", "too-deep"})
_RETRY_BYTES: Final = 64
"""What the count of its attempts had added to an envelope that was as large as it may be."""


@frozen
class Copy:
    """What leaves for a dead letter.

    Attributes:
        letter: the letter.
        envelope: the message, its attempts begun anew.
        to: the endpoint that it goes to.
        details: what the audit line says beside that it was sent.
        edited: whether its body is another.
    """

    letter: DeadLetter
    envelope: Envelope
    to: str
    details: Mapping[str, Any] = field(factory=dict)
    edited: bool = False

    def parcel(self) -> Parcel:
        """Return it as a transport takes it."""
        key = self.envelope.saga.partition("/")[2] or self.envelope.id
        body = envelopes.encode(self.envelope, sys.maxsize)
        return Parcel(ParcelKind.COMMAND, self.to, body, key, self.envelope.id)


def as_it_was(letter: DeadLetter, max_bytes: int, *, to: str | None = None, signing: Signing | None = None) -> Copy:
    """Return the copy of *letter* under its own id, with the signature that it had, or for another endpoint a new one.

    Args:
        max_bytes: the size limit of an envelope.
        to: another endpoint than the one it was for.
        signing: how this bus signs; None for not at all.

    Raises:
        UnreadableDeadLetterError: it could not be read, and cannot be read by the code that runs here either; or it is
            not to be trusted, and would not be there either.
    """
    moved = to not in (None, "", letter.endpoint)
    try:
        if letter.reason in _UNREADABLE:
            envelope = envelopes.admit(letter.body, max_bytes + _RETRY_BYTES)
            Incoming(envelope).message  # noqa: B018 - raises where the body does not fit
        else:
            envelope = _read(letter)
        if signing is not None and signing.demand and (moved or letter.reason == "untrusted"):
            # Nothing that we sign may be what we would not have taken.
            signing.check(envelope, letter.endpoint)
    except CodecError as error:
        raise UnreadableDeadLetterError(letter.id, error) from error
    if not moved or to is None:
        return Copy(letter, envelope.with_attempt(1), letter.endpoint)
    return Copy(letter, signed(signing, envelope.with_attempt(1), to), to, {"to": to})


def edited(
    letter: DeadLetter,
    message: Any,
    max_bytes: int,
    *,
    to: str | None = None,
    new_id: str = "",
    now_ms: int = 0,
    signing: Signing | None = None,
) -> Copy:
    """Return the copy of *letter* that carries *message*, which need not be of the type that it was.

    It keeps its id, so that sagas which have handled it pass it over; under a new one they handle it once more.

    Args:
        max_bytes: the size limit of an envelope.
        to: another endpoint than the one it was for.
        new_id: the id to give it; empty leaves it its own.
        now_ms: when it is made, where nothing of the letter can be read, ms since 1970.
        signing: how this bus signs; None for not at all.

    Raises:
        CodecError: it is too large.
    """
    kind = type_of(message)
    made = envelopes.wrap(message, id=new_id or letter.id, source="/client", now_ms=now_ms)
    try:
        before: Envelope | None = envelopes.admit(letter.body, sys.maxsize)
    except CodecError:
        before = None
    envelope = made
    if before is not None:
        envelope = msgspec.structs.replace(
            before, id=new_id or before.id, type=kind.name, data=made.data, dataversion=kind.version, attempt=1
        )
    where = to or letter.endpoint
    envelope = signed(signing, envelope, where)
    envelopes.encode(envelope, max_bytes)
    details = changes(bytes(before.data) if before else letter.body, bytes(made.data))
    details |= {"new_id": new_id} if new_id else {}
    details |= {"to": where} if where != letter.endpoint else {}
    return Copy(letter, envelope, where, details, edited=True)


def message_of(letter: DeadLetter, body: bytes, type_name: str | None = None) -> Any:
    """Return the message that *body*, JSON, is for *letter*, checked against its class.

    Args:
        type_name: its wire name, where the letter's own cannot be read or shall be another.

    Raises:
        UnreadableDeadLetterError: neither the letter nor the caller says which type it has.
        CodecError: no class has that name, or the body does not fit it.
    """
    name = type_name or letter.type
    if not name:
        raise UnreadableDeadLetterError(letter.id, "nor can its type: say which it has, with --type")
    return registry.named(name).codec.given(body)


def _read(letter: DeadLetter) -> Envelope:
    return envelopes.decode(letter.body, sys.maxsize)
