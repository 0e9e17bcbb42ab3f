"""The outbox table: a message leaves if, and only if, its transaction commits, and is handled once by every saga."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import define, field
from click.testing import CliRunner

from sagabus import Bus, Keyring, Saga, Signing, message, starts
from sagabus.cli import main
from sagabus.cli.exit_codes import UNREACHABLE, USAGE
from sagabus.commit import Want
from sagabus.envelope import SagaKey, decode
from sagabus.errors import ConfigurationError, UnavailableError
from sagabus.outbox import PostgresOutbox, Relay
from sagabus.transport import Parcel, ParcelKind, Refusal
from tests import servers
from transports.memory import MemoryTransport


@message("outbox.order")
class PlaceOrder:
    number: str


@message("outbox.ordered")
class OrderPlaced:
    number: str


@define
class OrderState:
    times: int = field(default=0)


class Orders(Saga[OrderState], key="number"):
    @starts
    def placed(self, m: PlaceOrder) -> None:
        self.state.times += 1


ROOT = Path(__file__).resolve().parents[2]


class Watched(MemoryTransport):
    """Keeps what was sent, and may do something right after it was."""

    def __init__(self) -> None:
        super().__init__("memory:", namespace="test")
        self.sent: list[Parcel] = []
        self.afterwards: Callable[[], None] = lambda: None

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        refused = super().send(parcels, force=force)
        if Refusal.FULL not in refused.values():
            self.sent += [parcel for index, parcel in enumerate(parcels) if index not in refused]
        self.afterwards()
        return refused

    @property
    def ids(self) -> list[str]:
        return [parcel.id for parcel in self.sent]


@pytest.fixture
def broker() -> Watched:
    """Return a broker."""
    return Watched()


@pytest.fixture
def bus(broker: Watched) -> Iterator[Bus]:
    """Yield a bus with a saga on it."""
    with Bus("memory:", broker) as bus:
        bus.endpoint("orders", Orders)
        yield bus


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """Yield a database of this test's own: a schema that its connections are in."""
    schema = f"s{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE SCHEMA {schema}")
        yield f"{postgres_url}?options=-csearch_path%3D{schema}"
        server.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def outbox(bus: Bus, database: str) -> PostgresOutbox:
    """Return an outbox whose table is there, beside a table of the application."""
    outbox = PostgresOutbox(bus)
    with psycopg.connect(database) as connection:
        connection.execute(outbox.ddl)
        connection.execute(outbox.ddl)  # may be run again
        connection.execute("CREATE TABLE orders (number text PRIMARY KEY)")
    return outbox


@pytest.fixture
def relay(bus: Bus, database: str, outbox: PostgresOutbox) -> Relay:
    """Return a relay."""
    return Relay(bus, database)


def order(connection: Any, outbox: PostgresOutbox, number: str) -> str:
    """Do what a request does: change a table, and say so."""
    connection.execute("INSERT INTO orders VALUES (%s)", (number,))
    return outbox.send(connection, PlaceOrder(number), to="orders", id=f"order-{number}")


def drained(relay: Relay) -> int:
    """Relay all there is, and return how many have left."""
    sent = 0
    while relayed := relay.relay():
        sent += relayed.sent
    return sent


@contextmanager
def at_work(relay: Relay) -> Iterator[None]:
    """Run a relay in a thread."""
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield
    finally:
        relay.stop()
        thread.join(30)
        assert not thread.is_alive()


# -- writing -----------------------------------------------------------------------------------------------------


def test_message_leaves_when_its_transaction_commits(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox, relay: Relay
) -> None:
    """And its saga handles it."""
    with psycopg.connect(database) as connection:
        assert order(connection, outbox, "1") == "order-1"
        assert drained(relay) == 0, "nothing is seen before the commit"
        connection.commit()
    assert drained(relay) == 1
    assert drained(relay) == 0, "what was sent is gone"
    assert broker.ids == ["order-1"]
    bus.worker().run_until_idle()
    assert [row.key for row in bus.store.sagas()] == [SagaKey("Orders", "1")]


def test_message_of_a_transaction_that_is_rolled_back_never_leaves(
    broker: Watched, database: str, outbox: PostgresOutbox, relay: Relay
) -> None:
    """As if nobody had written it."""
    with psycopg.connect(database) as connection:
        order(connection, outbox, "1")
        connection.rollback()
        order(connection, outbox, "2")
        with suppress(psycopg.errors.UniqueViolation), connection.transaction():
            order(connection, outbox, "3")
            order(connection, outbox, "2")
    assert drained(relay) == 1
    assert broker.ids == ["order-2"]


def test_messages_leave_in_the_order_they_were_written(
    broker: Watched, database: str, outbox: PostgresOutbox, bus: Bus
) -> None:
    """Of one writer, over several batches."""
    with psycopg.connect(database) as connection:
        for number in range(25):
            outbox.send(connection, PlaceOrder(str(number)), to="orders", id=str(number))
    relay = Relay(bus, database, batch=10)
    assert [relay.relay().sent for _ in range(4)] == [10, 10, 5, 0]
    assert broker.ids == [str(number) for number in range(25)]


def test_event_and_routes_are_written_as_a_bus_sends_them(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox, relay: Relay
) -> None:
    """By wire name, along routes, with a reply address; ids are made where none is given."""
    bus.route(PlaceOrder, to="orders")
    with psycopg.connect(database) as connection:
        first = outbox.send(connection, PlaceOrder("1"), reply_to="desk")
        second = outbox.publish(connection, OrderPlaced("1"))
        with pytest.raises(ConfigurationError, match="message id"):
            outbox.publish(connection, OrderPlaced("1"), id="")
    assert drained(relay) == 2
    command, event = broker.sent
    assert (command.kind, command.to, command.id) == (ParcelKind.COMMAND, "orders", first)
    assert decode(command.body).replyto == "desk"
    assert (event.kind, event.to, event.id) == (ParcelKind.EVENT, "outbox.ordered", second)


def test_asynchronous_connection_writes_likewise(broker: Watched, database: str, outbox: PostgresOutbox) -> None:
    """For handlers on an event loop."""

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            async with connection.transaction():
                await outbox.send_async(connection, PlaceOrder("1"), to="orders", id="a")
                await outbox.publish_async(connection, OrderPlaced("1"), id="b")
            async with connection.transaction():
                await outbox.send_async(connection, PlaceOrder("2"), to="orders", id="c")
                raise psycopg.Rollback

    asyncio.run(write())
    with Bus("memory:", broker) as bus:
        bus.endpoint("orders", Orders)
        assert drained(Relay(bus, database)) == 2
    assert broker.ids == ["a", "b"]


def test_connection_in_no_transaction_is_refused(database: str, outbox: PostgresOutbox, relay: Relay) -> None:
    """Its message would leave whatever becomes of the change."""
    with psycopg.connect(database, autocommit=True) as connection:
        with pytest.raises(ConfigurationError, match="in no transaction"):
            outbox.send(connection, PlaceOrder("1"), to="orders")
        with connection.transaction():
            outbox.send(connection, PlaceOrder("2"), to="orders")
    assert drained(relay) == 1


def test_writer_needs_neither_store_nor_broker(database: str, outbox: PostgresOutbox) -> None:
    """Both may be down: the bus of who writes never connects."""
    (port,) = servers.free_ports(1)
    with Bus(f"redis://127.0.0.1:{port}") as down, psycopg.connect(database) as connection:
        PostgresOutbox(down).send(connection, PlaceOrder("1"), to="orders")


def test_table_of_another_name_and_schema_is_used(bus: Bus, broker: Watched, postgres_url: str, database: str) -> None:
    """And one with a name that would have to be quoted is refused."""
    schema = database.rpartition("%3D")[2]
    outbox = PostgresOutbox(bus, table=f"{schema}.mail", notify=False)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(outbox.ddl)
        outbox.send(connection, PlaceOrder("1"), to="orders", id="1")
    assert drained(Relay(bus, postgres_url, table=f"{schema}.mail")) == 1
    for name in ("Mail", "a.b.c", 'x"; DROP TABLE y; --', ""):
        with pytest.raises(ConfigurationError, match="no plain name"):
            PostgresOutbox(bus, table=name)


# -- relaying ----------------------------------------------------------------------------------------------------


def test_relay_that_dies_between_send_and_delete_sends_again_under_the_same_id(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox
) -> None:
    """And the saga handles it once."""
    with psycopg.connect(database) as connection:
        order(connection, outbox, "1")
    dying = Relay(bus, database)

    def die() -> None:
        broker.afterwards = lambda: None
        with psycopg.connect(database, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'"
                " AND query LIKE '%SKIP LOCKED%'"
            )

    broker.afterwards = die
    with pytest.raises(UnavailableError, match="database at"):
        dying.relay()
    assert broker.ids == ["order-1"]
    assert drained(Relay(bus, database)) == 1
    assert broker.ids == ["order-1", "order-1"]
    bus.worker().run_until_idle()
    [snapshot] = bus.store.load([Want(SagaKey("Orders", "1"))])
    definition = bus.saga("Orders")
    assert definition is not None
    assert definition.codec.decode(snapshot.versions[0].state) == OrderState(times=1)


def test_relays_at_work_together_send_each_message_once(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox
) -> None:
    """What one has in hand the others pass over."""
    with psycopg.connect(database) as connection:
        for number in range(600):
            outbox.send(connection, PlaceOrder(str(number)), to="orders", id=str(number))
    relays = [Relay(bus, database, batch=20) for _ in range(3)]
    threads = [threading.Thread(target=drained, args=(relay,)) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(broker.ids, key=int) == [str(number) for number in range(600)]
    assert relays[0].waiting().rows == 0


def test_message_with_nowhere_to_go_stays_with_its_problem_and_holds_up_no_other(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox, relay: Relay
) -> None:
    """It leaves when there is somewhere to go."""
    with psycopg.connect(database) as connection:
        outbox.send(connection, PlaceOrder("1"), to="nowhere", id="1")
        outbox.send(connection, PlaceOrder("2"), to="orders", id="2")
    assert drained(relay) == 1
    waiting = relay.waiting()
    assert (waiting.rows, waiting.refused) == (1, 1)
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT tries, problem FROM sagabus_outbox").fetchone()
        assert row is not None
        assert row[0] == 1
        assert "no endpoint 'nowhere'" in row[1]
        connection.execute("UPDATE sagabus_outbox SET retry_at = now()")
    bus.endpoint("nowhere", Elsewhere)
    assert drained(relay) == 1
    assert broker.ids == ["2", "1"]


class Elsewhere(Saga[OrderState], key="number"):
    @starts
    def placed(self, m: PlaceOrder) -> None: ...


def test_full_queue_holds_up_no_other(database: str, outbox: PostgresOutbox, broker: Watched) -> None:
    """What goes elsewhere leaves; what does not is put off."""
    with Bus("memory:", broker) as bus:
        bus.endpoint("full", Orders, max_length=1)
        bus.endpoint("free", Elsewhere)
        with psycopg.connect(database) as connection:
            for number, to in enumerate(["full", "nowhere", "free", "free"]):
                outbox.send(connection, PlaceOrder(str(number)), to=to, id=str(number))
        bus.send(PlaceOrder("first"), to="full", id="first")
        relay = Relay(bus, database)
        assert drained(relay) == 2
        assert broker.ids == ["first", "2", "3"]
        assert (relay.waiting().rows, relay.waiting().refused) == (2, 2)


def test_running_relay_hears_of_a_commit_at_once(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox
) -> None:
    """Long before it would look again."""
    relay = Relay(bus, database, poll_s=600)
    with at_work(relay), psycopg.connect(database) as connection:
        for number in range(3):
            order(connection, outbox, str(number))
            connection.commit()
            servers.until(lambda n=number: len(broker.sent) == n + 1, "a relayed message", 30)  # type: ignore[misc]


def test_running_relay_looks_where_nobody_notifies(bus: Bus, broker: Watched, database: str) -> None:
    """As behind a pooler of transactions."""
    outbox = PostgresOutbox(bus, notify=False)
    with psycopg.connect(database) as connection:
        connection.execute(outbox.ddl)
        connection.commit()
        with at_work(Relay(bus, database, poll_s=0.05)):
            outbox.send(connection, PlaceOrder("1"), to="orders")
            connection.commit()
            servers.until(lambda: broker.sent, "a relayed message", 30)


def test_running_relay_outlives_its_connection(
    bus: Bus, broker: Watched, database: str, outbox: PostgresOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the database, and goes on."""
    monkeypatch.setattr("sagabus.outbox.relay._TROUBLE_WAIT_S", 0.05)
    relay = Relay(bus, database, poll_s=600)
    with at_work(relay), psycopg.connect(database, autocommit=True) as connection:
        listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%min(retry_at)%'"
        servers.until(lambda: connection.execute(f"SELECT 1 {listening} AND pid <> pg_backend_pid()").fetchone(), "it")
        connection.execute(f"SELECT pg_terminate_backend(pid) {listening} AND pid <> pg_backend_pid()")
        with connection.transaction():
            order(connection, outbox, "1")
        servers.until(lambda: broker.sent, "a relayed message", 30)


def test_signed_messages_are_relayed_as_they_were_signed(
    broker: Watched, database: str, outbox: PostgresOutbox
) -> None:
    """The relay changes nothing in them."""
    with Bus("memory:", broker, signing=Signing(keyring=Keyring({"k1": bytes(32)}))) as bus:
        bus.endpoint("orders", Orders)
        with psycopg.connect(database) as connection:
            PostgresOutbox(bus).send(connection, PlaceOrder("1"), to="orders")
        assert drained(Relay(bus, database)) == 1
        bus.worker().run_until_idle()
        assert [row.key.id for row in bus.store.sagas()] == ["1"]


def test_missing_table_says_how_to_make_it(bus: Bus, database: str) -> None:
    """And a relay of it ends: waiting would not help."""
    with pytest.raises(ConfigurationError, match=r"PostgresOutbox\(bus\).ddl"):
        Relay(bus, database).run()
    with pytest.raises(ConfigurationError, match="positive"):
        Relay(bus, database, poll_s=0)


def test_database_that_does_not_answer_is_named_without_its_password(bus: Bus) -> None:
    """As every server is."""
    (port,) = servers.free_ports(1)
    with pytest.raises(UnavailableError) as caught:
        Relay(bus, f"postgresql://me:hunter2@127.0.0.1:{port}/shop").relay()
    assert "hunter2" not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)


def test_command_relays_and_prints_the_table(
    database: str, valkey_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sagabus relay`: what is there, how to make the table, and until it is told to stop."""
    module = f"app{uuid.uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(
        "from sagabus import Bus\n"
        "from tests.integration.test_outbox import Orders\n"
        f"bus = Bus({valkey_url!r}, namespace={namespace!r})\n"
        "bus.endpoint('orders', Orders)\n"
    )
    monkeypatch.chdir(tmp_path)
    app, run = f"{module}:bus", CliRunner().invoke
    ddl = run(main, ["relay", app, "--ddl"])
    assert ddl.exit_code == 0
    with psycopg.connect(database) as connection, Bus("memory:", "memory:") as writing:
        connection.execute(ddl.output)
        PostgresOutbox(writing).send(connection, PlaceOrder("1"), to="orders")
    assert run(main, ["relay", app]).exit_code == USAGE
    (port,) = servers.free_ports(1)
    assert run(main, ["relay", app, "--once", "--database", f"postgresql://127.0.0.1:{port}"]).exit_code == UNREACHABLE
    relayed = run(main, ["relay", app, "--once"], env={"SAGABUS_DATABASE": database})
    assert (relayed.exit_code, relayed.output) == (0, "1 sent, 0 left\n")
    command = [sys.executable, "-m", "sagabus", "relay", app, "--database", database]
    with Bus(valkey_url, namespace=namespace) as bus, psycopg.connect(database) as connection:
        assert {queue.endpoint: queue.depth for queue in bus.transport.queues()} == {"orders": 1}
        PostgresOutbox(bus).send(connection, PlaceOrder("2"), to="orders")
        connection.commit()
        # The app is in the folder, and what it imports in the repository.
        running = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        servers.until(lambda: bus.transport.queues()[0].depth == 2, "what the running command sends")
        running.terminate()
        assert running.wait(30) == 0
