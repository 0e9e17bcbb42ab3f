"""How parcels get into streams: one script on one server, one script a stream on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import redis

from sagabus.errors import ConfigurationError, SagabusError
from sagabus.link import Command, Link, Script, as_error
from sagabus.records import Record
from sagabus.replies.address import is_reply_address
from sagabus.transport import Delivery, Parcel, Refusal
from transports.redis_replies import reply_command
from transports.redis_topology import GROUP, Topology, TopologyStore

_SETTLE: Final = Script.beside("transports", "settle.lua")
_APPEND: Final = Script.beside("transports", "append.lua")
# Lua's unpack has a limit of about 8,000.
_ACKS_A_CALL: Final = 1000
_ARGS_A_COMMAND: Final = 4000


class Tag(Record, frozen=True):
    """What a `Delivery` of these transports carries."""

    stream: str
    id: bytes


class Settled(NamedTuple):
    """What one write did, and the replies to the commands that went along with it.

    Attributes:
        error: why the write was not made, to be raised once the replies have been put to use: what they read is ours.
    """

    refused: dict[int, Refusal]
    replies: list[Any]
    error: SagabusError | None = None


class Sender(Protocol):
    """Writes parcels and acks."""

    def settle(
        self,
        parcels: Sequence[Parcel],
        done: Sequence[Delivery],
        also: Sequence[Command],
        then: Sequence[Command],
        *,
        force: bool,
        wait_s: float = 0.0,
    ) -> Settled:
        """Send; if nothing is refused run *also* and ack; in the same round trip, where there is one, run *then*.

        *then* may block for *wait_s*. It always runs, also where the write is refused; a reply to it may be a
        `redis.ResponseError`.
        """
        ...


def acks(done: Iterable[Delivery]) -> dict[str, list[bytes]]:
    """Return the ids to ack, by stream."""
    by_stream: dict[str, list[bytes]] = {}
    for delivery in done:
        by_stream.setdefault(delivery.tag.stream, []).append(delivery.tag.id)
    return by_stream


def ack_commands(done: Iterable[Delivery]) -> list[Command]:
    """Return commands that ack without a script: unlike one, they are accepted by a server that is out of memory.

    Deleted first: were it the other way round, a crash in between would leave an entry that nobody ever reads again.
    """
    commands = []
    for stream, ids in acks(done).items():
        commands.append(Command(("XDEL", stream, *ids), stream))
        commands.append(Command(("XACK", stream, GROUP, *ids), stream))
    return commands


class OneServerSender:
    """Everything in one script, and one round trip with what follows."""

    def __init__(self, link: Link, topologies: TopologyStore) -> None:
        self._link = link
        self._topologies = topologies

    def settle(
        self,
        parcels: Sequence[Parcel],
        done: Sequence[Delivery],
        also: Sequence[Command],
        then: Sequence[Command],
        *,
        force: bool,
        wait_s: float = 0.0,
    ) -> Settled:
        """Send, run *also*, ack: all or nothing; see `Sender.settle`."""
        if not parcels and not also:
            commands = ack_commands(done)
            error, _, replies = _round(self._link, commands, then, wait_s)
            return Settled({}, replies, error)
        for command in also:
            if command.script or command.key not in command.args or len(command.args) > _ARGS_A_COMMAND:
                raise ConfigurationError(
                    f"{command.args[0]} cannot join a transport's write: that takes a command with its one key, "
                    f"no script, and at most {_ARGS_A_COMMAND} arguments"
                )
        topology = self._topologies.cached
        replies = []
        while True:
            call, streams, refused, answers = _settle_call(self._topologies, topology, parcels, done, also, force)
            # Before the acks: where the connection ends in between, they are sent again.
            error, verdicts, more = _round(self._link, [*answers, call], then, wait_s)
            # What `then` read is kept, and not read twice, where the write must be tried again.
            replies, then = replies or more, ()
            if error is not None:
                return Settled({}, replies, error)
            verdict = verdicts[-1]
            if verdict[0] == b"stale":
                topology = self._topologies.refresh()
                continue
            if verdict[0] == b"full":
                full = {streams[number - 1] for number in verdict[1:]}
                for index, parcel in enumerate(parcels):
                    if full.intersection(topology.streams_for(parcel) or ()):
                        refused[index] = Refusal.FULL
            return Settled(refused, replies)


def _round(
    link: Link, commands: Sequence[Command], then: Sequence[Command], wait_s: float
) -> tuple[SagabusError | None, list[Any], list[Any]]:
    """Run *commands* and *then*; return the first error of the former, their replies, and those of the latter."""
    replies = link.try_round([*commands, *then], wait_s=wait_s)
    errors = (as_error(c, r) for c, r in zip(commands, replies, strict=False) if isinstance(r, redis.ResponseError))
    return next(errors, None), replies[: len(commands)], replies[len(commands) :]


def _settle_call(
    topologies: TopologyStore,
    topology: Topology,
    parcels: Sequence[Parcel],
    done: Sequence[Delivery],
    also: Sequence[Command],
    force: bool,
) -> tuple[Command, list[str], dict[int, Refusal], list[Command]]:
    """Return the call of settle.lua, the streams by number, the parcels that have no endpoint, and what answers."""
    answers: list[Command] = []
    refused: dict[int, Refusal] = {}
    bodies: dict[str, list[bytes]] = {}
    for index, parcel in enumerate(parcels):
        targets = topology.streams_for(parcel)
        if targets is None:
            if is_reply_address(parcel.to):
                answers.append(reply_command(topologies.reply_stream(parcel.to), parcel.body))
            else:
                refused[index] = Refusal.NO_ENDPOINT
            continue
        for stream in targets:
            bodies.setdefault(stream, []).append(parcel.body)
    if refused:
        # What has nowhere to go must be on record before anything says that it was dispatched.
        done, also = (), ()
    ids = acks(done)
    streams = list(bodies) + [stream for stream in ids if stream not in bodies]
    # What is acked in the same write makes room for what is sent.
    limits = [
        -1 if force or stream not in bodies else topology.limits[stream] + len(ids.get(stream, ()))
        for stream in streams
    ]
    args: list[Any] = [topology.version, len(streams), *limits, len(bodies)]
    for number, written in enumerate(bodies.values(), 1):
        args += (number, len(written), *written)
    chunks = [
        (streams.index(stream) + 1, listed[start : start + _ACKS_A_CALL])
        for stream, listed in ids.items()
        for start in range(0, len(listed), _ACKS_A_CALL)
    ]
    args.append(len(chunks))
    for number, chunk in chunks:
        args += (number, len(chunk), *chunk)
    args.append(len(also))
    for command in also:
        args += (len(command.args), *command.args)
    keys = [topologies.key, *streams, *dict.fromkeys(str(command.key) for command in also)]
    return _SETTLE.call(keys, args), streams, refused, answers


class ClusterSender:
    """One script a stream, concurrently; then, when every stream has confirmed, the acks.

    Two things are looser than on one server. A subscriber that is declared while a send is under way can miss it if
    the send's check of the topology, which another node does, ran just before the change. And the length limit is
    looked at before the send, not in it: senders that race may each exceed it by what they send at once.
    """

    def __init__(self, link: Link, topologies: TopologyStore) -> None:
        self._link = link
        self._topologies = topologies
        self._lengths: dict[str, int] = {}

    def settle(
        self,
        parcels: Sequence[Parcel],
        done: Sequence[Delivery],
        also: Sequence[Command],
        then: Sequence[Command],
        *,
        force: bool,
        wait_s: float = 0.0,
    ) -> Settled:
        """Send everywhere, then ack; see `Sender.settle`."""
        if also:
            raise ConfigurationError(
                "no store shares a write with the queues of a cluster; give it its commands itself"
            )
        refused = self._send(parcels, acks(done), force) if parcels else {}
        commands = [] if refused else ack_commands(done)
        error, _, replies = _round(self._link, commands, then, wait_s)
        return Settled(refused, replies, error)

    def _send(self, parcels: Sequence[Parcel], freed: dict[str, list[bytes]], force: bool) -> dict[int, Refusal]:
        topology = self._topologies.cached
        sent: set[tuple[int, str]] = set()
        while True:
            refused: dict[int, Refusal] = {}
            bodies: dict[str, list[bytes]] = {}
            missing: set[tuple[int, str]] = set()
            answers: list[Command] = []
            for index, parcel in enumerate(parcels):
                targets = topology.streams_for(parcel)
                if targets is None and is_reply_address(parcel.to):
                    stream = self._topologies.reply_stream(parcel.to)
                    if (index, stream) not in sent:
                        missing.add((index, stream))
                        answers.append(reply_command(stream, parcel.body))
                elif targets is None:
                    refused[index] = Refusal.NO_ENDPOINT
                for stream in targets or ():
                    if (index, stream) not in sent:
                        missing.add((index, stream))
                        bodies.setdefault(stream, []).append(parcel.body)
            full = set() if force or sent else self._full(topology, bodies, freed)
            if full:
                return refused | {index: Refusal.FULL for index, stream in missing if stream in full}
            version = Command(("HGET", self._topologies.key, "version"), self._topologies.key)
            calls = [_APPEND.call([stream], bodies_here) for stream, bodies_here in bodies.items()]
            current, *lengths = self._link.round([version, *calls, *answers])
            self._lengths.update(zip(bodies, lengths, strict=False))
            sent |= missing
            if (current or b"") == topology.version:
                return refused
            topology = self._topologies.refresh()

    def _full(self, topology: Topology, streams: Iterable[str], freed: dict[str, list[bytes]]) -> set[str]:
        """Return which of *streams* are full, asking only about those that were not far from it when last seen."""
        doubtful = [s for s in streams if self._lengths.get(s, topology.limits[s]) * 2 >= topology.limits[s]]
        if not doubtful:
            return set()
        lengths = self._link.round([Command(("XLEN", stream), stream) for stream in doubtful])
        self._lengths.update(zip(doubtful, lengths, strict=True))
        return {s for s in doubtful if self._lengths[s] >= topology.limits[s] + len(freed.get(s, ()))}
