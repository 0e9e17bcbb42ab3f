"""A store with everything in it that sagas leave there, and how each stored field is damaged in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import redis
from attrs import define, field, frozen

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.advance import advance
from sagabus.commit import Want
from sagabus.envelope import Incoming, SagaKey, encode, wrap
from sagabus.store.protocol import Bookkeeping, Scheduled
from tests.integration.apps import put

SOON: Final = RetryPolicy(max_attempts=2, first_delay_s=0.0)


@message("damage.open")
class Open:
    shop: str


@message("damage.note")
class Note:
    shop: str
    number: int


@message("damage.remind")
class Remind:
    """A timer."""


@message("damage.told")
class Told:
    shop: str
    number: int


@define
class Shop:
    numbers: set[int] = field(factory=set)


def both(a: Shop, b: Shop, ancestor: Shop) -> Shop:
    return Shop(a.numbers | b.numbers)


class Shops(Saga[Shop], key="shop", merger=both):
    """Leaves everything behind that a saga can: versions with parents, timers, an outbox, siblings, a starter."""

    @starts
    def opened(self, m: Open) -> None:
        self.defer(Remind(), after=timedelta(hours=1), name="remind")

    @handles
    def noted(self, m: Note) -> None:
        self.state.numbers.add(m.number)
        self.send(Told(m.shop, m.number), to="ledger")

    @handles
    def reminded(self, m: Remind) -> None: ...


@define
class Stage:
    """A bus over a server, and what its ledger was told."""

    bus: Bus
    told: set[tuple[str, int]] = field(factory=set)


def open_stage(url: str, namespace: str) -> Stage:
    """Return the bus of this module, with an empty ledger."""
    stage = Stage(Bus(store=url, transport=url, namespace=namespace))
    stage.bus.endpoint("shops", Shops, retry=SOON, early=SOON)
    ledger = stage.bus.endpoint("ledger", retry=SOON)

    @ledger.consumer
    def told(m: Told, context: Context) -> None:
        stage.told.add((m.shop, m.number))

    return stage


def fill(stage: Stage) -> None:
    """Leave two shops in the store, each with siblings, a timer, history, and an outbox that was not dispatched.

    Beside them a document, a dead letter, and a message that is due.
    """
    bus = stage.bus
    definition = bus.endpoints["shops"].sagas[0]
    for shop in ("victim", "other"):
        key = SagaKey("Shops", shop)
        opened = wrap(Open(shop), id=f"open-{shop}", source="/t", now_ms=1)
        (snapshot,) = bus.store.load([Want(key, (opened.id,))])
        bus.store.commit([advance(definition, snapshot, [Incoming(opened)])], by="t")
        (snapshot,) = bus.store.load([Want(key)])
        for number in (1, 2):
            envelope = wrap(Note(shop, number), id=f"note-{number}-{shop}", source="/t", now_ms=1)
            bus.store.commit([advance(definition, snapshot, [Incoming(envelope)])], by="t")
    bus.documents.create("victim", Shop({1}))
    put(bus, "shops", b"no envelope")
    bus.worker(["shops"]).run_until_idle()
    assert [letter.reason for letter in bus.store.dead()] == ["undecodable"]
    due = encode(wrap(Note("victim", 9), id="due-victim", source="/t", now_ms=1))
    bus.store.note(Bookkeeping(scheduled=(Scheduled("due-victim", "shops", due, 1, "victim"),)))


@frozen
class Damage:
    """One way to damage one stored thing: which key, which part of it, and how."""

    key: str
    part: str
    how: str

    def __str__(self) -> str:
        return f"{self.key} {self.part} {self.how}"


HOW: Final[dict[str, Callable[[bytes], bytes]]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: b"\xff\xfe garbage \x00\x1b[2J",
    "truncated": lambda data: data[: len(data) // 2],
    "another type": lambda data: b"\x2a",
    "array of nothing": lambda data: b"\x90",
    "format 9": lambda data: b"\x99\x09" + data[2:] if data else b"\x99\x09",
    "trailing": lambda data: data + b"\x00{]",
}
WAYS: Final = (*HOW, "missing")


_PARTS: Final[dict[bytes, Callable[[redis.Redis, str], Any]]] = {
    b"hash": lambda client, name: client.hkeys(name),
    b"zset": lambda client, name: client.zrange(name, 0, -1),
    b"set": lambda client, name: client.smembers(name),
}


def damages(client: redis.Redis, namespace: str, ways: Sequence[str]) -> Iterator[Damage]:
    """Yield how what a namespace holds can be damaged: each part of each key in each of *ways*, and each key whole."""
    for name in sorted(key.decode() for key in client.scan_iter(f"{namespace}:*")):
        kind = client.type(name)
        if kind == b"stream":
            continue
        yield Damage(name, "", "wrong type")
        if kind == b"list":
            parts = [str(index) for index in range(client.llen(name))]
        else:
            parts = [part.decode() for part in _PARTS.get(kind, lambda *_: [b""])(client, name)]
        yield from (Damage(name, part, how) for part in parts for how in ways)


def inflict(client: redis.Redis, damage: Damage) -> None:
    """Do it."""
    key, part, how = damage.key, damage.part, damage.how
    kind = client.type(key)
    change = HOW.get(how)
    if how == "wrong type":
        client.delete(key)
        if kind == b"string":
            client.lpush(key, "x")
        else:
            client.set(key, "x")
    elif kind == b"hash":
        if change:
            client.hset(key, part, change(client.hget(key, part) or b""))
        else:
            client.hdel(key, part)
    elif kind == b"zset":
        score = client.zscore(key, part)
        client.zrem(key, part)
        if change:
            client.zadd(key, {change(part.encode()): score})
    elif kind == b"set":
        client.srem(key, part)
        if change:
            client.sadd(key, change(part.encode()))
    elif kind == b"list":
        if change:
            client.lset(key, int(part), change(client.lindex(key, int(part)) or b""))
        else:
            client.lpop(key)
    elif change:
        client.set(key, change(client.get(key) or b""))
    else:
        client.delete(key)
