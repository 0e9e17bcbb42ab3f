"""Consumers: stateless handlers. They do the I/O that sagas must not, and answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from sagabus import effects
from sagabus.documents.documents import Documents
from sagabus.envelope import Envelope, Incoming, derive_id
from sagabus.errors import DefinitionError
from sagabus.messages import MessageType, annotated_types, registry
from sagabus.origin import Origin
from sagabus.outgoing import Outgoing
from sagabus.saga import utc
from sagabus.secrecy.signing import Signing


class Context:
    """What a consumer may ask for while it handles one message.

    What it sends leaves after the handler has returned, and not at all if it raises. A consumer may see a message
    twice; what it sends then carries the same ids, so that sagas take it once. A `ConcurrencyError` that leaves a
    handler is no failure: others were faster, and it is run again at once, with growing pauses; where they always are,
    its message is put off for a second, and its attempts stay as they are. The same conflict twice is a failure.

    Attributes:
        endpoint: the endpoint that the message came to.
        envelope: the message as it travelled: id, sender, correlation, attempt.
        now: when it was received, UTC.
        documents: those of the bus. What a consumer writes there is written at once, also where it raises afterwards.
    """

    __slots__ = ("_asked", "documents", "endpoint", "envelope", "now")

    def __init__(self, endpoint: str, envelope: Envelope, now_ms: int, documents: Documents) -> None:
        self.endpoint = endpoint
        self.documents = documents
        self.envelope = envelope
        self.now: datetime = utc(now_ms)
        self._asked: list[effects.Effect] = []

    @property
    def message_id(self) -> str:
        """Return the id of the message: an idempotency key, the same at every redelivery."""
        return self.envelope.id

    @property
    def attempt(self) -> int:
        """Return how often handling this message was begun, this time included."""
        return self.envelope.attempt

    def reply(self, message: Any) -> None:
        """Answer whoever sent the message; where that was a saga, the answer finds it."""
        self._asked.append(effects.Reply(message))

    def send(self, message: Any, to: str | None = None) -> None:
        """Send a command to the endpoint *to*, or along the route declared for its type."""
        self._asked.append(effects.Send(message, to))

    def publish(self, message: Any) -> None:
        """Publish an event to every endpoint that subscribed to its type; none is no error."""
        self._asked.append(effects.Publish(message))

    def outgoing(
        self, consumer: str, routes: Mapping[str, str], now_ms: int, max_bytes: int, signing: Signing | None = None
    ) -> tuple[Outgoing, ...]:
        """Return the messages that the handler asked for; their ids follow from that of the message handled."""
        if not self._asked:
            return ()
        origin = Origin(self.endpoint, routes, partition_key=self.envelope.id, max_bytes=max_bytes, signing=signing)
        return tuple(
            origin.outgoing(
                effect, derive_id(self.endpoint, consumer, self.envelope.id, ordinal), now_ms, cause=self.envelope
            )
            for ordinal, effect in enumerate(self._asked)
        )


@frozen
class Consumer:
    """One stateless handler of one message type.

    Attributes:
        name: module and qualified name; ids of what it sends derive from it.
        kind: the message type.
        function: the handler, `def` or `async def`.
        is_async: whether it runs on the event loop rather than in the thread pool.
        wants_context: whether it takes a `Context` as second argument.
    """

    name: str
    kind: MessageType
    function: Callable[..., Any]
    is_async: bool
    wants_context: bool

    def call(self, incoming: Incoming, context: Context) -> Any:
        """Run the handler; for an `async def`, return its coroutine."""
        if self.wants_context:
            return self.function(incoming.message, context)
        return self.function(incoming.message)


def consumers_of(function: Callable[..., Any], messages: tuple[type, ...], names: Mapping[str, Any]) -> list[Consumer]:
    """Return the consumers that *function* is: one for each message type that it takes.

    Raises:
        DefinitionError: with the function and the mend.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(name, "has a yield, so calling it would not run it", "Make it a plain def or async def")
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) not in (1, 2):
        raise DefinitionError(
            name, "a consumer takes a message and perhaps a Context", "Write def handler(m: Type, context: Context)"
        )
    consumers = []
    for message_type in messages or _annotated(function, parameters[0], name, names):
        kind = registry.of(message_type)
        if kind is None:
            raise DefinitionError(name, f"{message_type!r} is not a message", "Decorate that class with @message")
        is_async = inspect.iscoroutinefunction(function)
        consumers.append(Consumer(name, kind, function, is_async, len(parameters) == 2))
    return consumers


def _annotated(
    function: Callable[..., Any], parameter: inspect.Parameter, name: str, names: Mapping[str, Any]
) -> tuple[type, ...]:
    if parameter.annotation is inspect.Parameter.empty:
        raise DefinitionError(
            name,
            "the message it takes is not annotated",
            f"Write {parameter.name}: MessageType, or @endpoint.consumer(MessageType)",
        )
    try:
        return annotated_types(function, parameter.name, names)
    except NameError as error:
        raise DefinitionError(
            name,
            f"its annotations cannot be resolved ({error})",
            "Import them outside TYPE_CHECKING, or write @endpoint.consumer(MessageType)",
        ) from error
