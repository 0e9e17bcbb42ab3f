"""Which endpoints there are, what they subscribed to and which streams hold their messages, as kept in Redis.

One hash `NS:topology` holds a declaration an endpoint and a version, which is a new random token at every change: a
counter could come back to an old number after the server was flushed. Senders keep a copy, and every send checks it.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
import redis
from attrs import field, frozen

from sagabus.errors import ConfigurationError, StoreRefusedError
from sagabus.link import Command, Link, Script, as_error
from sagabus.transport import Parcel, ParcelKind

GROUP: Final = "workers"
_DECLARE: Final = Script.beside("transports", "declare.lua")


class _Stored(msgspec.Struct):
    """A declaration as it is stored."""

    partitions: Annotated[int, msgspec.Meta(ge=1, le=16_384)]
    max_length: Annotated[int, msgspec.Meta(ge=1)]
    topics: list[str]


_stored_decoder: Final = msgspec.json.Decoder(_Stored)


@frozen
class Declaration:
    """What is known about one endpoint.

    Attributes:
        streams: the keys of its partitions, in order.
        stream_limit: the length from which one of them is full.
    """

    endpoint: str
    partitions: int
    max_length: int
    topics: tuple[str, ...]
    streams: tuple[str, ...]
    stream_limit: int

    @classmethod
    def of(cls, namespace: str, endpoint: str, partitions: int, max_length: int, topics: Iterable[str]) -> Declaration:
        """Return the declaration with its streams named; the braces make each of them a cluster slot of its own."""
        streams = tuple(f"{namespace}:q:{{{endpoint}:{p}}}" for p in range(partitions))
        limit = -(-max_length // partitions)
        return cls(endpoint, partitions, max_length, tuple(sorted(set(topics))), streams, limit)

    def stream_for(self, partition_key: str) -> str:
        """Return the stream that *partition_key* always goes to."""
        if self.partitions == 1:
            return self.streams[0]
        return self.streams[zlib.crc32(partition_key.encode()) % self.partitions]

    def as_json(self) -> str:
        return json.dumps(
            {"partitions": self.partitions, "max_length": self.max_length, "topics": self.topics}, sort_keys=True
        )


@frozen
class Topology:
    """One version of everything that was declared. The version is empty where nothing ever was.

    Attributes:
        damaged: why some declarations cannot be read, by the names of their fields.
    """

    version: bytes
    endpoints: Mapping[str, Declaration]
    damaged: Mapping[str, str] = field(factory=dict)
    subscribers: Mapping[str, tuple[Declaration, ...]] = field(init=False)
    limits: Mapping[str, int] = field(init=False)

    @subscribers.default
    def _index_subscribers(self) -> Mapping[str, tuple[Declaration, ...]]:
        index: dict[str, tuple[Declaration, ...]] = {}
        for declaration in self.endpoints.values():
            for topic in declaration.topics:
                index[topic] = (*index.get(topic, ()), declaration)
        return index

    @limits.default
    def _index_limits(self) -> Mapping[str, int]:
        return {stream: d.stream_limit for d in self.endpoints.values() for stream in d.streams}

    @classmethod
    def decode(cls, namespace: str, fields: list[bytes]) -> Topology:
        """Read what HGETALL returned."""
        pairs = dict(zip(fields[::2], fields[1::2], strict=True))
        version = pairs.pop(b"version", b"")
        endpoints, damaged = {}, {}
        for name, text in sorted(pairs.items()):
            try:
                endpoint, stored = name.decode().removeprefix("@"), _stored_decoder.decode(text)
            except (msgspec.MsgspecError, ValueError) as error:
                damaged[name.decode(errors="backslashreplace")] = f"{type(error).__name__}: {error}"
                continue
            endpoints[endpoint] = Declaration.of(
                namespace, endpoint, stored.partitions, stored.max_length, stored.topics
            )
        return cls(version, endpoints, damaged)

    def streams_for(self, parcel: Parcel) -> tuple[str, ...] | None:
        """Return the streams that get *parcel*, one a queue; None for a command to an endpoint that is not declared.

        Raises:
            StoreRefusedError: a damaged declaration might say that there is one more.
        """
        return self.streams_of(parcel.kind is ParcelKind.EVENT, parcel.to, parcel.partition_key)

    def streams_of(self, event: bool, to: str, partition_key: str) -> tuple[str, ...] | None:
        """Return the streams that get an event of the topic *to*, or a command to that endpoint; as `streams_for`."""
        if self.damaged and (event or to not in self.endpoints):
            listed = "; ".join(f"{name!r}: {cause}" for name, cause in self.damaged.items())
            raise StoreRefusedError(
                f"the topology cannot be read whole, so nobody knows who is to get {to!r} ({listed}); start a "
                f"worker that declares that endpoint, or delete the field"
            )
        if event:
            return tuple([d.stream_for(partition_key) for d in self.subscribers.get(to, ())])
        declaration = self.endpoints.get(to)
        return None if declaration is None else (declaration.stream_for(partition_key),)


class TopologyStore:
    """The topology of one namespace: a cached copy, and how it is read and changed. Thread-safe."""

    def __init__(self, link: Link, namespace: str) -> None:
        self.key = f"{namespace}:topology"
        self._namespace = namespace
        self._link = link
        self._cached: Topology | None = None
        self._declared_here: dict[str, Declaration] = {}

    def reply_stream(self, address: str) -> str:
        """Return the key of the reply queue at *address*."""
        return f"{self._namespace}:replies:{{{address}}}"

    @property
    def cached(self) -> Topology:
        """Return the copy that this process has, reading it at first, and as long as it cannot be read whole."""
        return self._cached if self._cached and not self._cached.damaged else self.refresh()

    def refresh(self) -> Topology:
        """Read the topology; what this process declared is declared again where the server has lost it."""
        topology = self._read()
        for declaration in list(self._declared_here.values()):
            if declaration.endpoint not in topology.endpoints:
                topology = self.declare(declaration)
        return topology

    def declare(self, declaration: Declaration) -> Topology:
        """Store *declaration* and make its streams and their group.

        Raises:
            ConfigurationError: the endpoint has another number of partitions, and a message in one of them.
        """
        topology = self._read()
        while topology.endpoints.get(declaration.endpoint) != declaration:
            old = topology.endpoints.get(declaration.endpoint)
            losing = list(old.streams) if old is not None and old.partitions != declaration.partitions else []
            if losing and self._link.is_cluster:
                self._check_empty(declaration, losing)
                losing = []
            verdict = self._link.round(
                [
                    _DECLARE.call(
                        [self.key, *losing],
                        [topology.version, secrets.token_hex(8), declaration.endpoint, declaration.as_json()],
                    )
                ]
            )[0]
            if verdict == b"busy":
                raise _busy(declaration)
            topology = self._read()
        make_groups(self._link, declaration.streams)
        self._declared_here[declaration.endpoint] = declaration
        return topology

    def _read(self) -> Topology:
        # Under no lock: the round may wait long for a server, and what an older reading says is found stale by a send.
        fields = self._link.round([Command(("HGETALL", self.key), self.key)])[0]
        self._cached = topology = Topology.decode(self._namespace, fields)
        return topology

    def _check_empty(self, declaration: Declaration, streams: list[str]) -> None:
        if any(self._link.round([Command(("XLEN", stream), stream) for stream in streams])):
            raise _busy(declaration)


def _busy(declaration: Declaration) -> ConfigurationError:
    return ConfigurationError(
        f"queue {declaration.endpoint!r} has another number of partitions than {declaration.partitions} and holds "
        f"messages; drain it before it is declared with {declaration.partitions}"
    )


def make_groups(link: Link, streams: Iterable[str]) -> None:
    """Make *streams* and their group where they are missing; a new group gets everything that is in its stream."""
    commands = [Command(("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"), stream) for stream in streams]
    for command, reply in zip(commands, link.try_round(commands), strict=True):
        if isinstance(reply, redis.ResponseError) and not str(reply).startswith("BUSYGROUP"):
            raise as_error(command, reply)
