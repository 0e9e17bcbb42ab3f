"""The transport contract, on every broker that sagabus ships a transport for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagabus.errors import BrokerUnavailableError, ConfigurationError, UnknownTransportError
from sagabus.link import Command
from sagabus.testing.transport_contract import TransportContract, bodies, command
from sagabus.transport import Receiver, Transport
from tests import servers
from transports.amqp_receiver import AmqpReceiver
from transports.amqp_session import AmqpSession
from transports.kombu import KombuTransport
from transports.memory import MemoryTransport
from transports.redis_streams import RedisStreamsTransport


def fresh_namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex[:8]}"


class TestMemory(TransportContract):
    """The broker in this process."""

    @pytest.fixture
    def make_transport(self) -> Callable[[], Transport]:
        broker = MemoryTransport("memory:", namespace="test")
        return lambda: broker


def test_memory_claim_runs_out_by_the_given_clock() -> None:
    """Claims are measured with the clock that was passed in, and with no other."""
    now = [0.0]
    broker = MemoryTransport("memory:", namespace="test", clock=lambda: now[0])
    broker.declare("a", subscriptions=[])
    broker.send([command("a", b"1")])
    dead, other = (broker.receiver(["a"], consumer=name, claim_s=60) for name in ("dead", "other"))
    assert bodies(dead.receive(1, 0.0)) == [b"1"]
    now[0] = 59.9
    assert other.receive(1, 0.0) == []
    now[0] = 60.0
    assert [delivery.count for delivery in other.receive(1, 0.0)] == [2]


def test_memory_exchange_with_store_commands_is_an_error() -> None:
    """No store shares a write with the broker in memory."""
    broker = MemoryTransport("memory:", namespace="test")
    broker.declare("a", subscriptions=[])
    receiver = broker.receiver(["a"], consumer="c", claim_s=60)
    with pytest.raises(ConfigurationError, match="no store commands"):
        receiver.exchange((), (), [Command(("SET", "k", "1"), "k")], 0, 0.0)


class StreamsContract(TransportContract):
    """Redis Streams, whatever server they are on."""

    @pytest.fixture
    def make_transport(self, server_url: str) -> Iterator[Callable[[], Transport]]:
        namespace = fresh_namespace()
        made: list[RedisStreamsTransport] = []

        def make() -> Transport:
            made.append(RedisStreamsTransport(server_url, namespace=namespace))
            return made[-1]

        yield make
        for transport in made:
            transport.close()


class TestStreamsOnValkey(StreamsContract):
    """The server that the embedded store runs."""

    @pytest.fixture
    def server_url(self, valkey_url: str) -> str:
        return valkey_url


class TestStreamsOnRedis(StreamsContract):
    """The oldest server that is supported."""

    @pytest.fixture
    def server_url(self, redis7_url: str) -> str:
        return redis7_url


class TestStreamsOnACluster(StreamsContract):
    """Three nodes."""

    cannot = frozenset({"prompt-withdrawal"})

    @pytest.fixture
    def server_url(self, cluster_url: str) -> str:
        return cluster_url


class TestRabbitMQ(TransportContract):
    """A real broker. A connection that dies gives back what it held, so there is nothing to claim."""

    cannot = frozenset({"claims", "partitions"})

    @pytest.fixture
    def make_transport(self, rabbitmq_url: str) -> Iterator[Callable[[], Transport]]:
        namespace = fresh_namespace()
        made: list[KombuTransport] = []

        def make() -> Transport:
            made.append(KombuTransport(rabbitmq_url, namespace=namespace))
            return made[-1]

        yield make
        for transport in made:
            transport.close()

    def kill(self, receiver: Receiver) -> None:
        assert isinstance(receiver, AmqpReceiver)
        receiver.session.drop()


class VirtualContract(TransportContract):
    """A broker that kombu emulates AMQP for."""

    cannot = frozenset({"claims", "counts", "crashes", "limits", "partitions", "replies", "withdrawal"})

    @pytest.fixture
    def make_transport(self, broker_url: str) -> Iterator[Callable[[], Transport]]:
        namespace = fresh_namespace()
        made: list[KombuTransport] = []

        def make() -> Transport:
            made.append(KombuTransport(broker_url, namespace=namespace))
            return made[-1]

        yield make
        for transport in made:
            transport.close()


class TestKombuMemory(VirtualContract):
    """kombu's broker in this process."""

    @pytest.fixture
    def broker_url(self) -> str:
        return "kombu+memory://"


class TestKombuFolder(VirtualContract):
    """kombu's broker in a folder. It names files by the millisecond, and reads them while they are being written."""

    cannot = VirtualContract.cannot | {"endpoints", "order", "sharing", "whole-messages"}

    @pytest.fixture
    def broker_url(self, tmp_path: Path) -> str:
        folders = {name: tmp_path / name for name in ("data", "control", "processed")}
        for folder in folders.values():
            folder.mkdir()
        return (
            f"filesystem://?data_folder_in={folders['data']}&data_folder_out={folders['data']}"
            f"&control_folder={folders['control']}&processed_folder={folders['processed']}"
        )


@pytest.mark.parametrize("url", ["kombu+redis://127.0.0.1:1/0", "rediss://127.0.0.1:1", "kombu+sentinel://x"])
def test_kombus_own_redis_transport_is_refused(url: str) -> None:
    """It takes messages off a list before it notes them down elsewhere: a worker killed in between loses them."""
    with pytest.raises(ConfigurationError, match="loses messages"):
        KombuTransport(url, namespace="test")


def test_scheme_that_nobody_knows_is_an_error() -> None:
    """The error says which schemes there are."""
    with pytest.raises(UnknownTransportError, match=r"known schemes: .*amqp") as caught:
        KombuTransport("carrier-pigeon://loft", namespace="test")
    assert caught.value.scheme == "carrier-pigeon"


def test_broker_that_does_not_answer_is_unavailable_after_a_bounded_time() -> None:
    """A lost broker is waited for, and not for ever; the error shows no password."""
    session = AmqpSession(f"amqp://guest:secret@127.0.0.1:{servers.free_ports(1)[0]}//", patience_s=0.1)
    with pytest.raises(BrokerUnavailableError) as caught:
        session.depth("a")
    assert "secret" not in str(caught.value)
