"""What RabbitMQ's transport promises beyond the contract, about lost connections, long handlers and declarations."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from amqp.basic_message import Message
from kombu.connection import Connection

from sagabus.errors import ConfigurationError
from sagabus.link import Command
from sagabus.testing.transport_contract import bodies, command, event, take
from sagabus.transport import Refusal
from tests.contract.test_transports import fresh_namespace
from transports.amqp import AmqpTransport
from transports.amqp_session import Outgoing


@pytest.fixture
def namespace() -> str:
    """Return a namespace for one test."""
    return fresh_namespace()


@pytest.fixture
def transport(rabbitmq_url: str, namespace: str) -> Iterator[AmqpTransport]:
    """Yield a transport."""
    transport = AmqpTransport(rabbitmq_url, namespace=namespace)
    yield transport
    transport.close()


def test_connection_lost_while_handling_brings_the_batch_again_alone(transport: AmqpTransport) -> None:
    """An ack that a lost connection made void is no error; its messages come again, counted, one at a time."""
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"%d" % n) for n in range(3)])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    done = take(receiver, 3)
    receiver.session.drop()
    assert receiver.exchange([command("a", b"sent")], done, (), 0, 0.0).refused == {}
    came = []
    for _ in range(3):
        [delivery] = receiver.receive(64, 5.0)
        came.append(delivery)
    assert sorted((delivery.body, delivery.count) for delivery in came) == [(b"0", 2), (b"1", 2), (b"2", 2)]
    receiver.exchange((), came, (), 0, 0.0)
    assert bodies(take(receiver, 1)) == [b"sent"]


def test_redelivered_messages_that_come_while_others_are_moved_are_handed_out_too(
    transport: AmqpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More come again than one batch takes, as after a restart of the broker: none stays in hand, unacked for ever."""
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"%d" % n) for n in range(4)])
    first, second = (transport.receiver(["a"], consumer=name, claim_s=60) for name in "cd")
    assert len(take(first, 4)) == 4
    assert second.receive(2, 0.0) == []  # it consumes from now on
    session, publish = second.session, second.session.publish

    def publish_late(messages: Sequence[Outgoing]) -> set[int]:
        """Publish when all have come, as on a broker that is quick to send and slow to confirm; once."""
        monkeypatch.undo()
        while len(second._unacked) < 4 and session.drain(5.0):
            pass
        return publish(messages)

    monkeypatch.setattr(session, "publish", publish_late)
    first.close()
    came = take(second, 4, limit=2, ack=True)
    assert sorted((delivery.body, delivery.count) for delivery in came) == [(b"%d" % n, 2) for n in range(4)]
    second.close()
    assert transport.queues()[0].depth == 0


def test_connection_lost_while_redelivered_messages_are_moved_brings_all_on_the_next(
    transport: AmqpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be moved is moved, perhaps twice, and nothing of the lost connection is looked at any more."""
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"%d" % n) for n in range(2)])
    first = transport.receiver(["a"], consumer="c", claim_s=60)
    assert len(take(first, 2)) == 2
    first.close()
    second = transport.receiver(["a"], consumer="c", claim_s=60)
    session, publish = second.session, second.session.publish

    def publish_at_last(messages: Sequence[Outgoing]) -> set[int]:
        """Lose the connection just before they are published; once."""
        monkeypatch.undo()
        session.drop()
        return publish(messages)

    monkeypatch.setattr(session, "publish", publish_at_last)
    assert {delivery.body for delivery in take(second, 4, limit=2, ack=True)} == {b"0", b"1"}
    assert session.epoch == 2
    second.close()
    assert transport.queues()[0].depth == 0


@pytest.mark.parametrize("properties", [{}, {"content_encoding": "utf-8", "message_id": "é" * 100}])
def test_message_of_somebody_elses_comes_as_it_was_and_comes_again(
    transport: AmqpTransport, namespace: str, rabbitmq_url: str, properties: dict[str, str]
) -> None:
    """Whatever AMQP says beside its body, or does not say: that is nothing to die of, time after time."""
    transport.declare("a", subscriptions=[])
    body = "é".encode()
    with Connection(rabbitmq_url) as connection:
        connection.default_channel.basic_publish(Message(body, **properties), "", f"{namespace}.q.a")
    first = transport.receiver(["a"], consumer="c", claim_s=60)
    assert bodies(take(first, 1)) == [body]
    first.close()
    (again,) = take(transport.receiver(["a"], consumer="c", claim_s=60), 1)
    assert (again.body, again.count) == (body, 2)


def test_sender_whose_connection_was_lost_connects_again(transport: AmqpTransport) -> None:
    """A send after a lost connection is as good as any."""
    transport.declare("a", subscriptions=["t"])
    transport._session.drop()
    assert transport.send([command("a", b"1"), command("nowhere", b"2"), event("t", b"3")]) == {1: Refusal.NO_ENDPOINT}
    assert bodies(take(transport.receiver(["a"], consumer="c", claim_s=60), 2)) == [b"1", b"3"]


def until_given_up(rabbitmq_url: str) -> None:
    """Return when the broker has closed a connection that promised a heartbeat a second and sent none."""
    with Connection(rabbitmq_url, heartbeat=1) as neglected:
        silent = neglected.connection.sock
        silent.settimeout(30)
        with suppress(ConnectionResetError):
            while silent.recv(4096):
                pass


def test_handler_longer_than_the_heartbeat_keeps_its_connection(
    rabbitmq_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a handler runs, and nobody reads its connection, another thread answers for it."""
    monkeypatch.setattr("transports.amqp_session.HEARTBEAT_S", 1)
    monkeypatch.setattr("transports.amqp.HEARTBEAT_S", 1)
    transport = AmqpTransport(rabbitmq_url, namespace=namespace)
    transport.declare("a", subscriptions=[])
    transport.send([command("a", b"1")])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    done = take(receiver, 1)
    # The handler: it is at work for as long as the broker has patience with a connection that is silent from now on.
    until_given_up(rabbitmq_url)
    receiver.exchange((), done, (), 0, 0.0)
    receiver.close()
    assert receiver.session.epoch == 1
    assert transport.queues()[0].depth == 0
    transport.close()


def test_declarations_made_at_once_are_all_kept(rabbitmq_url: str, namespace: str) -> None:
    """However many processes start together, the record of what was declared misses none of them."""
    transports = [AmqpTransport(rabbitmq_url, namespace=namespace) for _ in range(6)]
    threads = [
        threading.Thread(target=transport.declare, args=(f"e{n}",), kwargs={"subscriptions": ["t", f"t{n}"]})
        for n, transport in enumerate(transports)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(q.endpoint, q.subscriptions) for q in transports[0].queues()] == [
        (f"e{n}", ("t", f"t{n}")) for n in range(6)
    ]
    for transport in transports:
        transport.close()


def test_limit_declared_elsewhere_holds_for_every_sender(rabbitmq_url: str, namespace: str) -> None:
    """A sender that declared nothing itself knows when a queue is full."""
    with_limit, sender = (AmqpTransport(rabbitmq_url, namespace=namespace) for _ in range(2))
    with_limit.declare("a", subscriptions=["t"], max_length=2)
    assert sender.send([command("a", b"1"), event("t", b"2")]) == {}
    assert sender.send([command("a", b"3"), event("t", b"4")]) == {0: Refusal.FULL, 1: Refusal.FULL}
    with_limit.close()
    sender.close()


def test_store_commands_cannot_join_the_write(transport: AmqpTransport) -> None:
    """No store shares a write with this broker."""
    transport.declare("a", subscriptions=[])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    with pytest.raises(ConfigurationError, match="no store shares a write"):
        receiver.exchange((), (), [Command(("SET", "k", "1"), "k")], 0, 0.0)


def test_credentials_refused_are_a_configuration_error(rabbitmq_url: str) -> None:
    """Trying again would not help, and the error shows no password."""
    transport = AmqpTransport(rabbitmq_url.replace("guest:guest", "guest:wrong"), namespace="test")
    with pytest.raises(ConfigurationError, match="refuses") as caught:
        transport.send([command("a", b"1")])
    assert "wrong" not in str(caught.value)
    transport.close()
