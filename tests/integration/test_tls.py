"""TLS to stores and brokers: with good certificates all works; with bad ones nothing is sent, least of all in plain."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from attrs import frozen

from sagabus.errors import (
    AccessRefusedError,
    ConfigurationError,
    SagabusError,
    StoreUnavailableError,
    UntrustedServerError,
)
from sagabus.link import Command, Link
from tests import servers
from tests.certificates import Authority, Certificate
from tests.integration.apps import Order, order_app, settle
from tests.tls_proxy import tls_in_front_of
from transports.amqp import AmqpTransport
from transports.amqp_session import AmqpSession

PING = Command(("PING",), None)


def order(number: int) -> Order:
    """Return an order of two parts."""
    return Order(str(number), 2)


@frozen
class Papers:
    """Everybody's certificates.

    Attributes:
        ours: the authority of the servers and of *client*.
        theirs: another one, of *stranger*.
        server: for localhost and 127.0.0.1.
        expired: the same, but it ended years ago.
        elsewhere: for another host.
    """

    ours: Authority
    theirs: Authority
    server: Certificate
    expired: Certificate
    elsewhere: Certificate
    client: Certificate
    stranger: Certificate


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Return certificates that are made for this run."""
    folder = tmp_path_factory.mktemp("papers")
    ours, theirs = Authority.make(folder / "ours"), Authority.make(folder / "theirs")
    return Papers(
        ours,
        theirs,
        ours.sign("server"),
        ours.expired("expired"),
        ours.sign("elsewhere", names="DNS:elsewhere.example"),
        ours.sign("client"),
        theirs.sign("stranger"),
    )


@pytest.fixture(scope="module")
def secured(papers: Papers) -> Iterator[Callable[..., int]]:
    """Yield what starts a Redis that is reached over TLS only, by clients with a certificate; it returns the port."""
    ldd = subprocess.run(["ldd", servers.redis_server()], capture_output=True, text=True, timeout=60, check=False)
    if "libssl" not in ldd.stdout:
        servers.missing("this redis-server is built without TLS")
    with ExitStack() as stack:

        def start(certificate: Certificate, **config: str | int) -> int:
            (port,) = servers.free_ports(1)
            settings: dict[str, str | int] = {
                "bind": "127.0.0.1",
                "tls-port": port,
                "tls-cert-file": str(certificate.cert),
                "tls-key-file": str(certificate.key),
                "tls-ca-cert-file": str(papers.ours.cert),
                "tls-auth-clients": "yes",
            }
            stack.enter_context(servers.redis7(**(settings | config)))
            return port

        yield start


@pytest.fixture(scope="module")
def redis_port(secured: Callable[..., int], papers: Papers) -> int:
    """Return the port of a Redis with a good certificate."""
    return secured(papers.server)


def redis_options(papers: Papers, *, trust: Authority | None = None, client: Certificate | None = None) -> str:
    """Return the query of a URL: whom to trust and who we are, by default as is right."""
    us = client or papers.client
    options = {"ssl_ca_certs": (trust or papers.ours).cert, "ssl_certfile": us.cert, "ssl_keyfile": us.key}
    return urlencode(options)


def refused(url: str, kind: type[SagabusError]) -> str:
    """Return what is said where a link to *url* is refused, which it must be at once."""
    link = Link(url)
    with pytest.raises(kind) as caught:
        link.round([PING])
    assert link.round_trips == 1, "it tried again"
    with pytest.raises(kind):
        link.server()
    return str(caught.value)


def hung_up_on(url: str) -> str:
    """Return what is said where the server hangs up on a link to *url*.

    Its alert comes after our end has gone on: what is sent meanwhile may find the connection closed, and is sent again.
    """
    with pytest.raises(AccessRefusedError) as caught:
        Link(url, patience_s=60.0).round([PING])
    return str(caught.value)


# -- Redis and Valkey --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_sagas_over_tls_with_client_certificates_come_to_their_end(
    redis_port: int, papers: Papers, namespace: str, host: str
) -> None:
    """Store and transport, all kinds of effects; options are redis-py's."""
    url = f"valkeys://{host}:{redis_port}/0?{redis_options(papers)}"
    app = order_app(url, url, namespace=namespace)
    for number in range(3):
        app.bus.send(order(number), to="orders")
    settle(app.bus)
    app.check(3)
    app.bus.close()


def test_server_of_another_authority_is_not_trusted(redis_port: int, papers: Papers) -> None:
    """The mend is the option that names the authority, in case it is the right server."""
    url = f"rediss://127.0.0.1:{redis_port}?{redis_options(papers, trust=papers.theirs)}"
    said = refused(url, UntrustedServerError)
    assert "self-signed certificate in certificate chain" in said
    assert "?ssl_ca_certs=/PATH/ca.pem" in said


def test_authorities_of_the_system_are_asked_where_none_is_named(redis_port: int) -> None:
    """Nothing is ever trusted because nobody said whom to trust."""
    assert "ssl_ca_certs" in refused(f"rediss://127.0.0.1:{redis_port}", UntrustedServerError)


def test_server_whose_certificate_has_expired_is_not_trusted(secured: Callable[..., int], papers: Papers) -> None:
    """It says so, and that this machine's clock may be what is wrong."""
    said = refused(f"rediss://localhost:{secured(papers.expired)}?{redis_options(papers)}", UntrustedServerError)
    assert "certificate has expired. Renew its certificate, and look at the clock" in said


def test_server_of_another_name_is_not_trusted_unless_names_are_not_looked_at(
    secured: Callable[..., int], papers: Papers
) -> None:
    """`ssl_check_hostname=false` is for those who know why; the authority is looked at all the same."""
    url = f"rediss://localhost:{secured(papers.elsewhere)}?{redis_options(papers)}"
    said = refused(url, UntrustedServerError)
    assert "certificate is not valid for 'localhost'. Connect by a name that its certificate has" in said
    unnamed = Link(f"{url}&ssl_check_hostname=false")
    assert unnamed.round([PING]) == [b"PONG"]
    unnamed.close()


def test_client_without_a_certificate_is_told_how_to_give_one(redis_port: int, papers: Papers) -> None:
    """The server asks for it, and hangs up with an alert that few people can read."""
    said = hung_up_on(f"rediss://127.0.0.1:{redis_port}?ssl_ca_certs={papers.ours.cert}")
    assert "asks for a client certificate. Give one: ?ssl_certfile=" in said


def test_client_of_another_authority_is_told_that_it_is_not_accepted(redis_port: int, papers: Papers) -> None:
    """Not that the server does not answer."""
    url = f"rediss://127.0.0.1:{redis_port}?{redis_options(papers, client=papers.stranger)}"
    assert "does not accept the client certificate" in hung_up_on(url)


def test_server_that_speaks_no_tls_is_not_talked_to_in_plain(papers: Papers) -> None:
    """It never answers a handshake; after the patience of the link the error says what that may mean."""
    (port,) = servers.free_ports(1)
    with servers.redis7(port=port, bind="127.0.0.1"):
        link = Link(f"rediss://127.0.0.1:{port}?{redis_options(papers)}", timeout_s=0.5, patience_s=0.1)
        with pytest.raises(StoreUnavailableError, match=r"does it speak TLS on this port\?"):
            link.round([PING])


def test_options_of_tls_without_tls_are_refused(papers: Papers) -> None:
    """`redis:` with a `ssl_` option is a typing error that would send passwords in plain."""
    with pytest.raises(ConfigurationError, match="rediss: for TLS"):
        Link(f"redis://h?{redis_options(papers)}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("ssl_ca_certs=/nowhere/ca.pem", "what ssl_ca_certs names cannot be used (No such file or directory)"),
        ("ssl_ca_certs={notes}", "what ssl_ca_certs names cannot be used"),
        ("ssl_certfile={client}&ssl_keyfile={other}", "what ssl_certfile, with ssl_keyfile names cannot be used"),
        ("ssl_keyfile={other}", "ssl_certfile is missing"),
        ("ssl_cert_reqs=maybe", "Invalid SSL Certificate Requirements Flag: maybe"),
        ("ssl_certificate=x", "ssl_certificate"),
    ],
)
def test_files_and_options_of_tls_are_looked_at_before_anything_connects(
    options: str, words: str, papers: Papers, tmp_path: Path
) -> None:
    """A missing file is not a server that does not answer."""
    notes = tmp_path / "notes.txt"
    notes.write_text("no certificate")
    given = options.format(notes=notes, client=papers.client.cert, other=papers.stranger.key)
    with pytest.raises(ConfigurationError) as caught:
        Link(f"rediss://u:c4n4ry@nowhere.invalid?{given}")
    assert words in str(caught.value)
    assert "c4n4ry" not in str(caught.value)


def test_key_with_a_passphrase_is_used_with_it_and_refused_without(
    redis_port: int, papers: Papers, tmp_path: Path
) -> None:
    """Without `ssl_password` OpenSSL would ask for it on the terminal, and a worker would wait there for ever."""
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", papers.client.key, "-aes256", "-passout", "pass:c4n4ry", "-out", locked]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    url = f"rediss://127.0.0.1:{redis_port}?ssl_ca_certs={papers.ours.cert}&ssl_certfile={papers.client.cert}"
    link = Link(f"{url}&ssl_keyfile={locked}&ssl_password=c4n4ry")
    assert link.round([PING]) == [b"PONG"]
    assert "c4n4ry" not in link.shown_url
    link.close()
    for wrong in ("", "&ssl_password=wrong"):
        with pytest.raises(ConfigurationError, match="what ssl_certfile, with ssl_keyfile names"):
            Link(f"{url}&ssl_keyfile={locked}{wrong}")


def test_cluster_over_tls_is_followed_over_tls(secured: Callable[..., int], papers: Papers, namespace: str) -> None:
    """Where a slot is, it says by address; connections to it have the options of the URL."""
    config = {"cluster-enabled": "yes", "tls-cluster": "yes", "cluster-port": servers.free_ports(1)[0]}
    port = secured(papers.server, **config)
    options = redis_options(papers)
    client = Link(f"rediss://127.0.0.1:{port}?{options}")
    client.round([Command(("CLUSTER", "ADDSLOTSRANGE", 0, servers.SLOTS - 1), None)])
    client.close()
    url = f"rediss+cluster://127.0.0.1:{port}?{options}"
    app = order_app(url, url, namespace=namespace)
    app.bus.send(order(0), to="orders")
    settle(app.bus)
    app.check(1)
    app.bus.close()


# -- RabbitMQ ----------------------------------------------------------------------------------------------------


@pytest.fixture
def broker(rabbitmq_url: str) -> tuple[str, int]:
    """Return where the broker listens in plain."""
    parts = urlsplit(rabbitmq_url)
    return parts.hostname or "127.0.0.1", parts.port or 5672


def amqps(rabbitmq_url: str, port: int, host: str = "localhost", **options: object) -> str:
    """Return the URL of the same broker behind a TLS port."""
    parts = urlsplit(rabbitmq_url)
    return f"amqps://{parts.username}:{parts.password}@{host}:{port}{parts.path}?{urlencode(options)}"


def refused_by_broker(url: str, kind: type[SagabusError]) -> str:
    """Return what is said where a session to *url* is refused."""
    session = AmqpSession(url)
    with pytest.raises(kind) as caught:
        session.run(lambda: None)
    return str(caught.value)


def test_queues_over_tls_with_client_certificates_work(
    rabbitmq_url: str, broker: tuple[str, int], papers: Papers, namespace: str, valkey_url: str
) -> None:
    """Options have the names that RabbitMQ's documentation gives them."""
    with tls_in_front_of(broker, papers.server, clients=str(papers.ours.cert)) as port:
        files = {"cacertfile": papers.ours.cert, "certfile": papers.client.cert, "keyfile": papers.client.key}
        url = amqps(rabbitmq_url, port, **files, verify="verify_peer")
        app = order_app(valkey_url, url, namespace=namespace)
        for number in range(3):
            app.bus.send(order(number), to="orders")
        settle(app.bus)
        app.check(3)
        app.bus.close()
        nobody = amqps(rabbitmq_url, port, cacertfile=papers.ours.cert)
        assert "Give one: ?certfile=" in refused_by_broker(nobody, AccessRefusedError)


def test_broker_whose_certificate_proves_nothing_is_not_trusted(
    rabbitmq_url: str, broker: tuple[str, int], papers: Papers
) -> None:
    """By default names and authorities are looked at, which py-amqp by itself does not do for names."""
    trusting = {"cacertfile": papers.ours.cert}
    with tls_in_front_of(broker, papers.server) as port:
        said = refused_by_broker(amqps(rabbitmq_url, port), UntrustedServerError)
        assert "?cacertfile=/PATH/ca.pem" in said
        said = refused_by_broker(amqps(rabbitmq_url, port, cacertfile=papers.theirs.cert), UntrustedServerError)
        assert "?cacertfile=/PATH/ca.pem" in said
        AmqpSession(amqps(rabbitmq_url, port, **trusting)).close()
        blind = AmqpSession(amqps(rabbitmq_url, port, verify="verify_none"))
        blind.run(lambda: None)
        blind.close()
    with tls_in_front_of(broker, papers.expired) as port:
        assert "certificate has expired" in refused_by_broker(
            amqps(rabbitmq_url, port, **trusting), UntrustedServerError
        )
    with tls_in_front_of(broker, papers.elsewhere) as port:
        said = refused_by_broker(amqps(rabbitmq_url, port, **trusting), UntrustedServerError)
        assert "not valid for 'localhost'" in said
        by_name = AmqpSession(
            amqps(rabbitmq_url, port, "127.0.0.1", **trusting, server_name_indication="elsewhere.example")
        )
        by_name.run(lambda: None)
        by_name.close()


def test_broker_that_speaks_no_tls_is_not_talked_to_in_plain(rabbitmq_url: str, broker: tuple[str, int]) -> None:
    """Its answer to the handshake is none."""
    said = refused_by_broker(amqps(rabbitmq_url, broker[1]), UntrustedServerError)
    assert "it does not speak TLS on this port. Use its port for TLS" in said


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://u:c4n4ry@h?cacertfile=x", "no TLS that it could be about; write amqps:"),
        ("amqps://u:c4n4ry@h?cacert=x", "has the unknown option cacert; write one of auth_mechanism, cacertfile"),
        ("amqps://u:c4n4ry@h?verify=no", "verify is verify_peer, the default, or verify_none, not 'no'"),
        ("amqps://u:c4n4ry@h?cacertfile=/nowhere/ca.pem", "what cacertfile names cannot be used (No such file"),
        ("amqps://u:c4n4ry@h?auth_mechanism=magic", "auth_mechanism is one of amqplain, external, plain, not 'magic'"),
    ],
)
def test_options_of_a_broker_that_cannot_be_are_refused_before_anything_connects(url: str, words: str) -> None:
    """With what to write instead, and without credentials."""
    with pytest.raises(ConfigurationError) as caught:
        AmqpTransport(url, namespace="n")
    assert words in str(caught.value)
    assert "c4n4ry" not in str(caught.value)
