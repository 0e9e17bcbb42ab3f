"""What a commit came out as, in a few bytes: history keeps it, so that a replay can tell whether today's code agrees.

Bodies and states are hashed, never kept: equal ones have equal bytes (`sagabus.codec`). What differs from run to run
(the ids and times of messages) is left out. `HalfDigest` is stored as it stands, and read for ever.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from sagabus.commit import Commit, Half
from sagabus.envelope import Envelope
from sagabus.outgoing import Outgoing, OutgoingKind

_SIZE: Final = 8


class EffectDigest(msgspec.Struct, array_like=True, frozen=True):
    """One thing that a half asked for.

    Attributes:
        kind: what was done with it; None for the cancellation of a timer.
        to: the endpoint or the topic; of a cancellation, the name of the timer.
        type: the wire name of the message; empty for a cancellation.
        body: the hash of its body, and of a timer's name and time.
    """

    kind: OutgoingKind | None
    to: str
    type: str = ""
    body: bytes = b""


class HalfDigest(msgspec.Struct, array_like=True, frozen=True):
    """Facts or a decision, as history keeps them.

    Attributes:
        state: the hash of the state after it; empty where it has none.
        effects: what it asked for, in order.
        completes: of a decision: whether it ends the saga.
    """

    state: bytes
    effects: tuple[EffectDigest, ...] = ()
    completes: bool = False


class _Said(msgspec.Struct):
    """What of an envelope is the sender's own."""

    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    timer: str = ""


_said: Final = msgspec.json.Decoder(_Said)


def digests(commit: Commit) -> tuple[HalfDigest, HalfDigest | None]:
    """Return the digests of the facts and of the decision of *commit*; None where it has no decision."""
    decision = commit.decision
    return _half(commit.facts, False), None if decision is None else _half(decision, commit.completes)


def hashed(data: bytes | msgspec.Raw) -> bytes:
    """Return the hash of *data*, 8 bytes."""
    return blake2b(data, digest_size=_SIZE).digest()


def effect(message: Outgoing) -> EffectDigest:
    """Return the digest of one outgoing message."""
    said: _Said | Envelope = message.envelope or _said.decode(message.body)
    data: bytes | msgspec.Raw = said.data
    if message.kind is OutgoingKind.TIMER:
        # A timer without a name is named after its id.
        name = "" if said.timer == message.id else said.timer
        data = b"%d %s %s" % (message.due_ms, name.encode(), bytes(data))
    return EffectDigest(message.kind, message.to, said.type, hashed(data))


def _half(half: Half, completes: bool) -> HalfDigest:
    effects: tuple[EffectDigest, ...] = ()
    for messages in half.outgoing.values():
        effects += tuple(map(effect, messages))
    for name in half.cancelled:
        effects += (EffectDigest(None, name),)
    return HalfDigest(b"" if half.state is None else hashed(half.state), effects, completes)
