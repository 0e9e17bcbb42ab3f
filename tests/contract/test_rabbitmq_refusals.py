"""What RabbitMQ takes away while somebody works with it: queues, rights, virtual hosts; and what is said then."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote, urlsplit

import amqp
import pytest

from sagabus.errors import AccessRefusedError, BrokerUnavailableError, ConfigurationError
from sagabus.testing.transport_contract import bodies, command, event, take
from tests import servers
from tests.contract.test_transports import fresh_namespace
from transports.amqp import AmqpTransport
from transports.amqp_refusal import amqp_refusal
from transports.amqp_session import AmqpSession


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


@pytest.fixture
def other(rabbitmq_url: str) -> Iterator[AmqpSession]:
    """Yield a session of somebody else's, who may do everything."""
    session = AmqpSession(rabbitmq_url)
    yield session
    session.close()


@pytest.fixture
def user() -> Iterator[tuple[str, str]]:
    """Yield name and password of a user who may do nothing yet; the password needs percent-encoding."""
    name, password = f"sagabus-test-{secrets.token_hex(6)}", "p@ss:w/rd?#%[]"
    servers.rabbitmqctl("add_user", name, password)
    yield name, password
    servers.rabbitmqctl("delete_user", name)


def as_user(url: str, user: tuple[str, str]) -> str:
    """Return *url* with other credentials."""
    parts = urlsplit(url)
    return f"amqp://{quote(user[0])}:{quote(user[1], safe='')}@{parts.hostname}:{parts.port}{parts.path}"


def vhost_of(url: str) -> str:
    """Return the virtual host of *url*."""
    return urlsplit(url).path.removeprefix("/")


def grant(url: str, user: tuple[str, str], configure: str, write: str, read: str) -> None:
    """Give *user* rights on the virtual host of *url*."""
    servers.rabbitmqctl("set_permissions", "-p", vhost_of(url), user[0], configure, write, read)


def delete(session: AmqpSession, *queues: str) -> None:
    """Delete *queues* with what they hold."""

    def remove() -> None:
        channel = session.channel()
        for queue in queues:
            channel.queue_delete(queue)
        channel.close()

    session.run(remove)


# -- queues ------------------------------------------------------------------------------------------------------


def test_queue_deleted_under_its_consumer_is_declared_again(
    transport: AmqpTransport, namespace: str, other: AmqpSession
) -> None:
    """With its bindings; what it held is lost, what is sent from then on is not."""
    transport.declare("a", subscriptions=["t"])
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    assert receiver.receive(1, 0.0) == []
    delete(other, f"{namespace}.q.a", f"{namespace}.alone.a")
    servers.until(lambda: receiver.receive(1, 0.05) == [] and receiver.session.epoch > 1, "the end of the consumer")
    assert transport.send([command("a", b"1"), event("t", b"2")]) == {}
    assert sorted(bodies(take(receiver, 2))) == [b"1", b"2"]


def test_record_of_what_was_declared_that_is_deleted_is_written_again(
    transport: AmqpTransport, namespace: str, other: AmqpSession
) -> None:
    """Whoever declared an endpoint knows it; other processes learn it from them."""
    transport.declare("a", subscriptions=["t"], max_length=7)
    delete(other, f"{namespace}.topology", f"{namespace}.q.a", f"{namespace}.alone.a")
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    assert receiver.receive(1, 0.0) == []
    assert transport.send([event("t", b"1")]) == {}
    assert bodies(take(receiver, 1)) == [b"1"]


def test_queue_that_nobody_can_declare_again_is_an_error_that_says_so(
    transport: AmqpTransport, rabbitmq_url: str, namespace: str, other: AmqpSession
) -> None:
    """A consumer that did not declare it, and the record gone too: some worker has to say what it subscribes to."""
    transport.declare("a", subscriptions=["t"])
    elsewhere = AmqpTransport(rabbitmq_url, namespace=namespace)
    receiver = elsewhere.receiver(["a"], consumer="c", claim_s=60)
    delete(other, f"{namespace}.topology", f"{namespace}.q.a", f"{namespace}.alone.a")
    with pytest.raises(ConfigurationError, match=r"the queue of 'a' is gone.*start a worker that has it"):
        receiver.receive(1, 1.0)
    elsewhere.close()


def test_name_that_is_taken_by_something_else_is_refused_with_the_mend(
    transport: AmqpTransport, namespace: str, other: AmqpSession
) -> None:
    """A classic queue of that name, or one of an application of its own."""
    other.run(lambda: other.channel().queue_declare(f"{namespace}.q.a", durable=True, auto_delete=False))
    with pytest.raises(ConfigurationError, match=r"PRECONDITION_FAILED.*choose another namespace"):
        transport.declare("a", subscriptions=[])


def test_channel_that_the_broker_closes_does_not_end_the_heartbeats(
    transport: AmqpTransport, namespace: str, other: AmqpSession
) -> None:
    """Whoever finds it closed while looking after idle connections drops it; it is made again when it is needed."""
    transport.declare("a", subscriptions=[])
    session = transport.receiver(["a"], consumer="c", claim_s=60).session

    def ask_for_the_impossible() -> None:
        session.channel().basic_ack(77)

    session.run(ask_for_the_impossible)
    servers.until(lambda: session.tick() or session._connection is None, "the end of the channel")
    session.run(lambda: session.channel().close())
    assert session.epoch == 2


# -- users, rights, virtual hosts --------------------------------------------------------------------------------


def test_user_with_rights_on_the_namespace_only_does_everything_and_with_less_is_told_what_is_missing(
    rabbitmq_url: str, namespace: str, user: tuple[str, str]
) -> None:
    """The rights are those of docs/security.md; what is refused is refused at once, and never shows a password."""
    transport = AmqpTransport(as_user(rabbitmq_url, user), namespace=namespace)
    with pytest.raises(AccessRefusedError, match=r"access to vhost .* refused.*set_permissions") as no_vhost:
        transport.send([command("a", b"1")])
    grant(rabbitmq_url, user, rf"^{namespace}\.", rf"^{namespace}\.", rf"^{namespace}\.")
    with pytest.raises(AccessRefusedError, match="rabbitmqctl set_permissions") as no_right:
        transport.declare("a", subscriptions=["t"])
    assert no_right.value.right.endswith(" amq.default")
    assert no_right.value.url == f"amqp://{rabbitmq_url.rpartition('@')[2]}"
    wrong = AmqpTransport(as_user(rabbitmq_url, (user[0], "c4n4ry/1")), namespace=namespace)
    with pytest.raises(AccessRefusedError, match=r"ACCESS_REFUSED.*percent-encoded") as no_login:
        wrong.send([command("a", b"1")])
    assert not any(
        secret in str(caught.value) for caught in (no_vhost, no_right, no_login) for secret in ("c4n4ry", user[1])
    )
    grant(rabbitmq_url, user, rf"^{namespace}\.", rf"^({namespace}\.|amq\.default$)", rf"^{namespace}\.")
    works_through(transport)
    with pytest.raises(AccessRefusedError):
        AmqpTransport(as_user(rabbitmq_url, user), namespace="other").declare("a", subscriptions=[])
    wrong.close()
    transport.close()


def works_through(transport: AmqpTransport) -> None:
    """Declare, send, publish, receive, lose the connection, receive again, ack and look."""
    transport.declare("a", subscriptions=["t"])
    assert transport.send([command("a", b"1"), event("t", b"2")]) == {}
    receiver = transport.receiver(["a"], consumer="c", claim_s=60)
    done = take(receiver, 2)
    receiver.session.drop()
    again = [delivery for _ in done for delivery in take(receiver, 1)]
    receiver.exchange((), again, (), 0, 0.0)
    assert [queue.depth for queue in transport.queues()] == [0]


def test_virtual_host_that_is_not_there_is_an_error_with_the_mend(rabbitmq_url: str) -> None:
    """Also where it was deleted under a connection that worked: reconnecting finds that out."""
    transport = AmqpTransport(rabbitmq_url.replace(vhost_of(rabbitmq_url), "no-such-place"), namespace="n")
    with pytest.raises(AccessRefusedError, match="rabbitmqctl add_vhost"):
        transport.send([command("a", b"1")], force=True)
    transport.close()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("ACCESS_REFUSED - access to queue 'n.q.a' in vhost '/' refused for user 'u'", "access to n.q.a"),
        ("ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused", "write amq.default"),
        ("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN", ""),
    ],
)
def test_right_that_is_missing_is_named_as_the_broker_names_it(text: str, right: str) -> None:
    """Older brokers do not say which of the three it is."""
    refused = amqp_refusal(amqp.exceptions.AccessRefused(text), "amqp://h")
    assert isinstance(refused, AccessRefusedError)
    assert refused.right == right


@pytest.mark.parametrize(
    "error",
    [
        amqp.exceptions.NotFound(
            "NOT_FOUND - home node 'r@a' of durable queue 'q' in vhost '/' is down or inaccessible"
        ),
        amqp.exceptions.PreconditionFailed("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"),
        amqp.exceptions.NotAllowed("NOT_ALLOWED - access to vhost '/' refused: connection limit (1) is reached"),
        amqp.exceptions.ConnectionForced("CONNECTION_FORCED - broker forced connection closure"),
        amqp.exceptions.InternalError("INTERNAL_ERROR - vhost '/' is down"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_trouble_that_passes_is_no_refusal(error: Exception) -> None:
    """A node that restarts, a handler that was slow, a limit that others leave room under: waiting helps."""
    assert amqp_refusal(error, "amqp://h") is None


# -- several brokers ---------------------------------------------------------------------------------------------


def test_next_broker_of_a_cluster_is_tried_when_one_does_not_answer(rabbitmq_url: str, namespace: str) -> None:
    """Their URLs stand in a row, with `;` between them; all are shown without credentials."""
    (port,) = servers.free_ports(1)
    absent = f"amqp://u:c4n4ry@127.0.0.1:{port}//"
    transport = AmqpTransport(f"{absent};{rabbitmq_url}", namespace=namespace)
    assert "c4n4ry" not in transport.url
    assert transport.url.startswith(f"amqp://127.0.0.1:{port}//;amqp://")
    transport.declare("a", subscriptions=[])
    assert [queue.endpoint for queue in transport.queues()] == ["a"]
    transport.close()


def test_next_broker_is_tried_when_the_first_ones_machine_is_gone(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lets packets fall into a hole takes as long as a connection may; looking at it again is to take less."""
    monkeypatch.setattr("transports.amqp_address.CONNECT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hole, ExitStack() as stack:
        for _ in range(3):  # nobody accepts, and more than these are not taken
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        session = AmqpSession(f"amqp://u:p@127.0.0.1:{hole.getsockname()[1]}//;{rabbitmq_url}", patience_s=3.0)
        assert session.run(lambda: "there") == "there"
        session.close()


def test_broker_that_is_not_there_is_unavailable() -> None:
    """After the patience of the session, with what the system says."""
    (port,) = servers.free_ports(1)
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1.*does not answer.*refused"):
        AmqpSession(f"amqp://u:p@127.0.0.1:{port}//", patience_s=0.2).run(lambda: None)


def test_waiting_for_a_broker_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever looks at a command that waits is told for what, and for how long at most."""
    monkeypatch.setattr("transports.amqp_session._SAID_AFTER_S", 0.0)
    (port,) = servers.free_ports(1)
    with pytest.raises(BrokerUnavailableError):
        AmqpSession(f"amqp://u:c4n4ry@127.0.0.1:{port}//", patience_s=0.3).run(lambda: None)
    said = capsys.readouterr().err
    assert said.count("waiting-for-server") == 1
    assert "refused" in said
    assert "for_s=" in said
    assert "c4n4ry" not in said


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_broker_that_takes_connections_and_says_nothing_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """As RabbitMQ does that has no file descriptors left; its own log says nothing of it."""
    monkeypatch.setattr("transports.amqp_address.CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        session = AmqpSession(f"{scheme}://u:p@127.0.0.1:{mute.getsockname()[1]}//", patience_s=0.2)
        with pytest.raises(BrokerUnavailableError, match=r"takes connections and says nothing.*file descriptors"):
            session.run(lambda: None)
