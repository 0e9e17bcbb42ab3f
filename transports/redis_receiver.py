"""How deliveries come out of streams: new ones in batches, those that were left behind one at a time."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import redis

from sagabus.errors import SagabusError
from sagabus.link import Command, Link, Script, as_error
from sagabus.transport import Delivery, Exchanged, Parcel
from transports.redis_sender import Sender, Tag
from transports.redis_topology import GROUP, Topology, TopologyStore, make_groups

# What they write is who holds what: without it a message comes again.
_CLAIM: Final = Script.beside("transports", "claim.lua", lasting=False)
_TIDY: Final = Script.beside("transports", "tidy.lua", lasting=False)
_GIVEN_BACK_MS: Final = 86_400_000  # older than any claim time: whoever looks next takes it over
_FORGET_CONSUMER_MS: Final = 3_600_000
_TIDY_EVERY_S: Final = 600.0
_CLUSTER_POLL_S: Final = (0.004, 0.008, 0.016, 0.032, 0.064)


class _Look(NamedTuple):
    """A search for deliveries that were left behind.

    Attributes:
        which: "own": those of this consumer's earlier life; "lost": those that it was sent in this one and that did not
            arrive; "idle": those that nobody has touched for the claim time.
        after: stream -> the last id that was looked at.
    """

    which: str
    after: dict[str, str]


class StreamsReceiver:
    """One consumer of the streams of some endpoints; see `sagabus.transport.Receiver`.

    A batch has at most as many deliveries as were asked for, or one a stream where there are more streams than that.
    """

    def __init__(
        self,
        link: Link,
        topologies: TopologyStore,
        sender: Sender,
        endpoints: Sequence[str],
        consumer: str,
        claim_s: float,
    ) -> None:
        self._link = link
        self._topologies = topologies
        self._sender = sender
        self._endpoints = tuple(endpoints)
        self._consumer = consumer
        self._claim_s = claim_s
        self._queue_of: dict[str, str] = {}
        self._streams: deque[str] = deque()
        # Where to look for what was left behind, before anything new is read.
        self._looks: deque[_Look] = deque()
        # The streams of the first look that were asked about last; empty where new messages were read.
        self._looked_at: list[str] = []
        self._learn_streams(topologies.cached)
        self._unacked: set[Tag] = set()
        self._kept: list[Delivery] = []
        self._look_for("own")
        self._claim_at = 0.0
        self._lost_at = math.inf
        self._tidy_at = 0.0

    def receive(self, limit: int, wait_s: float) -> list[Delivery]:
        """Return up to *limit* deliveries; see `Receiver.receive`."""
        return self.exchange((), (), (), limit, wait_s).deliveries

    def exchange(
        self,
        parcels: Sequence[Parcel],
        done: Sequence[Delivery],
        also: Sequence[Command],
        limit: int,
        wait_s: float,
        *,
        force: bool = False,
        shares: Mapping[str, int] | None = None,
    ) -> Exchanged:
        """Send, run *also*, ack and receive; see `Receiver.exchange`.

        Where a reply was lost on the way the whole write is made again: its parcels may be sent twice, with equal ids.
        """
        losses, whole = self._link.losses, False
        try:
            exchanged, error = self._exchange(parcels, done, also, limit, wait_s, force, shares)
            whole = self._link.losses == losses
        finally:
            if not whole:
                self._look_for_lost()
        if error is not None:
            raise error
        return exchanged

    def _exchange(
        self,
        parcels: Sequence[Parcel],
        done: Sequence[Delivery],
        also: Sequence[Command],
        limit: int,
        wait_s: float,
        force: bool,
        shares: Mapping[str, int] | None,
    ) -> tuple[Exchanged, SagabusError | None]:
        """Return what was done, or why the write was not made."""
        started_at = time.monotonic()
        asking, block_s = self._ask(limit, wait_s, 0, shares) if limit and not self._kept else ([], 0.0)
        refused, replies, error = self._sender.settle(parcels, done, also, asking, force=force, wait_s=block_s)
        if error is not None:
            # What was read with the write that failed waits for the next call.
            self._kept = (self._hear(asking, replies) or []) if asking else self._kept
            self._unacked.update(delivery.tag for delivery in self._kept)
            return Exchanged({}, []), error
        if not refused:
            self._unacked.difference_update(delivery.tag for delivery in done)
        if self._kept or not limit:
            deliveries, self._kept = self._kept[:limit], self._kept[limit:]
            return Exchanged(refused, deliveries), None
        polls = 0
        while True:
            looked = bool(self._looked_at)
            heard = self._hear(asking, replies)
            left_s = 0.0 if refused else max(started_at + wait_s - time.monotonic(), 0.0)
            # What was left behind comes before anything new, so a look that found nothing is followed by a read.
            if heard or (left_s == 0.0 and not looked and heard is not None):
                break
            polls += 1
            asking, block_s = self._ask(limit, left_s, polls, shares)
            replies = self._link.try_round(asking, wait_s=block_s)
        self._unacked.update(delivery.tag for delivery in heard)
        return Exchanged(refused, heard), None

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Renew the claim on *deliveries*; any thread may call it. Delivery counts stay as they are."""
        # No longer than until the next is due.
        self._claim_for_me((delivery.tag for delivery in (*deliveries, *self._kept)), 0, self._claim_s / 3)

    def close(self) -> None:
        """Give back what was not acked: whoever looks for claims next finds it, a new receiver at once."""
        self._claim_for_me(self._unacked, _GIVEN_BACK_MS)
        self._unacked.clear()

    def _claim_for_me(self, tags: Iterable[Tag], idle_ms: int, patience_s: float | None = None) -> None:
        by_stream: dict[str, list[bytes]] = {}
        for tag in tags:
            by_stream.setdefault(tag.stream, []).append(tag.id)
        commands = [
            Command(("XCLAIM", stream, GROUP, self._consumer, 0, *ids, "IDLE", idle_ms, "JUSTID"), stream)
            for stream, ids in by_stream.items()
        ]
        if not commands:
            return
        for command, reply in zip(commands, self._link.try_round(commands, patience_s=patience_s), strict=True):
            # No group: the stream was deleted, and its deliveries with it.
            if isinstance(reply, redis.ResponseError) and not _is_gone(reply):
                raise as_error(command, reply)

    # -- what to ask for ------------------------------------------------------------------------------------------

    def _ask(
        self, limit: int, wait_s: float, polls: int, shares: Mapping[str, int] | None
    ) -> tuple[list[Command], float]:
        """Return what to ask next, and for how many seconds that may block."""
        now = time.monotonic()
        counts = self._counts(limit, shares)
        if now >= self._claim_at and self._next_look(counts) is None:
            self._learn_streams(self._topologies.refresh())
            self._tidy(now)
            self._looks = deque(look for look in self._looks if look.which != "idle")
            self._look_for("idle")
            self._claim_at = now + self._claim_s / 3
            counts = self._counts(limit, shares)
        if now >= self._lost_at:
            self._look_for("lost")
            self._lost_at = math.inf
        look = self._next_look(counts)
        self._looked_at = [] if look is None else [stream for stream in look.after if stream in counts]
        if look is not None:
            self._looks.remove(look)
            self._looks.appendleft(look)
            return [self._claim(look, self._looked_at)], 0.0
        # Nobody tells us when a claim runs out: wake up and look.
        block_s = min(wait_s, max(min(self._claim_at, self._lost_at) - now, 0.001))
        self._streams.rotate(-1)
        if not self._link.is_cluster:
            # One that blocks must be the only one: what others have read would wait for it.
            by_count = {min(counts.values()): list(counts)} if block_s > 0 else _by_count(counts)
            return [self._read(streams, count, block_s) for count, streams in by_count.items()], block_s
        if len(self._streams) > 1:
            # Slots are read one by one, so only one stream, in turn, can be waited for: the others are polled.
            block_s = min(block_s, _CLUSTER_POLL_S[min(polls, len(_CLUSTER_POLL_S)) - 1]) if polls else 0.0
        *polled, waited = self._streams
        reads = [self._read([stream], counts[stream], 0.0) for stream in polled]
        return [*reads, self._read([waited], counts[waited], block_s)], block_s

    def _counts(self, limit: int, shares: Mapping[str, int] | None) -> dict[str, int]:
        """Return how many messages are read of each stream, in turn; without those that are left out."""
        if shares is None:
            return dict.fromkeys(self._streams, max(1, limit // max(1, len(self._streams))))
        partitions = Counter([self._queue_of[stream] for stream in self._streams])
        return {
            stream: max(1, shares[queue] // partitions[queue])
            for stream in self._streams
            if shares.get(queue := self._queue_of[stream], 0) > 0
        }

    def _next_look(self, streams: Collection[str]) -> _Look | None:
        """Return the first look that is not only for what is left out: those wait until it is not."""
        return next((look for look in self._looks if any(stream in streams for stream in look.after)), None)

    def _claim(self, look: _Look, streams: Sequence[str]) -> Command:
        in_hand: list[bytes] = []
        if look.which == "lost":
            numbers = {stream: number for number, stream in enumerate(streams, 1)}
            in_hand = [b"%d %b" % (numbers[tag.stream], tag.id) for tag in self._unacked if tag.stream in numbers]
        idle_ms = max(1, int(self._claim_s * 1000))
        after = [look.after[stream] for stream in streams]
        return _CLAIM.call(streams, [self._consumer, look.which, idle_ms, *after, *in_hand])

    def _read(self, streams: Collection[str], count: int, block_s: float) -> Command:
        block = ("BLOCK", max(1, int(block_s * 1000))) if block_s > 0 else ()
        args = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *block, "STREAMS", *streams)
        return Command((*args, *[">"] * len(streams)), next(iter(streams)))

    def _look_for(self, which: str) -> None:
        """Look for what was left behind in all streams at once; slot by slot on a cluster."""
        groups = [[stream] for stream in self._streams] if self._link.is_cluster else [list(self._streams)]
        self._looks.extend(_Look(which, dict.fromkeys(streams, "-")) for streams in groups)

    def _look_for_lost(self) -> None:
        """Look for deliveries that did not arrive: the server has them down as ours, and nobody else would for long."""
        self._looks = deque(look for look in self._looks if look.which != "lost")
        self._look_for("lost")
        # And once more: what was asked on the connection that was lost may come to the server, or end there, only now.
        self._lost_at = time.monotonic() + self._link.terms.timeout_s

    def _tidy(self, now: float) -> None:
        if now < self._tidy_at:
            return
        self._tidy_at = now + _TIDY_EVERY_S
        commands = [_TIDY.call([stream], [_FORGET_CONSUMER_MS]) for stream in self._streams]
        for command, reply in zip(commands, self._link.try_round(commands), strict=True):
            if isinstance(reply, redis.ResponseError) and not _is_gone(reply):
                raise as_error(command, reply)

    def _learn_streams(self, topology: Topology) -> None:
        # After a flush, an endpoint is unknown until the process that declared it sees to that.
        queue_of = {
            stream: name
            for name in self._endpoints
            for stream in (
                topology.endpoints[name].streams
                if name in topology.endpoints
                else [known for known, owner in self._queue_of.items() if owner == name]
            )
        }
        if queue_of != self._queue_of:
            self._queue_of, self._streams = queue_of, deque(queue_of)
            # A stream that is gone has nothing to look for, and would be missed again by every look.
            left = (
                look._replace(after={s: id_ for s, id_ in look.after.items() if s in queue_of}) for look in self._looks
            )
            self._looks = deque(look for look in left if look.after)

    # -- what came ------------------------------------------------------------------------------------------------

    def _hear(self, asked: Sequence[Command], replies: Sequence[Any]) -> list[Delivery] | None:
        """Return what *replies* deliver; None where a group had to be made again, and was."""
        for command, reply in zip(asked, replies, strict=True):
            if isinstance(reply, redis.ResponseError):
                if not _is_gone(reply):
                    raise as_error(command, reply)
                self._learn_streams(self._topologies.refresh())
                make_groups(self._link, self._streams)
                # What other streams have delivered in the same round.
                self._look_for_lost()
                return None
        if not self._looked_at:
            return self._batch([stream for reply in replies for stream in reply or ()])
        look, found = self._looks[0], replies[0]
        if not found:
            for stream in self._looked_at:
                look.after.pop(stream, None)
            if not look.after:
                self._looks.popleft()
            return []
        stream = self._looked_at[found[0] - 1]
        if look.which != "idle":
            look.after[stream] = found[1].decode()
        return [Delivery(self._queue_of[stream], found[2], found[3], Tag(stream, found[1]))]

    def _batch(self, read: Sequence[Any]) -> list[Delivery]:
        """Return the deliveries that were read, of each stream one in turn.

        What was sent together to several endpoints is handled, and so answered, together.
        """
        by_stream = []
        for key, entries in read:
            stream = key.decode()
            queue = self._queue_of[stream]
            by_stream.append([Delivery(queue, fields[1], 1, Tag(stream, id)) for id, fields in entries])
        if len(by_stream) < 2:
            return by_stream[0] if by_stream else []
        return [delivery for turn in zip_longest(*by_stream) for delivery in turn if delivery is not None]


def _by_count(counts: Mapping[str, int]) -> dict[int, list[str]]:
    by_count: dict[int, list[str]] = {}
    for stream, count in counts.items():
        by_count.setdefault(count, []).append(stream)
    return by_count


def _is_gone(error: redis.ResponseError) -> bool:
    """Say whether *error* is about a stream or group that somebody deleted."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED", "no such key", "ERR no such key"))
