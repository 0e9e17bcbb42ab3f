"""A cluster that changes under load: slots move with their keys, and primaries die."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from sagabus.link import Command, Link
from sagabus.store.redis import RedisStore
from sagabus.testing.store_contract import KEY, put, read, started, states, writing
from tests import servers
from tests.chaos.lab.cluster import Cluster
from tests.integration.apps import Order, order_app, settle
from tests.integration.test_runtime import working

ORDERS = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield three primaries, each with a replica."""
    with Cluster(tmp_path_factory.mktemp("cluster"), replicas=True) as cluster:
        yield cluster


def test_slots_that_move_under_load_are_followed(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queues, sagas and timers change their nodes while messages are handled; every order is delivered once."""
    monkeypatch.setattr("sagabus.runtime.lane.IDLE_WAIT_S", 0.05)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    app = order_app(cluster.url, cluster.url, namespace=namespace)
    queues = [f"{namespace}:q:{{{name}:0}}" for name in ("orders", "workshop", "ledger")]
    over, moved, failed = threading.Event(), [0], list[BaseException]()

    def move() -> None:
        try:
            while not over.is_set():
                keys: list[str] = []
                for node in cluster.primaries:
                    with node.client() as client:
                        keys += client.scan_iter(f"{namespace}:*", count=10_000)
                for key in chance.sample(keys, min(len(keys), 5)) + queues:
                    moved[0] += cluster.move_slot(key_slot(key.encode()), chance.randrange(3))
        except BaseException as error:
            failed.append(error)

    mover = threading.Thread(target=move)
    with working(app.bus):
        app.bus.send(Order("0"), to="orders")
        mover.start()
        for number in range(1, ORDERS):
            app.bus.send(Order(str(number)), to="orders")
        servers.until(lambda: failed or (app.finished(ORDERS) and moved[0] > 20), "all deliveries")
    over.set()
    mover.join()
    assert failed == []
    settle(app.bus)
    app.check(ORDERS)
    app.bus.close()


def test_receiver_that_waits_on_a_queue_whose_slot_moves_gets_what_comes(cluster: Cluster, namespace: str) -> None:
    """A blocked read is unblocked when its slot leaves, and goes on at the new node."""
    app = order_app(cluster.url, cluster.url, namespace=namespace)
    receiver = app.bus.transport.receiver(["orders"], consumer="c", claim_s=60)
    assert receiver.receive(64, 0.0) == []
    came: list[bytes] = []
    thread = threading.Thread(target=lambda: came.extend(d.body for d in receiver.receive(64, 30.0)))
    thread.start()
    slot = key_slot(f"{namespace}:q:{{orders:0}}".encode())
    home = cluster.nodes[cluster.owner(slot)].client()
    servers.until(lambda: any(c["cmd"] == "xreadgroup" for c in home.client_list()), "a blocked receiver")
    home.close()
    cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3)
    app.bus.send(Order("0"), to="orders")
    thread.join(60)
    assert len(came) == 1
    app.bus.close()


def test_script_is_told_to_the_node_that_a_slot_has_moved_to(cluster: Cluster, namespace: str) -> None:
    """EVALSHA finds no script there; all of a saga's keys have moved, and its next commit is stored."""
    store = RedisStore(cluster.url, namespace=namespace)
    base = started(store)
    slot = key_slot(store._keys.saga(KEY).encode())
    target = (cluster.owner(slot) + 1) % 3
    with cluster.nodes[target].client() as client:
        client.script_flush()
    assert cluster.move_slot(slot, target) > 1
    put(store, writing(base, b"s1", "m"))
    assert states(read(store)) == [b"s1"]
    store.close()


def test_primary_that_dies_is_followed_by_its_replica(cluster: Cluster, namespace: str) -> None:
    """What replicas have confirmed is there, under another actor; and nobody asks the dead node any more."""
    link = Link(cluster.url, replicas=1, patience_s=60.0)
    store = RedisStore(cluster.url, namespace=namespace, link=link)
    base = started(store)
    (version,) = base.versions
    slot = key_slot(store._keys.saga(KEY).encode())
    dead = cluster.owner(slot)
    address = f"127.0.0.1:{cluster.nodes[dead].port}"
    assert address in link.node_keys()
    heir = cluster.promote(dead)
    # By the address of one that lives: the node that died may be the one in the cluster's URL. It has no replica
    # of its own now, and would wait for one for ever.
    url = f"redis+cluster://127.0.0.1:{heir.port}"
    after = RedisStore(url, namespace=namespace, link=Link(url, patience_s=60.0))
    found = read(after)
    assert states(found) == [b"s0"]
    result = put(after, writing(found, b"s1", "m"))
    assert result.dot is not None
    assert result.dot.actor != version.dot.actor
    record = store._keys.saga(KEY) + "r"
    assert link.round([Command(("EXISTS", record), record)]) == [1]
    assert address not in link.node_keys()
    assert [row.key for row in after.sagas()] == [KEY]
    store.close()
    after.close()
