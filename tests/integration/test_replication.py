"""What a failover may lose, and what it may not: real primaries, replicas and sentinels."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagabus import Bus
from sagabus.commit import Half, Outcome
from sagabus.dead_letters.letter import DeadLetter
from sagabus.errors import ConfigurationError, NotReplicatedError, StoreRefusedError
from sagabus.link import Link
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Bookkeeping
from sagabus.store.redis import RedisStore
from sagabus.testing.store_contract import KEY, left, put, read, sent, started, writing
from tests import servers
from tests.integration.apps import Order, order_app, order_key, settle
from tests.integration.test_runtime import working
from tests.servers import Member
from transports.redis_streams import RedisStreamsTransport


@pytest.fixture(scope="module")
def both() -> Iterator[list[Member]]:
    """Yield a primary and its replica, for tests that leave them as they were."""
    with servers.replicated() as members:
        yield members


@pytest.fixture
def members(both: list[Member]) -> Iterator[list[Member]]:
    """Yield a primary and a replica that follows it; afterwards it does so again."""
    yield both
    primary, replica = both
    if replica.client.info("replication")["role"] == "master":
        replica.follow(primary)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lanes look up often, and pumps that died with due messages be followed soon."""
    monkeypatch.setattr("sagabus.runtime.lane.IDLE_WAIT_S", 0.05)


def store_on(url: str, namespace: str, **options: float) -> RedisStore:
    """Return a store whose link gives up soon."""
    return RedisStore(url, namespace=namespace, link=Link(url, timeout_s=2.0, patience_s=0.1, **options))  # type: ignore[arg-type]


def waits(member: Member) -> int:
    """Return how often a server was asked for its replicas."""
    stats: dict[str, Any] = member.client.info("commandstats")
    return int(stats.get("cmdstat_wait", {}).get("calls", 0))


def test_send_returns_when_replicas_have_the_message(members: list[Member], namespace: str) -> None:
    """What `send` has returned for is on the replica; where it cannot get there, `send` says so."""
    primary, replica = members
    app = order_app(primary.url, primary.url, namespace=namespace, durability="replicated", replicas=1, claim_s=2.0)
    app.bus.send(Order("0"), to="orders")
    assert replica.client.xlen(f"{namespace}:q:{{orders:0}}") == 1
    replica.promote()
    with pytest.raises(NotReplicatedError, match="0 of 1 replicas"):
        app.bus.send(Order("1"), to="orders")
    replica.follow(primary)
    app.bus.send(Order("2"), to="orders")
    assert replica.client.xlen(f"{namespace}:q:{{orders:0}}") == 3
    app.bus.close()


def test_nothing_is_dispatched_or_acked_before_replicas_have_the_commit(
    members: list[Member], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker stores what a saga decided, and sends and acks nothing of it until its replica is back; then all."""
    primary, replica = members
    app = order_app(primary.url, primary.url, namespace=namespace, durability="replicated", claim_s=2.0)
    app.bus.send(Order("0"), to="orders")
    store, cut_off, alone = app.bus.store, list[bool](), threading.RLock()
    assert isinstance(store, RedisStore)
    commit, try_round = store.commit, store.link.try_round

    def commit_cut_off(*args: Any, **options: Any) -> Any:
        with alone:
            if not cut_off:
                replica.promote()
                cut_off.append(True)
            return commit(*args, **options)

    def round_alone(*args: Any, **options: Any) -> Any:
        with alone:
            return try_round(*args, **options)

    # Once a write was not confirmed, no other is made: were that the timers' and not the commit, none would be stored.
    monkeypatch.setattr(store, "commit", commit_cut_off)
    monkeypatch.setattr(store.link, "try_round", round_alone)
    watching = RedisStore(primary.url, namespace=namespace)
    queues = RedisStreamsTransport(primary.url, namespace=namespace)
    with working(app.bus):
        servers.until(lambda: watching.history(order_key(0)), "a commit")
        asked = waits(primary)
        servers.until(lambda: waits(primary) > asked + 2, "a worker that keeps asking")
        assert {queue.endpoint: queue.depth for queue in queues.queues()} == {"orders": 1, "workshop": 0, "ledger": 0}
        assert app.delivered == []
        replica.follow(primary)
        servers.until(lambda: app.finished(1), "the delivery")
    settle(app.bus)
    app.check(1)
    app.bus.close()
    watching.close()
    queues.close()


def test_what_another_worker_could_not_replicate_is_not_dispatched_again(members: list[Member], namespace: str) -> None:
    """Who finds an id consumed makes sure that replicas have the commit before it sends what that has left."""
    primary, replica = members
    first, second = (store_on(primary.url, namespace, replicas=1) for _ in range(2))
    base = started(first)
    replica.promote()
    commit = writing(base, b"s1", "m", facts=Half(b"s1", {"m": sent("x")}))
    with pytest.raises(NotReplicatedError):
        put(first, commit)
    with pytest.raises(NotReplicatedError):
        read(second, "m")
    with pytest.raises(NotReplicatedError):
        put(second, commit)
    assert read(second).clock  # reading what is there asks nobody
    replica.follow(primary)
    assert left(read(second, "m"), "m") == ["x"]
    assert put(second, commit).outcome is Outcome.DUPLICATE
    first.close()
    second.close()


def test_dead_letter_that_another_worker_could_not_replicate_acks_nothing(
    members: list[Member], namespace: str
) -> None:
    """A message is acked because its letter is there, so replicas must have the letter first."""
    primary, replica = members
    first, second = (store_on(primary.url, namespace, replicas=1) for _ in range(2))
    replica.promote()
    letter = DeadLetter("m", "credit", "failed", "", "", 1, 0, b"{}")
    with pytest.raises(NotReplicatedError):
        first.note(Bookkeeping(buried=(letter,)))
    with pytest.raises(NotReplicatedError):
        second.letters.given_up("credit", "m")
    replica.follow(primary)
    assert second.letters.given_up("credit", "m")
    first.close()
    second.close()


def test_dot_that_a_failover_lost_is_not_used_again(members: list[Member], namespace: str) -> None:
    """The promoted replica counts under a name of its own, and a run that read what was lost is made again."""
    primary, replica = members
    before = store_on(primary.url, namespace)
    base = started(before)
    primary.client.execute_command("WAIT", 1, 5000)
    servers.until(lambda: replica.client.exists(before._keys.saga(KEY) + "r"), "the record on the replica")
    replica.promote()
    lost = put(before, writing(base, b"lost", "m"))
    stale = read(before)
    after = store_on(replica.url, namespace)
    assert put(after, writing(stale, b"from what was lost", "n")).outcome is Outcome.AGAIN
    kept = read(after)
    assert kept.clock == base.clock
    found = put(after, writing(kept, b"found", "m"))
    assert found.outcome is Outcome.STORED
    assert found.dot is not None
    assert lost.dot is not None
    assert found.dot.actor != lost.dot.actor
    before.close()
    after.close()


def test_primary_that_restarts_on_its_file_counts_under_another_name(tmp_path: Path, namespace: str) -> None:
    """The last second of the file may be missing, and nobody can tell."""
    dots = []
    for state in (b"s0", b"s1"):
        with servers.valkey(dir=str(tmp_path), appendonly="yes", appendfsync="always") as url:
            store = store_on(url, namespace)
            found = read(store)
            result = put(store, writing(found, state, state.decode()))
            assert result.outcome is Outcome.STORED
            dots.append(result.dot)
            store.close()
    assert len(found.versions) == 1
    assert dots[0].actor != dots[1].actor


def test_bus_that_starts_without_replicas_can_be_looked_at(
    members: list[Member], namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is missing, and reads; whoever writes waits, and is told after the patience."""
    primary, _ = members
    bus = Bus(primary.url, namespace=namespace, durability="replicated", replicas=2, claim_s=2.0)
    assert list(bus.store.sagas()) == []
    said = capsys.readouterr().err
    assert "replicas-missing" in said
    assert "wanted=2" in said
    with pytest.raises(NotReplicatedError, match="1 of 2 replicas"):
        put(bus.store, writing(read(bus.store), b"s0", "start"))
    bus.close()


def test_server_that_is_made_to_evict_stops_the_work_until_it_is_mended(
    members: list[Member], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that is changed at run time is noticed, and everything goes on when it is changed back."""
    monkeypatch.setattr("sagabus.link.node._LOOK_S", 0.0)
    primary, _ = members
    app = order_app(primary.url, primary.url, namespace=namespace)
    with working(app.bus):
        app.bus.send(Order("0"), to="orders")
        servers.until(lambda: app.finished(1), "the first delivery")
        primary.client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(StoreRefusedError, match="allkeys-lru"):
                app.bus.send(Order("1"), to="orders")
        finally:
            primary.client.config_set("maxmemory-policy", "noeviction")
        app.bus.send(Order("1"), to="orders")
        servers.until(lambda: app.finished(2), "the second delivery")
    settle(app.bus)
    app.check(2)
    app.bus.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"durability": "eternal"}, "write 'local' or 'replicated'"),
        ({"durability": "replicated", "replicas": 0, "store": "redis://h"}, "at least 1"),
        ({"durability": "replicated", "store": "memory:"}, "memory: has none"),
        ({"durability": "replicated", "store": "embedded:"}, "embedded: has none"),
        ({"durability": "replicated", "store": "redis://h", "transport": "memory:"}, "memory: has none"),
    ],
)
def test_durability_that_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    """At the definition of the bus, with the mend."""
    with pytest.raises(ConfigurationError, match=words):
        Bus(**options)


def test_store_that_cannot_wait_for_replicas_is_refused() -> None:
    """A store of one's own that knows no replicas would release what it should hold back."""

    class Own(MemoryStore):
        url = "own://here"

    with (
        Bus(Own(), "redis://nowhere.invalid", durability="replicated") as bus,
        pytest.raises(ConfigurationError, match="cannot say what its replicas have"),
    ):
        bus.store  # noqa: B018 - made when it is first asked for


def test_sentinels_lead_workers_and_senders_through_a_failover(namespace: str) -> None:
    """A primary is killed under load; its sentinel promotes a replica, and every order is delivered once."""
    orders = 30
    with servers.sentinel(replicas=2) as (url, (primary, *_)):
        app = order_app(url, url, namespace=namespace, durability="replicated", replicas=1)
        with working(app.bus):
            for number in range(orders):
                if number == orders // 3:
                    servers.until(lambda: app.delivered, "the first delivery")
                    threading.Thread(target=primary.kill).start()
                send_until_taken(app.bus, number)
            servers.until(lambda: app.finished(orders), "all deliveries")
        settle(app.bus)
        app.check(orders)
        app.bus.close()


def send_until_taken(bus: Bus, number: int) -> None:
    """Send an order under an id of its own, again where the bus could not say that it was taken."""
    give_up_at = time.monotonic() + 60.0
    while True:
        try:
            bus.send(Order(str(number)), to="orders", id=f"order-{number}")
            return
        except NotReplicatedError:
            if time.monotonic() > give_up_at:
                raise
