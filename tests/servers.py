"""Private servers for tests: each in a temporary folder of its own, on a socket or free ports, ended by its pid.

Where a server cannot be had, the test is skipped at home and fails in CI (environment variable `CI=true`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from attrs import frozen

from sagabus.store.keeper import end_with_parent
from sagabus.store.server_binary import find_server_binary

START_TIMEOUT_S = 60.0
SLOTS = 16_384
POSTGRES_URL = "postgresql://postgres@127.0.0.1:5432/postgres"
RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672//"
UNUSED_QUEUE_MS = 60_000
"""Longer than any test leaves alone a queue that it still needs."""

# Nothing on disk and no background work: what a test wants of that, it passes in `config`.
BASE_CONFIG = {"save": "", "appendonly": "no", "daemonize": "no", "dir": ".", "loglevel": "warning"}


@contextmanager
def valkey(**config: str | int) -> Iterator[str]:
    """Run the embedded store's own server on a unix socket and yield its URL.

    Args:
        config: settings of the server, with `_` for `-`: `maxmemory="10mb"`, `appendonly="yes"`.
    """
    with _single(find_server_binary().path, config) as url:
        yield url


@contextmanager
def redis7(**config: str | int) -> Iterator[str]:
    """Run the `redis-server` that is on PATH on a unix socket and yield its URL. Settings as in `valkey`."""
    with _single(redis_server(), config) as url:
        yield url


@contextmanager
def cluster(nodes: int = 3, **config: str | int) -> Iterator[str]:
    """Run a cluster of the embedded store's server on loopback ports, every slot served; yield its URL.

    The URL names the first node: `redis+cluster://127.0.0.1:PORT`. Settings as in `valkey`, for every node.
    """
    binary = find_server_binary().path
    ports = free_ports(2 * nodes)
    members = list(zip(ports[:nodes], ports[nodes:], strict=True))
    with ExitStack() as stack:
        clients: list[redis.Redis] = []
        for port, bus_port in members:
            settings: dict[str, str | int] = {
                "port": port,
                "bind": "127.0.0.1",
                "cluster-enabled": "yes",
                "cluster-port": bus_port,
                "cluster-node-timeout": 5000,
            }
            stack.enter_context(_process(binary, settings | config, f"redis://127.0.0.1:{port}"))
            clients.append(stack.enter_context(redis.Redis(port=port, socket_timeout=5, decode_responses=True)))
        _form_cluster(clients, members)
        yield f"redis+cluster://127.0.0.1:{ports[0]}"


@frozen
class Member:
    """One server of several: what a test asks it with, and ends it by."""

    port: int
    client: Any
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def follow(self, other: Member) -> None:
        """Make it a replica of *other*, and wait until it has caught up."""
        self.client.execute_command("REPLICAOF", "127.0.0.1", other.port)
        until(lambda: self.client.info("replication").get("master_link_status") == "up", "a replica's link")
        until(lambda: other.client.execute_command("WAIT", 1, 1000) > 0, "a replica's confirmation")

    def promote(self) -> None:
        """Make it a primary, without a word to the one that it followed."""
        self.client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def replicated(replicas: int = 1, *, binary: Path | None = None, **config: str | int) -> Iterator[list[Member]]:
    """Run a primary and its replicas on loopback ports and yield them, the primary first.

    Settings as in `valkey`, for each of them; *binary* where not the embedded store's server.
    """
    with ExitStack() as stack:
        members = [
            stack.enter_context(_member(binary or find_server_binary().path, port, config))
            for port in free_ports(1 + replicas)
        ]
        for replica in members[1:]:
            replica.follow(members[0])
        yield members


@contextmanager
def sentinel(replicas: int = 1, *, down_after_ms: int = 1500) -> Iterator[tuple[str, list[Member]]]:
    """Run a primary, its replicas and one sentinel; yield the URL that names the sentinel, and the servers.

    The sentinel alone decides on a failover, and calls them `here`. One that has little patience gives up the server
    that it has just promoted too, before it has heard of it, and promotes the other one.
    """
    with replicated(replicas) as members, tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        (port,) = free_ports(1)
        config = Path(folder) / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\n"
            f"sentinel monitor here 127.0.0.1 {members[0].port} 1\n"
            f"sentinel down-after-milliseconds here {down_after_ms}\n"
            f"sentinel failover-timeout here 20000\n"
        )
        with (
            _process(find_server_binary().path, {}, f"redis://127.0.0.1:{port}", (str(config), "--sentinel")),
            redis.Redis(port=port, socket_timeout=5, decode_responses=True) as client,
        ):
            until(lambda: int(client.sentinel_master("here")["num-slaves"]) == replicas, "a sentinel that knows all")
            yield f"redis+sentinel://127.0.0.1:{port}/here/0", members


@contextmanager
def _member(binary: Path, port: int, config: dict[str, str | int]) -> Iterator[Member]:
    settings: dict[str, str | int] = {"port": port, "bind": "127.0.0.1", "repl-diskless-sync-delay": 0}
    with (
        _process(binary, settings | config, f"redis://127.0.0.1:{port}") as process,
        redis.Redis(port=port, socket_timeout=5, decode_responses=True) as client,
    ):
        yield Member(port, client, process)


@contextmanager
def rabbitmq_url() -> Iterator[str]:
    """Yield the URL of a virtual host made for this test on a RabbitMQ, and delete it afterwards.

    Which one: `SAGABUS_TEST_AMQP`, else guest on the usual port of this machine; `RABBITMQCTL` is its rabbitmqctl.
    """
    broker = urlsplit(os.environ.get("SAGABUS_TEST_AMQP", RABBITMQ_URL))
    control = shutil.which(os.environ.get("RABBITMQCTL", "rabbitmqctl"))
    if control is None:
        missing("there is no rabbitmqctl on PATH")
    address = (broker.hostname or "127.0.0.1", broker.port or 5672)
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError as problem:
        missing(f"no RabbitMQ answers on {address[0]}:{address[1]} ({problem})")
    vhost = f"sagabus-test-{uuid.uuid4().hex}"
    made = subprocess.run([control, "add_vhost", vhost], capture_output=True, text=True, timeout=60, check=False)
    if made.returncode != 0:
        missing(f"rabbitmqctl may not be used here: {(made.stderr or made.stdout).strip()[-200:]}")
    try:
        rights = [control, "set_permissions", "-p", vhost, broker.username or "guest", ".*", ".*", ".*"]
        subprocess.run(rights, capture_output=True, timeout=60, check=True)
        # Each quorum queue takes three of the file descriptors that the broker allows itself; when they are gone, it
        # accepts connections and says nothing. The tests of a run leave some three hundred behind.
        expiry = [control, "set_policy", "-p", vhost, "unused", ".*", json.dumps({"expires": UNUSED_QUEUE_MS})]
        subprocess.run([*expiry, "--apply-to", "queues"], capture_output=True, timeout=60, check=True)
        yield f"{broker.scheme}://{broker.netloc}/{vhost}"
    finally:
        subprocess.run([control, "delete_vhost", vhost], capture_output=True, timeout=60, check=True)


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of a PostgreSQL database made for this test, and drop it afterwards.

    On which server: `SAGABUS_TEST_POSTGRES`, else the one on the usual port of this machine where it lets us in, else a
    private one of the binaries that are installed.
    """
    with ExitStack() as stack:
        url = os.environ.get("SAGABUS_TEST_POSTGRES", POSTGRES_URL)
        try:
            server = stack.enter_context(psycopg.connect(url, autocommit=True, connect_timeout=2))
        except psycopg.OperationalError:
            url = stack.enter_context(_private_postgres())
            server = stack.enter_context(psycopg.connect(url, autocommit=True))
        name = f"sagabus_test_{uuid.uuid4().hex}"
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def _private_postgres() -> Iterator[str]:
    """Run a PostgreSQL in a folder of its own, on a free port of the loopback, and yield its URL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    initdb = shutil.which("initdb") or (found and found[-1])
    if not initdb:
        missing("there is no PostgreSQL: neither one that answers, nor its initdb")
    binaries = Path(initdb).resolve().parent
    # It refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        if user:
            shutil.chown(folder, user)
        (port,) = free_ports(1)
        data = f"{folder}/data"
        options = ["-U", "postgres", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(
            [binaries / "initdb", *options, data], user=user, cwd=folder, capture_output=True, check=True, timeout=60
        )
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off", "port": port}
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())],
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent(),
            start_new_session=True,
        )
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        try:
            until(lambda: server.poll() is not None or _lets_in(url), "a private PostgreSQL's first answer")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # which does not wait for who is connected
            server.wait(30)


def _lets_in(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def rabbitmqctl(*arguments: str) -> None:
    """Have the RabbitMQ of `rabbitmq_url` do something that its protocol cannot."""
    control = shutil.which(os.environ.get("RABBITMQCTL", "rabbitmqctl"))
    assert control is not None, "rabbitmq_url would not be there without it"
    subprocess.run([control, *arguments], capture_output=True, timeout=60, check=True)


def redis_server() -> Path:
    """Return the `redis-server` that is on PATH."""
    found = shutil.which("redis-server")
    if found is None:
        missing("there is no redis-server on PATH")
    return Path(found)


def missing(reason: str) -> NoReturn:
    """Skip the running test because a server is missing; fail it in CI, where every server must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI must run this test", pytrace=False)
    pytest.skip(reason)


def free_ports(count: int) -> list[int]:
    """Return distinct loopback ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [int(held.getsockname()[1]) for held in sockets]


def until(condition: Callable[[], object], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return as soon as *condition* holds; for what other processes do, and tell nobody when it is done.

    Raises:
        TimeoutError: it did not hold within *timeout_s* seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(0.005)


def program(place: Path, name: str, output: str) -> Path:
    """Write a program that prints *output* and ends well."""
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@contextmanager
def _single(binary: Path, config: dict[str, str | int]) -> Iterator[str]:
    # Not pytest's tmp_path: a socket's path has little more than a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder:
        path = f"{folder}/server.sock"
        settings: dict[str, str | int] = {"port": 0, "unixsocket": path}
        with _process(binary, settings | config, f"unix://{path}"):
            yield f"unix://{path}"


@contextmanager
def _process(
    binary: Path, config: dict[str, str | int], url: str, instead: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one server until the block is left, in a temporary folder; enter the block when it answers PING.

    On Linux it also ends with the thread that entered the block, so that a killed test run leaves nothing behind.

    Args:
        instead: arguments for what takes no settings on its command line.
    """
    settings = BASE_CONFIG | {name.replace("_", "-"): str(value) for name, value in config.items()}
    arguments = [*instead] or [part for name, value in settings.items() for part in (f"--{name}", value)]
    with tempfile.TemporaryDirectory(prefix="sagabus-") as folder, (Path(folder) / "log").open("w+b") as log:
        server = subprocess.Popen(
            [binary, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
        try:
            with redis.Redis.from_url(url, socket_timeout=2) as client:
                until(lambda: server.poll() is not None or _answers(client), f"an answer of {binary} at {url}")
            if server.returncode is not None:
                log.seek(0)
                raise RuntimeError(f"{binary} ended with status {server.returncode}: {log.read().decode()}")
            yield server
        finally:
            server.kill()  # nothing of it is kept, so nothing is worth waiting for
            server.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def _form_cluster(clients: Sequence[Any], members: Sequence[tuple[int, int]]) -> None:
    """Introduce the nodes to each other, give each an equal share of the slots, and wait until all agree."""
    for index, client in enumerate(clients):
        first, last = SLOTS * index // len(clients), SLOTS * (index + 1) // len(clients) - 1
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        for port, bus_port in members[:index]:
            client.execute_command("CLUSTER MEET", "127.0.0.1", port, bus_port)
    # A node calls the cluster whole two seconds after its own start at the earliest.
    until(lambda: all(_is_whole(client, len(clients)) for client in clients), "an agreement on the cluster's slots")


def _is_whole(client: Any, nodes: int) -> bool:
    facts: dict[str, str] = client.execute_command("CLUSTER INFO")
    expected = {"cluster_state": "ok", "cluster_slots_ok": str(SLOTS), "cluster_known_nodes": str(nodes)}
    return expected.items() <= facts.items()
