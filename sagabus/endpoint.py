"""Endpoints: a named queue, and the sagas and consumers that take what comes out of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, overload

from attrs import field, frozen

from sagabus.consumer import Consumer, consumers_of
from sagabus.definition import SagaDefinition
from sagabus.envelope import MAX_ID_LENGTH
from sagabus.errors import ConfigurationError, DefinitionError
from sagabus.messages import MERGE, enclosing_names
from sagabus.replies.address import PREFIX, is_reply_address

F = TypeVar("F", bound=Callable[..., Any])

MAX_BATCH: Final = 1000
"""The most messages that one commit takes."""


@frozen
class RetryPolicy:
    """How a message that cannot be handled is tried again.

    What cannot be decoded, is refused by a validator of its class, or is handled by nobody is never tried again.

    Attributes:
        max_attempts: how often handling is begun before the message is dead-lettered.
        first_delay_s: the delay before the first retry that waits; each later one is twice as long.
        max_delay_s: the longest delay, before jitter.
        immediate: how many of the retries, the first ones, come at once.
        never: errors for which there is no retry, their subclasses too.

    Raises:
        ConfigurationError: a number is out of its range, or *never* holds something else than exception classes.
    """

    max_attempts: int = 5
    first_delay_s: float = 0.5
    max_delay_s: float = 60.0
    immediate: int = 0
    never: tuple[type[BaseException], ...] = field(default=(), converter=tuple)

    def __attrs_post_init__(self) -> None:
        if self.max_attempts < 1 or min(self.first_delay_s, self.max_delay_s, self.immediate) < 0:
            raise ConfigurationError(
                f"{self}: max_attempts is at least 1, immediate and the delays are not negative; mend the RetryPolicy"
            )
        given: tuple[object, ...] = self.never
        for kind in given:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise ConfigurationError(f"RetryPolicy: never holds {kind!r}, which is no class of exceptions")

    def delay_s(self, attempt: int) -> float:
        """Return how long to wait after attempt number *attempt* (from 1) has failed, before jitter."""
        waits = attempt - self.immediate
        return float(min(self.first_delay_s * 2.0 ** min(waits - 1, 32), self.max_delay_s)) if waits > 0 else 0.0


@frozen
class EndpointOptions:
    """How an endpoint works through its queue.

    Attributes:
        batch: the most messages handled in one load and one commit, but where they crowd at few sagas.
        concurrency: how many consumer handlers run at once in each process: threads for `def`, tasks for `async def`.
        partitions: how many streams the queue is split into.
        max_length: from which length on its queue pushes back.
        retry: how failing messages are tried again.
        early: how messages for a saga that is not there yet are tried again.
        retries: wire name -> how failing messages of that type are tried again, where not as *retry* says.
        handler_timeout_s: how long one handler may take before its message is dead-lettered; None for no limit.
    """

    batch: int = 64
    concurrency: int = 16
    partitions: int = 1
    max_length: int = 1_000_000
    retry: RetryPolicy = field(factory=RetryPolicy)
    early: RetryPolicy = field(factory=lambda: RetryPolicy(max_attempts=8, first_delay_s=0.05, max_delay_s=5.0))
    retries: Mapping[str, RetryPolicy] = field(factory=dict)
    handler_timeout_s: float | None = None

    def retry_of(self, type_name: str) -> RetryPolicy:
        """Return how failing messages of a type are tried again."""
        return self.retries.get(type_name, self.retry)


class Takers(NamedTuple):
    """Who handles messages of one type on one endpoint, and how often that is begun at most."""

    sagas: tuple[SagaDefinition, ...]
    consumers: tuple[Consumer, ...]
    max_attempts: int


class Endpoint:
    """A named queue of a bus. Made by `Bus.endpoint`; add consumers with `@endpoint.consumer`."""

    def __init__(self, name: str, sagas: tuple[SagaDefinition, ...], options: EndpointOptions) -> None:
        if is_reply_address(name):
            raise ConfigurationError(
                f"endpoint name {name!r} begins with {PREFIX}, as the names of reply queues do; choose another"
            )
        if not name or any(c in name for c in "{}:/* \n") or not name.isprintable() or len(name) > MAX_ID_LENGTH:
            raise ConfigurationError(
                f"endpoint name {name!r} is empty, has one of {{ }} : / * or a space, or a character that cannot be "
                f"shown, or is longer than {MAX_ID_LENGTH}; choose another"
            )
        self.name = name
        self.sagas = sagas
        self.options = options
        self.consumers: list[Consumer] = []
        self._takers: dict[str, Takers] = {}

    def takers(self, type_name: str) -> Takers:
        """Return who handles messages of a type here; nobody where the type is unknown."""
        found = self._takers.get(type_name)
        if found is None:
            found = Takers(
                tuple(saga for saga in self.sagas if type_name in saga.handlers),
                tuple(consumer for consumer in self.consumers if consumer.kind.name == type_name),
                self.options.retry_of(type_name).max_attempts,
            )
            if found.sagas or found.consumers:
                # Only of these is there a bounded number.
                self._takers[type_name] = found
        return found

    @overload
    def consumer(self, message: type, /, *messages: type) -> Callable[[F], F]: ...
    @overload
    def consumer(self) -> Callable[[F], F]: ...
    @overload
    def consumer(self, function: F, /) -> F: ...
    def consumer(self, *args: Any) -> Any:
        """Add a stateless handler: `def` runs in a bounded thread pool, `async def` on an event loop.

        The message it takes is read from the annotation of its first argument, or given:
            `@endpoint.consumer(RequestScore)`. A second argument gets the `Context`. Handling a type subscribes the
            endpoint to events of that type.

        Raises:
            DefinitionError: with the function and the mend.
        """
        names = enclosing_names(sys._getframe(1))
        if len(args) == 1 and not isinstance(args[0], type):
            self._add(consumers_of(args[0], (), names))
            return args[0]

        def decorate(function: F) -> F:
            self._add(consumers_of(function, args, names))
            return function

        return decorate

    def _add(self, consumers: list[Consumer]) -> None:
        taken = {(known.name, known.kind.name) for known in self.consumers}
        for consumer in consumers:
            if (consumer.name, consumer.kind.name) in taken:
                raise DefinitionError(
                    consumer.name,
                    f"a consumer of that name takes {consumer.kind.name} on endpoint {self.name!r} already, and what "
                    f"both send would carry the same ids",
                    "Give one of the functions another name",
                )
        self.consumers += consumers
        self._takers.clear()

    def handled_types(self) -> tuple[str, ...]:
        """Return the wire names of all that is handled here; also the topics that the endpoint subscribes to."""
        names = {name for saga in self.sagas for name in saga.handlers} | {c.kind.name for c in self.consumers}
        return tuple(sorted(names - {MERGE}))

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"
