"""The bus: endpoints, routes, and the way in for messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from attrs import evolve

from sagabus import effects
from sagabus.dead_letters.dead_letters import DeadLetters
from sagabus.definition import DAY_S, SagaDefinition, definition_of
from sagabus.documents.documents import Documents
from sagabus.durability import Durability
from sagabus.endpoint import MAX_BATCH, Endpoint, EndpointOptions, RetryPolicy
from sagabus.envelope import MAX_BYTES, chosen_id
from sagabus.errors import ConfigurationError, QueueFullError, UnknownEndpointError
from sagabus.footing import Footing
from sagabus.leases.lease import Lease
from sagabus.messages import type_of
from sagabus.origin import Origin, ReplyAddress
from sagabus.outgoing import Outgoing
from sagabus.replies.full_queue import FULL_WAIT_S, full_pause_s
from sagabus.saga import Saga
from sagabus.secrecy.keyring import Keyring
from sagabus.secrecy.process_keys import process_keys
from sagabus.secrecy.signing import Signing
from sagabus.store.protocol import Bookkeeping, Scheduled, Store
from sagabus.transport import Refusal, Transport
from sagabus.waiting.waiting import WaitingMessages

if TYPE_CHECKING:
    from sagabus.replies.front import Front
    from sagabus.tracing.tracing import Tracing
    from sagabus.worker import Worker

_SEND_BATCH: Final = 500


class Bus:
    """Endpoints over a store and a transport. Connects when first used; thread-safe.

    Args:
        store: where sagas are kept; `SAGABUS_STORE`, else an embedded Valkey in `./.sagabus`.
        transport: what carries messages; `SAGABUS_TRANSPORT`, else the store's server.
        namespace: what all keys and queues begin with; buses with different namespaces share nothing.
        dedupe_window: how long a saga remembers a message id.
        retention: how long a completed saga is remembered; never less than the window.
        claim_s: after how many seconds without a sign of life a worker's messages are given to another; time-outs of
            links are shorter.
        max_message_bytes: the size limit of one envelope.
        keyring: the keys of encrypted fields and signatures; `SAGABUS_KEYS`, else none. All buses of a process must
            encrypt with the same key.
        signing: how messages are signed and checked; by default neither.
        dead_letter_retention: how long dead letters, and what was done with them, are kept.
        durability: `replicated` has nothing dispatched, acked or returned by `send` before *replicas* of its server's
            replicas have what was written.
        replicas: how many; of no meaning where durability is `local`.

    Attributes:
        documents: versioned documents that stand alone; `documents.group(name)` has those that change together.
        dead_letters: the messages that were given up: to find, to send again, to drop.
        waiting: the messages that wait for their time: to find, to cancel, to send now.
        tracing: makes OpenTelemetry spans; None unless `sagabus.tracing.instrument(bus)` was called.

    Raises:
        ConfigurationError: the options contradict each other.
    """

    def __init__(
        self,
        store: str | Store | None = None,
        transport: str | Transport | None = None,
        *,
        namespace: str = "sagabus",
        dedupe_window: timedelta = timedelta(seconds=7 * DAY_S),
        retention: timedelta | None = None,
        claim_s: float = 30.0,
        max_message_bytes: int = MAX_BYTES,
        keyring: Keyring | None = None,
        signing: Signing | None = None,
        dead_letter_retention: timedelta = timedelta(days=30),
        durability: Durability = "local",
        replicas: int = 1,
    ) -> None:
        retention = dedupe_window if retention is None else retention
        if retention < dedupe_window or dedupe_window <= timedelta(0):
            raise ConfigurationError(
                f"retention ({retention}) must be at least dedupe_window ({dedupe_window}), which must be positive: "
                f"a completed saga that is forgotten sooner could be started again by a copy of an old message"
            )
        if not namespace or any(c in namespace for c in "{}*?[]\\"):
            raise ConfigurationError(f"namespace {namespace!r} is empty or has one of {{ }} * ? [ ] \\; choose another")
        if claim_s <= 0 or max_message_bytes < 1:
            raise ConfigurationError(
                f"claim_s ({claim_s:g}) and max_message_bytes ({max_message_bytes}) must be positive"
            )
        if dead_letter_retention <= timedelta(0):
            raise ConfigurationError(
                f"dead_letter_retention ({dead_letter_retention}) must be positive; leave it out for 30 days"
            )
        self.namespace = namespace
        self.dead_letter_retention = dead_letter_retention
        self.dedupe_window, self.retention = dedupe_window, retention
        self.claim_s = claim_s
        self.max_message_bytes = max_message_bytes
        self.keyring = keyring or Keyring.from_environment()
        self.signing = None if signing is None else signing.with_keys(self.keyring)
        self.endpoints: dict[str, Endpoint] = {}
        self.routes: dict[str, str] = {}
        self._footing = Footing(
            store,
            transport,
            namespace=namespace,
            claim_s=claim_s,
            durability=durability,
            replicas=replicas,
            endpoints=self.endpoints,
        )
        self.store_url, self.transport_url = self._footing.store_url, self._footing.transport_url
        self.tracing: Tracing | None = None
        self._made_front: Front | None = None
        self._front_lock = threading.Lock()
        self.documents = Documents(lambda: self.store.documents)
        self.dead_letters = DeadLetters(self)
        self.waiting = WaitingMessages(self)
        self._brought_keys = None if self.keyring is None else process_keys.bring(self.keyring)

    # -- what is on it -------------------------------------------------------------------------------------------

    def endpoint(
        self,
        name: str,
        *sagas: type[Saga[Any]],
        batch: int = 64,
        concurrency: int = 16,
        partitions: int = 1,
        max_length: int = 1_000_000,
        max_attempts: int = 5,
        retry: RetryPolicy | None = None,
        retries: Mapping[type, RetryPolicy] | None = None,
        early: RetryPolicy | None = None,
        handler_timeout_s: float | None = None,
    ) -> Endpoint:
        """Declare an endpoint and the sagas on it; consumers are added with `@endpoint.consumer`.

        Args:
            name: what its queue is called.
            sagas: saga classes; each belongs to one endpoint.
            batch: the most messages handled in one load and one commit, at most 1,000. From Redis Streams up to four
                times as many are taken while there are 16 or more a saga, as long as that takes less than a second.
            concurrency: how many consumer handlers run at once in each process.
            partitions: how many streams its queue is split into; more than one only pays on a cluster.
            max_length: from which length on its queue pushes back on senders.
            max_attempts: how often a message is tried before it is dead-lettered.
            retry: more about retries; overrides *max_attempts*.
            retries: message class -> how messages of that type are retried, where not as all others.
            early: how messages for sagas that are not there yet are retried.
            handler_timeout_s: how long one handler may take; a message that takes longer is dead-lettered at once, as
                `timed-out`. No limit by default.

        Raises:
            ConfigurationError: the name is taken, or a saga is on another endpoint.
            DefinitionError: a class is no saga.
        """
        if name in self.endpoints:
            raise ConfigurationError(f"endpoint {name!r} is declared already; use the one that bus.endpoint returned")
        if min(batch, concurrency, partitions, max_length, max_attempts) < 1:
            raise ConfigurationError(
                f"endpoint {name!r}: batch, concurrency, partitions, max_length and max_attempts are at least 1"
            )
        if batch > MAX_BATCH:
            raise ConfigurationError(
                f"endpoint {name!r}: a batch of {batch} is more than the {MAX_BATCH} that one commit takes; lower it"
            )
        options = EndpointOptions(batch, concurrency, partitions, max_length, retry or RetryPolicy(max_attempts))
        if early is not None:
            options = evolve(options, early=early)
        if retries:
            options = evolve(options, retries={type_of(kind).name: policy for kind, policy in retries.items()})
        if handler_timeout_s is not None:
            if handler_timeout_s <= 0:
                raise ConfigurationError(
                    f"endpoint {name!r}: handler_timeout_s ({handler_timeout_s:g}) must be positive; "
                    f"leave it out for no limit"
                )
            options = evolve(options, handler_timeout_s=handler_timeout_s)
        definitions = tuple(self._bind(definition_of(saga), name) for saga in sagas)
        if len({definition.name for definition in definitions}) < len(definitions):
            raise ConfigurationError(
                f"endpoint {name!r}: two sagas of one name ({', '.join(d.name for d in definitions)}) would share "
                f"what is stored; give one of them another name="
            )
        endpoint = Endpoint(name, definitions, options)
        self.endpoints[name] = endpoint
        return endpoint

    def _bind(self, definition: SagaDefinition, endpoint: str) -> SagaDefinition:
        other = self.saga(definition.name)
        if other is not None:
            raise ConfigurationError(
                f"saga {definition.name!r} is on endpoint {other.endpoint!r} already; "
                f"give one of them another name=, or leave it on one endpoint"
            )
        return definition.bound(
            endpoint,
            self.routes,
            dedupe_window_s=self.dedupe_window.total_seconds(),
            retention_s=self.retention.total_seconds(),
            max_bytes=self.max_message_bytes,
            signing=self.signing,
        )

    def saga(self, name: str) -> SagaDefinition | None:
        """Return the saga called *name* on this bus, or None."""
        for endpoint in self.endpoints.values():
            for definition in endpoint.sagas:
                if definition.name == name:
                    return definition
        return None

    def route(self, message_type: type, *, to: str) -> None:
        """Send every command of *message_type* to the endpoint *to* unless the sender says otherwise."""
        self.routes[type_of(message_type).name] = to

    # -- the way in ----------------------------------------------------------------------------------------------

    def send(
        self,
        message: Any,
        to: str | None = None,
        *,
        id: str | None = None,
        reply_to: str = "",
        after: timedelta | float | None = None,
        at: datetime | None = None,
    ) -> str:
        """Send a command and return its id; when it returns, the message is as durable as the transport makes it.

        Args:
            message: an instance of a message class.
            to: the endpoint; without it the route of its type.
            id: an idempotency key: a saga handles one id once. Random where none is given.
            reply_to: the endpoint that gets replies; without it nobody can reply.
            after, at: deliver it after a time (timedelta or seconds), or at one (UTC).

        Raises:
            UnknownEndpointError: no process ever declared *to*.
            NoRouteError: neither *to* nor a route says where.
            QueueFullError: its queue stayed full for ten seconds.
        """
        if after is not None or at is not None:
            now_ms, _ = self.store.next_due_ms()
            message_id = chosen_id(id)
            outgoing = self._outgoing(effects.Send(message, to), message_id, _endpoint(reply_to))
            with self._sending([outgoing]):
                self.check_known(outgoing.to)
                due_ms = effects.due_ms(now_ms, after, at)
                self.store.note(Bookkeeping(scheduled=(Scheduled(message_id, outgoing.to, outgoing.body, due_ms),)))
            return message_id
        return self._enter([self._outgoing(effects.Send(message, to), chosen_id(id), _endpoint(reply_to))])[0]

    def send_many(
        self, messages: Iterable[Any], to: str | None = None, *, ids: Iterable[str] | None = None, reply_to: str = ""
    ) -> list[str]:
        """Send commands and return their ids; a round trip for every 500. Arguments and errors as `send`.

        What was sent before an error stays sent: with the same *ids*, one each, all of it may be sent again.

        Raises:
            ConfigurationError: there are more messages than ids, or fewer.
        """
        listed = list(messages)
        chosen = [chosen_id(None) for _ in listed] if ids is None else [chosen_id(id_) for id_ in ids]
        if len(chosen) != len(listed):
            raise ConfigurationError(
                f"{len(listed)} messages and {len(chosen)} ids; give one id a message, or leave ids= out"
            )
        outgoing = [
            self._outgoing(effects.Send(message, to), id_, _endpoint(reply_to))
            for message, id_ in zip(listed, chosen, strict=True)
        ]
        sent: list[str] = []
        with self._sending(outgoing):
            for first in range(0, len(outgoing), _SEND_BATCH):
                sent += self._send_all(outgoing[first : first + _SEND_BATCH])
        return sent

    def publish(self, message: Any, *, id: str | None = None) -> str:
        """Publish an event to every subscriber of its type and return its id; no subscriber is no error."""
        return self._enter([self._outgoing(effects.Publish(message), chosen_id(id))])[0]

    def ask(
        self, message: Any, to: str | None = None, *, timeout: timedelta | float = 30.0, id: str | None = None
    ) -> Any:
        """Send a command, wait for the answer and return it; `request` for code without an event loop."""
        return self._front.ask(message, to, timeout, chosen_id(id))

    # -- the way in, from an event loop --------------------------------------------------------------------------

    async def request(
        self,
        message: Any,
        to: str | None = None,
        *,
        timeout: timedelta | float = 30.0,  # noqa: ASYNC109 - what is waited for is told in the error
        id: str | None = None,
    ) -> Any:
        """Send a command, wait for the answer and return it, a message; never blocks the event loop.

        What a consumer replies is an answer, and what a saga does: to the message itself, or later with
        `reply_to_starter`. The first answer counts, others are dropped. Answers come to a queue of this process, which
        goes when the process does. Where waiting ends, by a time-out or because the task is cancelled, the message is
        not taken back.

        Args:
            message, to: as `send`.
            timeout: how long to wait for the answer, the send included: a timedelta, or seconds.
            id: an idempotency key. A saga does not answer an id again that it has handled.

        Raises:
            RequestTimeoutError: no answer came in time.
            RequestFailedError: the message was dead-lettered; with the reason.
            ConfigurationError: the transport has no reply queues.
            UnknownEndpointError, NoRouteError, QueueFullError: as `send`.
        """
        return await self._front.request(message, to, timeout, chosen_id(id))

    async def send_async(
        self,
        message: Any,
        to: str | None = None,
        *,
        id: str | None = None,
        reply_to: str = "",
        after: timedelta | float | None = None,
        at: datetime | None = None,
    ) -> str:
        """Send a command as `send` does, without blocking the event loop.

        What tasks send at the same time leaves in one round trip. Where the task is cancelled, the message may have
        left, or not: with an *id* it may be sent again.
        """
        id = chosen_id(id)
        if after is not None or at is not None:
            await self._front.call(lambda: self.send(message, to, id=id, reply_to=reply_to, after=after, at=at))
            return id
        return await self._front.send(self._outgoing(effects.Send(message, to), id, _endpoint(reply_to)))

    async def publish_async(self, message: Any, *, id: str | None = None) -> str:
        """Publish an event as `publish` does, without blocking the event loop; see `send_async`."""
        return await self._front.send(self._outgoing(effects.Publish(message), chosen_id(id)))

    @property
    def _front(self) -> Front:
        """Return what waits for answers and for sends; made when first used, with what it imports."""
        with self._front_lock:
            if self._made_front is None:
                from sagabus.replies.front import Front

                self._made_front = Front(
                    self._outgoing,
                    self._enter,
                    self._sending,
                    lambda: self.transport,
                    max_bytes=self.max_message_bytes,
                    signing=self.signing,
                )
            return self._made_front

    # -- how -----------------------------------------------------------------------------------------------------

    def _outgoing(self, effect: effects.Effect, id_: str, reply_to: ReplyAddress | None = None) -> Outgoing:
        origin = Origin("", self.routes, max_bytes=self.max_message_bytes, signing=self.signing)
        write = partial(origin.outgoing, effect, id_, time.time_ns() // 1_000_000, cause=None, reply_to=reply_to)
        return write() if self.tracing is None else self.tracing.written(write, id_)

    def _sending(self, outgoing: Sequence[Outgoing]) -> AbstractContextManager[None]:
        """Return what to send in."""
        return nullcontext() if self.tracing is None else self.tracing.sending(outgoing)

    def _enter(self, outgoing: Sequence[Outgoing]) -> list[str]:
        with self._sending(outgoing):
            return self._send_all(outgoing)

    def _send_all(self, outgoing: Sequence[Outgoing]) -> list[str]:
        parcels = [item.parcel() for item in outgoing]
        waited_s = 0.0
        while refused := self.transport.send(parcels):
            for index, refusal in refused.items():
                if refusal is Refusal.NO_ENDPOINT:
                    raise UnknownEndpointError(parcels[index].to, [queue.endpoint for queue in self.transport.queues()])
            if waited_s >= FULL_WAIT_S:
                raise QueueFullError(parcels[next(iter(refused))].to, waited_s)
            pause_s = full_pause_s(waited_s)
            time.sleep(pause_s)
            waited_s += pause_s
        return [item.id for item in outgoing]

    def check_known(self, endpoint: str) -> None:
        """Make sure that *endpoint* is on this bus, or was declared by any process.

        Raises:
            UnknownEndpointError: it is not.
        """
        if endpoint in self.endpoints:
            return
        known = [queue.endpoint for queue in self.transport.queues()]
        if endpoint not in known:
            raise UnknownEndpointError(endpoint, known)

    # -- beside sagas --------------------------------------------------------------------------------------------

    def lease(self, name: str, *, ttl_s: float = 30.0, wait_s: float = 0.0) -> Lease:
        """Return a lease to hold in a `with` block: one holder in the whole cluster, renewed in the background.

        Args:
            name: of the lease.
            ttl_s: after how many seconds without a sign of life of its holder others may take it.
            wait_s: how long to wait for another holder before `LeaseHeldError`; 0 asks once.

        Raises:
            ConfigurationError: the name is empty, or a time is none.
        """
        return Lease(lambda: self.store.leases, name, ttl_s=ttl_s, wait_s=wait_s)

    # -- what it stands on ---------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """Return the store, connected and found fit."""
        return self._footing.store

    @property
    def transport(self) -> Transport:
        """Return the transport, with every endpoint of this bus declared on it."""
        return self._footing.transport

    def worker(self, endpoints: Sequence[str] | None = None, *, name: str | None = None) -> Worker:
        """Return a worker for *endpoints* (all of them by default) that runs in this process."""
        from sagabus.worker import Worker

        return Worker(self, endpoints, name=name)

    def close(self) -> None:
        """Close connections, and let the embedded server and the keyring go. Requests that wait end in an error."""
        if self._made_front is not None:
            self._made_front.close()
        process_keys.release(self._brought_keys)
        self._footing.close()

    async def close_async(self) -> None:
        """Close as `close` does, without blocking the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _endpoint(name: str) -> ReplyAddress | None:
    """Return who waits where an endpoint does; None for nobody."""
    return ReplyAddress(name) if name else None
