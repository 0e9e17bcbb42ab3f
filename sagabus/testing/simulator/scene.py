"""The scene of an exploration: which sagas and consumers take part, what they begin with, and who gets what is sent."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, field, frozen

from sagabus.bus import Bus
from sagabus.consumer import Consumer
from sagabus.definition import DAY_S, SagaDefinition, definition_of
from sagabus.envelope import MAX_BYTES, Envelope, Incoming, SagaKey, decode, wrap
from sagabus.errors import ConfigurationError
from sagabus.messages import MERGE, type_of
from sagabus.outgoing import Outgoing, OutgoingKind
from sagabus.saga import Saga
from sagabus.testing.keys import fall_back_on_test_keys

START_MS: Final = 1_767_225_600_000
"""The store's time when an exploration begins: 2026-01-01T00:00:00Z."""
CLIENT: Final = "client"
"""The endpoint that waits for replies to the messages an exploration begins with; nobody listens there."""
_WINDOW_S: Final = 36_500 * DAY_S

Subject = type[Saga[Any]] | Sequence[type[Saga[Any]]] | Bus


class _ToItsType(dict[str, str]):
    """Routes for sagas without a bus: a command that does not say where goes to an endpoint of its own name."""

    def get(self, name: str, default: Any = None) -> Any:
        return name


@frozen
class Input:
    """One message that is in the queue from the beginning.

    Attributes:
        message: as the user gave it.
        envelope: as it travels; its id is `m1`, `m2`, ...
        keys: the sagas that it is for.
        starts: whether it was given as a start.
    """

    message: Any
    envelope: Envelope
    keys: tuple[SagaKey, ...]
    starts: bool


@frozen(eq=False)
class Scene:
    """Who takes part.

    Attributes:
        definitions: saga name -> its definition.
        consumers: the consumers and their endpoints.
        routes: wire name -> endpoint.
        by_type: whether a command finds the saga that handles it whatever endpoint it names, for want of a bus.
        max_bytes: the size limit of an envelope.
    """

    definitions: Mapping[str, SagaDefinition]
    consumers: tuple[tuple[str, Consumer], ...] = ()
    routes: Mapping[str, str] = field(factory=_ToItsType)
    by_type: bool = True
    max_bytes: int = MAX_BYTES

    @classmethod
    def of(cls, subject: Subject) -> Scene:
        """Return the scene of a saga class, of several, or of a bus.

        Raises:
            ConfigurationError: there is neither saga nor consumer in it, or two sagas of one name.
            DefinitionError: a class is no saga.
        """
        fall_back_on_test_keys()
        if isinstance(subject, Bus):
            endpoints = subject.endpoints.values()
            definitions = [d for endpoint in endpoints for d in endpoint.sagas]
            if not definitions and not any(endpoint.consumers for endpoint in endpoints):
                raise ConfigurationError("the bus has no saga to explore and no consumer; give one to bus.endpoint")
            return cls(
                {d.name: _kept_short(d) for d in definitions},
                tuple((endpoint.name, consumer) for endpoint in endpoints for consumer in endpoint.consumers),
                subject.routes,
                by_type=False,
                max_bytes=subject.max_message_bytes,
            )
        classes = [subject] if isinstance(subject, type) else list(subject)
        if not classes:
            raise ConfigurationError("there is nothing to explore; give a saga class, several, or a bus")
        routes = _ToItsType()
        found = [definition_of(saga) for saga in classes]
        bound = {
            d.name: _kept_short(
                d.bound(d.name, routes, dedupe_window_s=_WINDOW_S, retention_s=_WINDOW_S, max_bytes=MAX_BYTES)
            )
            for d in found
        }
        if len(bound) < len(found):
            raise ConfigurationError(
                f"two sagas share a name among {', '.join(d.name for d in found)}; give one another name="
            )
        return cls(bound, routes=routes)

    # -- the beginning -------------------------------------------------------------------------------------------

    def inputs(self, start: Sequence[Any], messages: Sequence[Any], left_out: Container[str] = ()) -> tuple[Input, ...]:
        """Return what an exploration begins with; a message without a key goes to the saga of the first start.

        Args:
            left_out: ids of messages that are not there after all; the others are called as if they were.

        Raises:
            ConfigurationError: nobody handles a message, or it cannot be told which saga it is for.
            DefinitionError: something is no message.
        """
        first: dict[str, SagaKey] = {}
        found: list[Input] = []
        for number, message in enumerate([*start, *messages], 1):
            envelope = wrap(message, id=f"m{number}", source=f"/{CLIENT}", now_ms=START_MS, replyto=CLIENT)
            keys = tuple(self._located(Incoming(envelope, message), first))
            if not keys and not any(consumer.kind.name == envelope.type for _, consumer in self.consumers):
                raise ConfigurationError(self._nobody(message, bool(first)))
            if envelope.id in left_out:
                continue
            is_start = number <= len(start)
            if is_start:
                for key in keys:
                    first.setdefault(key.name, key)
            if len(keys) == 1:
                envelope = _addressed(envelope, self.definitions[keys[0].name], keys[0], Incoming(envelope, message))
            found.append(Input(message, envelope, keys, is_start))
        return tuple(found)

    def _located(self, incoming: Incoming, first: Mapping[str, SagaKey]) -> Iterator[SagaKey]:
        for definition in self.definitions.values():
            if incoming.envelope.type in definition.handlers:
                saga_id = definition.locate(incoming)
                if saga_id is not None:
                    yield SagaKey(definition.name, saga_id)
                elif definition.name in first:
                    yield first[definition.name]

    def _nobody(self, message: Any, started: bool) -> str:
        name = type(message).__qualname__
        if any(type_of(message).name in definition.handlers for definition in self.definitions.values()):
            return f"{name} names no saga: it has no key field, so give the start message in start=[...]"
        known = ", ".join(self.definitions) or "the consumers"
        return f"{name} is handled by none of {known}; explore the saga that handles it too"

    # -- where messages go ---------------------------------------------------------------------------------------

    def recipients(self, outgoing: Outgoing, envelope: Envelope) -> tuple[list[SagaKey], list[tuple[str, Consumer]]]:
        """Return the sagas and the consumers that take *outgoing*, each with its endpoint; none where it leaves."""
        sagas = [self._key(definition, envelope) for definition in self._takers(outgoing, envelope)]
        event = outgoing.kind is OutgoingKind.EVENT
        consumers = [
            (endpoint, consumer)
            for endpoint, consumer in self.consumers
            if consumer.kind.name == envelope.type and (event or endpoint == outgoing.to)
        ]
        return [key for key in sagas if key is not None], consumers

    def _takers(self, outgoing: Outgoing, envelope: Envelope) -> list[SagaDefinition]:
        named = self.definitions.get(envelope.saga.partition("/")[0])
        if named is not None and (envelope.type == MERGE or outgoing.kind is OutgoingKind.TIMER):
            return [named]
        takers = [d for d in self.definitions.values() if envelope.type in d.handlers]
        if outgoing.kind is OutgoingKind.EVENT:
            return takers
        at_home = [d for d in takers if d.endpoint == outgoing.to]
        if at_home or not self.by_type:
            return at_home
        if outgoing.to == CLIENT:
            return []
        if len(takers) > 1:
            raise ConfigurationError(
                f"{envelope.type} to {outgoing.to!r} could be for {' or '.join(d.name for d in takers)}; "
                f"explore a Bus, whose endpoints say which"
            )
        return takers

    @staticmethod
    def _key(definition: SagaDefinition, envelope: Envelope) -> SagaKey | None:
        if envelope.type == MERGE:
            return SagaKey.parse(envelope.saga)
        saga_id = definition.locate(Incoming(envelope))
        return None if saga_id is None else SagaKey(definition.name, saga_id)


def envelope_of(outgoing: Outgoing) -> Envelope:
    """Return the envelope that an outgoing message is."""
    return decode(outgoing.body) if outgoing.envelope is None else outgoing.envelope


def _kept_short(definition: SagaDefinition) -> SagaDefinition:
    """Return *definition* with records that remember one commit and forget no id."""
    limits = evolve(definition.limits, history=1, dedupe_window_s=_WINDOW_S, retention_s=_WINDOW_S)
    return evolve(definition, limits=limits)


def _addressed(envelope: Envelope, definition: SagaDefinition, key: SagaKey, incoming: Incoming) -> Envelope:
    """Return *envelope* with its saga in the header where only that can say it."""
    if definition.locate(incoming) == key.id:
        return envelope
    from msgspec.structs import replace

    return replace(envelope, saga=str(key))
