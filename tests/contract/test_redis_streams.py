"""What Redis Streams promise beyond the transport contract: one atomic write, one round trip, no stranded entry."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from sagabus.errors import ConfigurationError, StoreFullError, StoreRefusedError, StoreUnavailableError
from sagabus.link import EPOCH, Command, Script, node
from sagabus.terms import Terms
from sagabus.testing.transport_contract import bodies, command, event, take
from sagabus.transport import Refusal
from tests import servers
from tests.contract.test_transports import fresh_namespace
from transports.redis_streams import RedisStreamsTransport


@pytest.fixture(scope="module", params=[servers.valkey, servers.redis7], ids=["valkey", "redis"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield one server of each kind."""
    with request.param() as url:
        yield url


@pytest.fixture
def transport(server_url: str) -> Iterator[RedisStreamsTransport]:
    """Yield a transport in a namespace of its own."""
    transport = RedisStreamsTransport(server_url, namespace=fresh_namespace())
    yield transport
    transport.close()


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    """Yield what an administrator would use."""
    with redis.Redis.from_url(server_url) as client:
        yield client


def test_exchange_of_a_whole_batch_is_one_round_trip(transport: RedisStreamsTransport, client: redis.Redis) -> None:
    """64 sends, commands and events, 64 acks, the store's commands and the next 64 cost one round trip."""
    for endpoint in ("a", "b", "c"):
        transport.declare(endpoint, subscriptions=["t"] if endpoint != "a" else [])
    for _ in range(2):
        transport.send([command("a", b"%d" % n) for n in range(64)])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    done = take(receiver, 64)
    outbox = f"{fresh_namespace()}:outbox"
    client.hset(outbox, mapping={str(n): "x" for n in range(64)})
    parcels = [command("b", b"b%d" % n) for n in range(32)] + [event("t", b"t%d" % n) for n in range(32)]
    also = [
        Command(("HDEL", outbox, *map(str, range(64))), outbox),
        Command(("SET", outbox + "2", EPOCH), outbox + "2"),
    ]
    before = transport.link.round_trips
    exchanged = receiver.exchange(parcels, done, also, 64, 5.0)
    assert transport.link.round_trips - before == 1
    assert exchanged.refused == {}
    assert len(exchanged.deliveries) == 64
    assert not client.exists(outbox)
    assert b"epoch" not in (client.get(outbox + "2") or b"epoch")
    assert {queue.endpoint: queue.depth for queue in transport.queues()} == {"a": 64, "b": 64, "c": 32}


def test_exchange_refused_as_full_runs_no_command(transport: RedisStreamsTransport, client: redis.Redis) -> None:
    """Where a queue is full the store's commands do not run either."""
    transport.declare("a", subscriptions=[], max_length=1)
    transport.send([command("a", b"1")])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    mark = f"{fresh_namespace()}:mark"
    set_mark = Command(("SET", mark, "1"), mark)
    assert receiver.exchange([command("a", b"2")], (), [set_mark], 0, 0.0).refused == {0: Refusal.FULL}
    assert not client.exists(mark)


def test_exchange_with_an_unknown_endpoint_runs_no_command(
    transport: RedisStreamsTransport, client: redis.Redis
) -> None:
    """What says that a message was dispatched waits until the one with nowhere to go is on record."""
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    mark = f"{fresh_namespace()}:mark"
    set_mark = Command(("SET", mark, "1"), mark)
    parcels = [command("a", b"1"), command("nowhere", b"2")]
    assert receiver.exchange(parcels, (), [set_mark], 0, 0.0).refused == {1: Refusal.NO_ENDPOINT}
    assert not client.exists(mark)
    assert bodies(take(receiver, 1)) == [b"1"]


def test_ack_in_the_same_write_makes_room(transport: RedisStreamsTransport) -> None:
    """An endpoint that sends to itself does not block on the message that it has just handled."""
    transport.declare("a", subscriptions=[], max_length=1)
    transport.send([command("a", b"1")])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    done = take(receiver, 1)
    assert bodies(receiver.exchange([command("a", b"2")], done, (), 1, 1.0).deliveries) == [b"2"]


def test_command_that_fails_leaves_the_deliveries_unacked(
    transport: RedisStreamsTransport, client: redis.Redis
) -> None:
    """A store command that the server refuses is an error, and what it belongs to comes again."""
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"1")])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    done = take(receiver, 1)
    mark = f"{fresh_namespace()}:mark"
    client.set(mark, "a string")
    with pytest.raises(StoreRefusedError, match="WRONGTYPE"):
        receiver.exchange((), done, [Command(("HDEL", mark, "field"), mark)], 0, 0.0)
    receiver.close()
    [again] = take(transport.receiver(["a"], consumer="d", claim_s=60), 1)
    assert (again.body, again.count) == (b"1", 2)


def test_command_for_a_foreign_key_is_refused_before_anything_is_sent(
    transport: RedisStreamsTransport, client: redis.Redis
) -> None:
    """A worker tries again for as long as it takes to mend the key, and must not send something each time."""
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    name = f"{fresh_namespace()}:mark"
    client.set(name, "a string")
    also = [Command(("HSET", f"{name}-2", "field", "1"), f"{name}-2"), Command(("ZADD", name, 1, "member"), name)]
    with pytest.raises(StoreRefusedError, match=f"{name} is a string, not a zset"):
        receiver.exchange([command("a", b"1")], (), also, 0, 0.0)
    assert transport.queues()[0].depth == 0
    assert not client.exists(f"{name}-2")


def test_damaged_declaration_of_another_process_stops_what_it_may_concern_alone(
    server_url: str, client: redis.Redis
) -> None:
    """Nothing is sent past a subscriber that cannot be made out; whoever declares it again mends it."""
    namespace = fresh_namespace()
    owner, mine, again = (RedisStreamsTransport(server_url, namespace=namespace) for _ in range(3))
    owner.declare("b", subscriptions=["event"])
    client.hset(f"{namespace}:topology", "@b", b"\xff{")
    mine.declare("a", subscriptions=[])
    assert mine.send([command("a", b"1")]) == {}
    for parcel in (command("b", b"1"), event("event", b"1")):
        with pytest.raises(StoreRefusedError, match="cannot be read whole"):
            mine.send([parcel])
    again.declare("b", subscriptions=["event"])
    assert mine.send([command("b", b"1"), event("event", b"1")]) == {}
    for transport in (owner, mine, again):
        transport.close()


@pytest.mark.parametrize(
    "refused",
    [
        Command(("PING",), None),
        Command(("SET", "one", "1"), "another"),
        Script("s", "return 1", "0" * 40).call(["k"], []),
    ],
    ids=["no key", "undeclared key", "script"],
)
def test_command_that_cannot_join_the_write_is_refused(transport: RedisStreamsTransport, refused: Command) -> None:
    """A store command says its one key, and is no script: the write itself is one."""
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    with pytest.raises(ConfigurationError, match="cannot join"):
        receiver.exchange((), (), [refused], 0, 0.0)


def test_full_server_refuses_the_write_whole_and_still_acks() -> None:
    """Out of memory, nothing of an exchange that sends is done; receiving and acking go on, which makes room."""
    with servers.valkey(maxmemory="0") as url, redis.Redis.from_url(url) as client:
        transport = RedisStreamsTransport(url, namespace="n")
        transport.declare("a", subscriptions=[])
        transport.send([command("a", b"x" * 1000, id=str(n)) for n in range(100)])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        first = take(receiver, 1, limit=1)
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreFullError):
            receiver.exchange([command("a", b"1")], first, [Command(("SET", "mark", "1"), "mark")], 0, 0.0)
        with pytest.raises(StoreFullError):
            receiver.exchange([command("a", b"1")], first, (), 8, 0.0)
        assert transport.queues()[0].depth == 100
        assert not client.exists("mark")
        # What was read together with the write that failed is not lost to this consumer.
        second = receiver.exchange((), first, (), 8, 0.0).deliveries
        assert [delivery.count for delivery in second] == [1] * 8
        assert transport.queues()[0].depth == 99
        assert client.xpending(second[0].tag.stream, "workers")["pending"] == 8
        restarted = transport.receiver(["a"], consumer="c", claim_s=60)
        assert [delivery.count for delivery in restarted.receive(64, 0.0)] == [2]
        transport.close()


def test_flushed_server_is_declared_anew() -> None:
    """After a flush the process that declared an endpoint makes it again, and its receiver goes on."""
    with servers.valkey() as url, redis.Redis.from_url(url) as client:
        transport = RedisStreamsTransport(url, namespace="n")
        transport.declare("a", subscriptions=["t"])
        receiver = transport.receiver(["a"], consumer="c", claim_s=60)
        assert receiver.receive(64, 0.0) == []
        client.flushall()
        assert transport.send([event("t", b"1"), command("a", b"2")]) == {}
        assert bodies(take(receiver, 2)) == [b"1", b"2"]
        client.flushall()
        assert receiver.receive(64, 0.0) == []
        assert [queue.endpoint for queue in transport.queues()] == ["a"]
        transport.close()


def test_group_deleted_while_a_receiver_waits_is_made_again(
    transport: RedisStreamsTransport, client: redis.Redis
) -> None:
    """Somebody who deletes a stream under a waiting receiver stops nothing but the messages in it."""
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    receiver.receive(64, 0.0)
    came: list[Any] = []
    thread = threading.Thread(target=lambda: came.extend(receiver.receive(64, 10.0)))
    thread.start()
    servers.until(lambda: b"xreadgroup" in str(client.client_list()).encode(), "a blocked receiver")
    for key in client.scan_iter("*:q:*"):
        client.delete(key)
    transport.send([command("a", b"1")])
    thread.join()
    assert bodies(came) == [b"1"]


def test_receiver_that_was_to_look_into_a_partition_that_is_gone_goes_on(
    transport: RedisStreamsTransport, server_url: str
) -> None:
    """An endpoint got fewer partitions after the receiver was made, and before it first looked: it learns which."""
    transport.declare("a", subscriptions=[], partitions=3)
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    other = RedisStreamsTransport(server_url, namespace=transport._namespace)
    other.declare("a", subscriptions=[], partitions=1)
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.extend(bodies(receiver.receive(1, 30.0))), daemon=True)
    thread.start()
    other.send([command("a", b"1")])
    thread.join(20.0)
    assert found == [b"1"]
    other.close()


def test_entry_deleted_by_hand_is_not_delivered_again(transport: RedisStreamsTransport, client: redis.Redis) -> None:
    """A pending entry whose message somebody deleted is acked away, and holds up none of the others."""
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"1"), command("a", b"2"), command("a", b"3")])
    held = take(transport.receiver(["a"], consumer="c", claim_s=60), 3)
    client.xdel(held[0].tag.stream, held[0].tag.id, held[1].tag.id)
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    assert bodies(take(receiver, 1)) == [b"3"]
    assert client.xpending(held[0].tag.stream, "workers")["pending"] == 1


def test_consumer_long_gone_is_forgotten_unless_it_left_something(
    transport: RedisStreamsTransport, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of dead workers do not pile up; a list of unacked messages is never lost with one."""
    monkeypatch.setattr("transports.redis_receiver._FORGET_CONSUMER_MS", -1)
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"1")])
    [delivery] = take(transport.receiver(["a"], consumer="owner", claim_s=60), 1)
    client.xgroup_createconsumer(delivery.tag.stream, "workers", "gone")
    transport.receiver(["a"], consumer="new", claim_s=60).receive(64, 0.0)
    names = {consumer["name"] for consumer in client.xinfo_consumers(delivery.tag.stream, "workers")}
    assert b"owner" in names
    assert b"gone" not in names


@pytest.fixture
def cut_replies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose first number is how many of the next replies that bring deliveries are lost on the way."""
    left = [0]

    def read(conn: Any, timeout_s: float) -> Any:
        reply = node.read(conn, timeout_s)
        if left[0] and isinstance(reply, list) and reply and isinstance(reply[0], list):
            left[0] -= 1
            conn.raw.disconnect()
            raise redis.ConnectionError("cut")
        return reply

    monkeypatch.setattr("sagabus.link.round.read", read)
    return left


def pending(client: Any, stream: str) -> dict[bytes, int]:
    """Return the ids that somebody holds, and how often each was delivered."""
    rows = client.xpending_range(stream, "workers", "-", "+", 100)
    return {row["message_id"]: row["times_delivered"] for row in rows}


def test_batch_whose_reply_was_lost_comes_at_once(
    transport: RedisStreamsTransport, client: redis.Redis, cut_replies: list[int]
) -> None:
    """Nobody waits for the claim time; what is in hand comes no second time, and no count is raised."""
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"in hand %d" % n) for n in range(2)])
    receiver = transport.receiver(["a"], consumer="c", claim_s=600)
    in_hand = take(receiver, 2)
    transport.send([command("a", b"lost %d" % n) for n in range(3)])
    cut_replies[0] = 1
    lost = take(receiver, 3)
    assert sorted(bodies(lost)) == [b"lost 0", b"lost 1", b"lost 2"]
    assert {delivery.count for delivery in lost} == {1}
    assert receiver.receive(10, 0.0) == []
    (stream,) = (name for name in client.keys(f"{transport._namespace}:q:*"))
    assert set(pending(client, stream).values()) == {1}
    receiver.exchange((), [*in_hand, *lost], (), 0, 0.0)
    assert client.xlen(stream) == 0


def test_batch_lost_by_an_exchange_that_gave_up_comes_with_the_next(server_url: str, cut_replies: list[int]) -> None:
    """A link whose patience has ended raises, and what the server had down as delivered is not forgotten."""
    transport = RedisStreamsTransport(server_url, namespace=fresh_namespace())
    transport.agree(Terms(patience_s=0.0))
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=600)
    assert receiver.receive(10, 0.0) == []
    transport.send([command("a", b"1")])
    cut_replies[0] = 1
    with pytest.raises(StoreUnavailableError, match="cut"):
        receiver.receive(10, 0.0)
    assert bodies(receiver.receive(10, 0.0)) == [b"1"]
    transport.close()


def test_delivery_to_a_connection_that_was_lost_before_is_found_too(
    server_url: str, client: redis.Redis, cut_replies: list[int]
) -> None:
    """What a lost connection still waits for may be delivered to it after the first look: there is a second one."""
    transport = RedisStreamsTransport(server_url, namespace=fresh_namespace())
    transport.agree(Terms(timeout_s=0.5))
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=600)
    transport.send([command("a", b"1")])
    cut_replies[0] = 1
    assert bodies(take(receiver, 1)) == [b"1"]
    transport.send([command("a", b"2")])
    (stream,) = client.keys(f"{transport._namespace}:q:*")
    client.xreadgroup("workers", "c", {stream: ">"})
    assert bodies(receiver.receive(10, 30.0)) == [b"2"]
    transport.close()


def test_what_one_node_of_a_cluster_delivered_survives_the_loss_of_another(
    cluster_url: str, cut_replies: list[int]
) -> None:
    """The streams of an endpoint are read together: each is looked through, and all deliveries come once."""
    transport = RedisStreamsTransport(cluster_url, namespace=fresh_namespace())
    transport.declare("a", subscriptions=[], partitions=4)
    transport.send([command("a", b"%d" % n, key=str(n)) for n in range(12)])
    receiver = transport.receiver(["a"], consumer="c", claim_s=600)
    cut_replies[0] = 2
    found = take(receiver, 12)
    assert sorted(bodies(found), key=int) == [b"%d" % n for n in range(12)]
    assert {delivery.count for delivery in found} == {1}
    assert receiver.receive(12, 0.0) == []
    transport.close()


def test_batch_over_several_streams_stays_near_its_limit(transport: RedisStreamsTransport) -> None:
    """With more than one stream a batch has at most its limit, or one a stream where those are more."""
    transport.declare("a", subscriptions=[], partitions=4)
    transport.send([command("a", b"%d" % n, key=str(n)) for n in range(200)])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    assert 0 < len(receiver.receive(64, 0.0)) <= 64
    assert 0 < len(receiver.receive(2, 0.0)) <= 4


@pytest.mark.parametrize("where", ["valkey_url", "cluster_url"], ids=["one server", "cluster"])
def test_idle_receiver_costs_next_to_no_cpu(where: str, request: pytest.FixtureRequest) -> None:
    """A receiver that waits asks the server once, or, where it must poll several slots, less than 25 times a second."""
    transport = RedisStreamsTransport(request.getfixturevalue(where), namespace=fresh_namespace())
    transport.declare("a", subscriptions=[], partitions=4)
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    receiver.receive(64, 0.0)
    cpu_s, round_trips = time.thread_time(), transport.link.round_trips
    assert receiver.receive(64, 1.0) == []
    assert transport.link.round_trips - round_trips <= (25 if where == "cluster_url" else 2)
    # Some milliseconds on any machine; whoever asks nobody and waits for nothing would use all of its second.
    assert time.thread_time() - cpu_s < 0.2
    transport.close()
