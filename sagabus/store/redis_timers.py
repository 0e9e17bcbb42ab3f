"""Messages that wait for their time, in Redis or Valkey: `due.lua` hands them out, on the server's clock.

On one server they lie in one place. On a cluster they are spread over sixteen, each a slot of its own, by their ids, so
that millions of them are not the burden of one node. The first place has the same name on both: what a server held
before it was moved into a cluster is still found there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from sagabus.link import Command, Link, Script
from sagabus.store.chunks import chunks
from sagabus.store.layout import Keys, TimerPlace
from sagabus.store.protocol import Scheduled

# What it writes is who is sending what: without it a message is sent twice, with one id.
_DUE: Final = Script.beside("sagabus.store", "due.lua", lasting=False)
_RIPE: Final = Script.beside("sagabus.store", "ripe.lua")
_PLACES_ON_A_CLUSTER: Final = 16

T = TypeVar("T")


class _Row(msgspec.Struct, array_like=True, frozen=True):
    id: str
    endpoint: str
    body: bytes
    due_ms: int
    partition_key: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(_Row)


class RedisTimers:
    """Keeps messages until they are due, for `RedisStore`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        count = _PLACES_ON_A_CLUSTER if link.is_cluster else 1
        self._places = [keys.timer_place(number) for number in range(count)]

    @property
    def places(self) -> Sequence[TimerPlace]:
        """Return where messages may wait."""
        return self._places

    def places_of(self, id_: str) -> list[TimerPlace]:
        """Return where the message that is scheduled as *id_* may wait."""
        ((place, _),) = self._by_place([id_], lambda same: same)
        return [place] if place is self._places[0] else [place, self._places[0]]

    def scheduling(self, items: Sequence[Scheduled]) -> list[Command]:
        """Return the commands that keep *items* until they are due."""
        commands = []
        for place, here in self._by_place(items, lambda item: item.id):
            for part in chunks(here):
                bodies: list[Any] = []
                whens: list[Any] = []
                for item in part:
                    row = _Row(item.id, item.endpoint, item.body, item.due_ms, item.partition_key)
                    bodies += (item.id, _encode(row))
                    whens += (item.due_ms, item.id)
                commands.append(Command(("HSET", place.bodies, *bodies), place.bodies))
                commands.append(Command(("ZADD", place.whens, *whens), place.whens))
        return commands

    def unscheduling(self, ids: Sequence[str]) -> list[Command]:
        """Return the commands that forget *ids*, wherever they are."""
        first, *_ = self._places
        spread = self._by_place(ids, lambda id_: id_)
        commands = []
        for place, here in (*((place, here) for place, here in spread if place is not first), (first, ids)):
            for part in chunks([_stored_id(id_) for id_ in here]):
                commands.append(Command(("ZREM", place.whens, *part), place.whens))
                commands.append(Command(("HDEL", place.bodies, *part), place.bodies))
        return commands

    def due(self, limit: int, lease_s: float) -> list[Scheduled]:
        """See `Store.due`."""
        shares = [(self._places[0], limit)] if len(self._places) == 1 else self._shares(limit)
        lease_ms = round(lease_s * 1000)
        calls = [_DUE.call((place.whens, place.bodies), (share, lease_ms)) for place, share in shares]
        replies = self._link.round(calls) if calls else []
        found = [read_row(reply[i], reply[i + 1]) for reply in replies for i in range(0, len(reply), 2)]
        return found if len(shares) < 2 else sorted(found, key=lambda item: item.due_ms)

    def _shares(self, limit: int) -> list[tuple[TimerPlace, int]]:
        """Return how many each place is to hand out, so that the soonest of all are among them."""
        replies = self._link.round([_RIPE.call((place.whens,), (limit,)) for place in self._places])
        ripe = merge(*([(float(when), place) for when in whens] for place, whens in enumerate(replies)))
        shares: dict[int, int] = {}
        for _, place in islice(ripe, limit):
            shares[place] = shares.get(place, 0) + 1
        return [(self._places[place], share) for place, share in shares.items()]

    def next_due_ms(self) -> tuple[int, int | None]:
        """See `Store.next_due_ms`."""
        names = [place.whens for place in self._places]
        firsts = [Command(("ZRANGE", name, 0, 0, "WITHSCORES"), name) for name in names]
        now, *replies = self._link.round([Command(("TIME",), names[0]), *firsts])
        return int(now[0]) * 1000 + int(now[1]) // 1000, min((int(float(r[1])) for r in replies if r), default=None)

    def scheduled(self, limit: int) -> list[Scheduled]:
        """See `Store.scheduled`."""
        names = [place.whens for place in self._places]
        replies = self._link.round([Command(("ZRANGE", name, 0, limit - 1, "WITHSCORES"), name) for name in names])
        ordered = merge(
            *(
                [(float(reply[i + 1]), reply[i], number) for i in range(0, len(reply), 2)]
                for number, reply in enumerate(replies)
            )
        )
        chosen = list(islice(ordered, limit))
        wanted: dict[int, list[bytes]] = {}
        for _, id_, number in chosen:
            wanted.setdefault(number, []).append(id_)
        bodies: dict[tuple[int, bytes], bytes | None] = {}
        asked = [Command(("HMGET", self._places[n].bodies, *ids), self._places[n].bodies) for n, ids in wanted.items()]
        for (number, ids), reply in zip(wanted.items(), self._link.round(asked), strict=True):
            bodies.update(((number, id_), body) for id_, body in zip(ids, reply, strict=True))
        found = ((id_, bodies[number, id_]) for _, id_, number in chosen)
        return [read_row(id_, body) for id_, body in found if body is not None]

    def _by_place(self, items: Iterable[T], id_of: Any) -> list[tuple[TimerPlace, list[T]]]:
        if len(self._places) == 1:
            return [(self._places[0], list(items))]
        groups: dict[int, list[T]] = {}
        for item in items:
            groups.setdefault(zlib.crc32(_stored_id(id_of(item))) % len(self._places), []).append(item)
        return [(self._places[number], group) for number, group in sorted(groups.items())]


def _stored_id(id_: str) -> bytes:
    """Return an id as it is stored, damaged ones too."""
    return id_.encode(errors="surrogateescape")


def read_row(stored_id: bytes, data: bytes | None) -> Scheduled:
    """Return the message that a store keeps as *data*; where that is damaged or missing, one that says so."""
    id_ = stored_id.decode(errors="surrogateescape")
    if data is None:
        return Scheduled(id_, "", b"", 0, unreadable="it is missing")
    try:
        row = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        return Scheduled(id_, "", data, 0, unreadable=f"{type(error).__name__}: {error}")
    if row.id != id_:
        return Scheduled(id_, "", data, 0, unreadable="another id stands in it")
    return Scheduled(row.id, row.endpoint, row.body, row.due_ms, row.partition_key)
