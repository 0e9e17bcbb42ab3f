"""Messages that wait on a cluster: spread over its nodes, and handed out as from one place."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from redis.crc import key_slot

from sagabus.link import Command
from sagabus.store.protocol import Bookkeeping, Scheduled
from sagabus.store.redis import RedisStore
from tests import servers

COUNT = 600


@pytest.fixture
def store(cluster_url: str, namespace: str) -> Iterator[RedisStore]:
    """Yield an empty store on the cluster."""
    store = RedisStore(cluster_url, namespace=namespace)
    store.open()
    yield store
    store.close()


def scheduled(store: RedisStore, count: int) -> list[Scheduled]:
    """Schedule *count* messages that are due, in no order, and return them soonest first."""
    now_ms, _ = store.next_due_ms()
    items = [Scheduled(f"timer-{n}", "credit", b"{}", now_ms - 10_000 + n * 7919 % count) for n in range(count)]
    store.note(Bookkeeping(scheduled=tuple(items)))
    return sorted(items, key=lambda item: item.due_ms)


def waiting(store: RedisStore) -> list[int]:
    """Return how many messages wait in each of the places."""
    names = [store._keys.timer_place(number).whens for number in range(16)]
    return store.link.round([Command(("ZCARD", name), name) for name in names])


def test_timers_on_a_cluster_are_spread_over_its_nodes(store: RedisStore) -> None:
    """No place has much more than its share, and each is a slot of its own."""
    scheduled(store, COUNT)
    held = waiting(store)
    assert (sum(held), min(held) > 0, max(held) < COUNT / 4) == (COUNT, True, True)
    slots = {key_slot(store._keys.timer_place(number).whens.encode()) for number in range(16)}
    assert len({slot * 3 // servers.SLOTS for slot in slots}) == 3


def test_timers_on_a_cluster_are_handed_out_soonest_first(store: RedisStore) -> None:
    """From whatever place: two that ask by turns get all of them, each once, in their order."""
    items = scheduled(store, COUNT)
    assert store.scheduled(10) == items[:10]
    got = [store.due(100, 60.0) for _ in range(COUNT // 100)]
    assert [item for batch in got for item in batch] == items
    assert store.due(100, 60.0) == []


def test_timers_that_a_single_server_held_are_found_on_a_cluster(store: RedisStore) -> None:
    """A server's data may be moved into a cluster: what lies in the first place is handed out, and can be cancelled."""
    now_ms, _ = store.next_due_ms()
    items = [Scheduled(f"old-{n}", "credit", b"{}", now_ms - 100 + n) for n in range(20)]
    place = store._keys.timer_place(0)
    rows = [
        part
        for item in items
        for part in (item.id, msgspec.msgpack.encode((item.id, "credit", b"{}", item.due_ms, "")))
    ]
    whens = [part for item in items for part in (item.due_ms, item.id)]
    store.link.round(
        [
            Command(("HSET", place.bodies, *rows), place.bodies),
            Command(("ZADD", place.whens, *whens), place.whens),
        ]
    )
    store.note(Bookkeeping(unscheduled=tuple(item.id for item in items[:10])))
    assert store.due(100, 60.0) == items[10:]
    store.note(Bookkeeping(unscheduled=tuple(item.id for item in items[10:])))
    assert (sum(waiting(store)), store.scheduled()) == (0, [])
