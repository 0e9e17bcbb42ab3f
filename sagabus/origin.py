"""Where messages come from: turns the effects that a handler asked for into outgoing messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import field

from sagabus import effects
from sagabus.envelope import MAX_BYTES, Envelope, encode, wrap
from sagabus.errors import HandlerMisuseError, NoRouteError
from sagabus.messages import type_of
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.records import Record
from sagabus.secrecy.signing import Signing, signed


class ReplyAddress(Record, frozen=True):
    """Who waits for an answer.

    Attributes:
        endpoint: the endpoint; empty where nobody waits.
        saga: the saga there, as `name/id`; empty for none.
        life: which life of it.
    """

    endpoint: str = ""
    saga: str = ""
    life: int = 0


class Origin(Record, frozen=True):
    """A saga, a consumer or a client, as the sender of messages.

    Attributes:
        endpoint: whose handler runs; empty for a client.
        routes: wire name -> endpoint, for sends that do not say where.
        saga: the saga that sends, as `name/id`; empty for a consumer.
        life: which life of it.
        partition_key: keeps what this origin sends in one partition.
        max_bytes: the size limit of an envelope.
        signing: how its messages are signed; None for not at all.
    """

    endpoint: str
    routes: Mapping[str, str] = field(default_factory=dict)
    saga: str = ""
    life: int = 0
    partition_key: str = ""
    max_bytes: int = MAX_BYTES
    signing: Signing | None = None

    def outgoing(
        self,
        effect: effects.Effect,
        id_: str,
        now_ms: int,
        *,
        cause: Envelope | None,
        starter: ReplyAddress | None = None,
        reply_to: ReplyAddress | None = None,
        traceparent: str = "",
    ) -> Outgoing:
        """Return the message that *effect* asks for.

        Args:
            id_: what the message is called.
            now_ms: the time, ms since 1970.
            cause: the message being handled; None for a client.
            starter: who started the saga.
            reply_to: who gets the answer, where it is not the origin itself.
            traceparent: the trace context of what nothing has caused.

        Raises:
            NoRouteError: a command goes nowhere.
            HandlerMisuseError: there is nobody to reply to.
            CodecError: the envelope is too large, or the message does not fit its own class.
        """
        kind, to, partition_key, due_ms = OutgoingKind.COMMAND, "", self.partition_key, 0
        saga, sagalife, timer = "", 0, ""
        if isinstance(effect, effects.Send):
            to = effect.to or self.routes.get(type_of(effect.message).name, "")
            if not to:
                raise NoRouteError(type_of(effect.message).name)
        elif isinstance(effect, effects.Publish):
            kind, to = OutgoingKind.EVENT, type_of(effect.message).name
        elif isinstance(effect, effects.Reply | effects.ReplyToStarter):
            asked = starter
            if isinstance(effect, effects.Reply):
                asked = ReplyAddress(cause.replyto, cause.replysaga, cause.replylife) if cause else None
            if asked is None or not asked.endpoint:
                raise HandlerMisuseError(_NOBODY)
            to, partition_key = asked.endpoint, asked.saga.partition("/")[2]
            if asked.saga:
                saga, sagalife = asked.saga, asked.life
        elif isinstance(effect, effects.Defer):
            kind, to, due_ms = OutgoingKind.TIMER, self.endpoint, effect.due_ms
            saga, sagalife, timer = self.saga, self.life, effect.name or id_
        else:
            raise TypeError(f"{effect!r} makes no message")
        message = effect.message
        envelope = wrap(
            message,
            id=id_,
            source=f"/{self.endpoint or 'client'}",
            now_ms=now_ms,
            # What its cause says was admitted, and endpoints, types and sagas were declared with names that may be.
            checked=cause is not None and not timer,
            correlationid=(cause.correlationid or cause.id) if cause else "",
            causationid=cause.id if cause else "",
            replyto=self.endpoint if reply_to is None else reply_to.endpoint,
            replysaga=self.saga if reply_to is None else reply_to.saga,
            replylife=self.life if reply_to is None else reply_to.life,
            saga=saga,
            sagalife=sagalife,
            timer=timer,
            traceparent=cause.traceparent if cause else traceparent,
        )
        # What its receiver could not read fails here, where whoever made it can see it.
        type_of(message).codec.decode(envelope.data, envelope.dataversion)
        if self.signing is not None:
            envelope = signed(self.signing, envelope, to, topic=kind is OutgoingKind.EVENT)
        return Outgoing(kind, to, id_, partition_key or id_, encode(envelope, self.max_bytes), due_ms, envelope)


_NOBODY: Final = (
    "there is nobody to reply to: the message was sent without a reply address; "
    "send it with reply_to=ENDPOINT, or publish the answer as an event"
)
