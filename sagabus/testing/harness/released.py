"""What left a saga in a test, as values that compare with `==`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from sagabus.envelope import Incoming, SagaKey, decode
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.saga import utc


@frozen
class Sent:
    """A command left for the endpoint `to`."""

    message: Any
    to: str


@frozen
class Published:
    """An event left."""

    message: Any


@frozen
class Replied:
    """An answer left, to the sender of a message or to who started the saga, at the endpoint `to`."""

    message: Any
    to: str


@frozen
class Deferred:
    """A timer was set.

    Attributes:
        due: when it is delivered, UTC.
        name: its name; empty where it has none.
    """

    message: Any
    due: datetime
    name: str = ""


Released = Sent | Published | Replied | Deferred


def read(outgoing: Outgoing) -> Released:
    """Return *outgoing* as a value."""
    envelope = decode(outgoing.body)
    message = Incoming(envelope).message
    if outgoing.kind is OutgoingKind.TIMER:
        return Deferred(message, utc(outgoing.due_ms), "" if envelope.timer == outgoing.id else envelope.timer)
    if outgoing.kind is OutgoingKind.EVENT:
        return Published(message)
    # Only answers are addressed to a saga; whoever gives a message in a test asks as one.
    return Replied(message, outgoing.to) if envelope.saga else Sent(message, outgoing.to)


@frozen
class Release:
    """One thing that left.

    Attributes:
        saga: which saga it left.
        effect: what it was.
        decided: whether it left with a decision, and not with facts.
    """

    saga: SagaKey
    effect: Released
    decided: bool


class Releases:
    """What has left so far, sorted in the ways that tests ask for."""

    def _released(self) -> Sequence[Release]:
        """Return all of it, in the order in which it left."""
        raise NotImplementedError

    @property
    def effects(self) -> list[Released]:
        """Return all that left, in order: `Sent`, `Published`, `Replied` and `Deferred`."""
        return [release.effect for release in self._released()]

    @property
    def sent(self) -> list[Any]:
        """Return the commands that left, in order; `effects` says where they went."""
        return [effect.message for effect in self.effects if isinstance(effect, Sent)]

    @property
    def published(self) -> list[Any]:
        """Return the events that left, in order."""
        return [effect.message for effect in self.effects if isinstance(effect, Published)]

    @property
    def replies(self) -> list[Any]:
        """Return the answers that left, in order."""
        return [effect.message for effect in self.effects if isinstance(effect, Replied)]

    @property
    def decisions(self) -> list[Any]:
        """Return the messages that left with decisions, in order: what `decide()` asked for and a settled saga kept."""
        return [release.effect.message for release in self._released() if release.decided]
