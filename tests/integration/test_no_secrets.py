"""A password that is in every URL is in nothing that is written, whatever goes wrong."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import structlog

from sagabus import Bus, Context, RetryPolicy, Saga, message, starts
from sagabus.connect import open_store, open_transport
from sagabus.errors import SagabusError
from sagabus.link import Command, Link
from sagabus.observe.log import configure
from sagabus.store.rights import acl_rule
from sagabus.supervisor import Supervisor
from tests import servers
from tests.integration.processes import APP, Place
from tests.unit.test_log import State
from transports.amqp_session import AmqpSession

CANARY = "c4n4ry-9f3e"


@message("secret.job")
class Job:
    key: str


class Careless(Saga[State], key="key"):
    @starts
    def begun(self, m: Job) -> None:
        password = CANARY  # a traceback that showed local variables would show it
        raise ConnectionError(f"Error 111 connecting to rediss://u:{password}@host:1/0")


@pytest.fixture
def url(valkey_url: str, namespace: str) -> Iterator[str]:
    """Yield the URL of a user whose password is the canary."""
    name = f"user-{secrets.token_hex(4)}"
    with redis.Redis.from_url(valkey_url) as admin:
        admin.execute_command("ACL", "SETUSER", name, "on", f">{CANARY}", *acl_rule(namespace).split())
        yield valkey_url.replace("unix://", f"unix://{name}:{CANARY}@")
        admin.execute_command("ACL", "DELUSER", name)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    import logging

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("as_json", [True, False])
def test_handlers_that_fail_with_urls_in_their_errors_leave_no_password_behind(
    url: str, namespace: str, as_json: bool, capsys: pytest.CaptureFixture[str], valkey_url: str
) -> None:
    """Neither in logs nor in dead letters, in any key of the namespace."""
    configure(level="DEBUG", as_json=as_json, color=False)
    bus = Bus(url, url, namespace=namespace)
    once = RetryPolicy(max_attempts=2, first_delay_s=0.001)
    endpoint = bus.endpoint("c", retry=once)
    bus.endpoint("s", Careless, retry=once)

    @endpoint.consumer
    def failing(m: Job, context: Context) -> None:
        dsn = {"host": "h", "password": CANARY}
        structlog.get_logger().warning("connecting", to=url, dsn=dsn)
        raise ConnectionError(f"cannot connect with {dsn} to amqp://u:{CANARY}@h//;amqp://u:{CANARY}@i//")

    for to in ("c", "s"):
        bus.send(Job("1"), to=to)
    worker = bus.worker()
    servers.until(lambda: worker.run_until_idle() or len(bus.store.dead()) == 2, "two dead letters")
    letters = bus.store.dead()
    assert all("***" in letter.error and "Traceback" in letter.traceback for letter in letters)
    bus.close()
    said = capsys.readouterr()
    assert said.err.count("dead-lettered") == 2
    assert CANARY not in said.err + said.out
    with redis.Redis.from_url(valkey_url) as admin:
        kept = [admin.dump(key) for key in admin.scan_iter(f"{namespace}:*", count=10_000)]
        values = [admin.hgetall(key) for key in admin.scan_iter(f"{namespace}:*", count=10_000, _type="hash")]
    assert len(kept) > 2
    assert CANARY.encode() not in b"".join(kept)
    assert CANARY not in repr(values)


def unusable() -> list[str]:
    """Return URLs that cannot be used, each in another way, all with the canary in them."""
    (port,) = servers.free_ports(1)
    here = f"127.0.0.1:{port}"
    wrong = [f"{scheme}://u:{CANARY}@{here}/x" for scheme in ("redis", "valkeys", "redis+cluster")]
    wrong += [f"redis://u:{CANARY}/2@{here}", f"redis://u:{CANARY}#2@{here}", f"redis://u:{CANARY}@h:port/0"]
    wrong += [f"redis://u:{CANARY}@[::1/0", f"rediss://u:{CANARY}@h?ssl_ca_certs=/none&ssl_password={CANARY}"]
    wrong += [f"redis+sentinel://u:{CANARY}@a,b?sentinel_password={CANARY}", f"redis://h?passwd={CANARY}"]
    wrong += [f"amqp://u:{CANARY}@h:port//", f"amqps://u:{CANARY}@h?x={CANARY}", f"amqp://u:{CANARY}/2@h//"]
    wrong += [f":{CANARY}@host", f"//u:{CANARY}@host", f"gopher://u:{CANARY}@h", f"kombu+redis://u:{CANARY}@h"]
    return wrong


@pytest.mark.parametrize("number", range(len(unusable())))
def test_url_that_cannot_be_used_is_not_shown_with_its_password(number: int) -> None:
    """As a store or as a transport, the whole chain of errors included."""
    url = unusable()[number]
    for make in (open_store, open_transport):
        with pytest.raises(SagabusError) as caught:
            make(url, "n")
        assert CANARY not in str(caught.value)


def test_server_that_does_not_answer_is_named_without_password() -> None:
    """A store, a cluster, sentinels and brokers."""
    (port,) = servers.free_ports(1)
    address = f"u:{CANARY}@127.0.0.1:{port}"
    for url in (f"redis://{address}", f"rediss+cluster://{address}", f"redis+sentinel://{address}/mine"):
        with pytest.raises(SagabusError) as caught:
            Link(url, patience_s=0.1).round([Command(("PING",), None)])
        assert CANARY not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)
    with pytest.raises(SagabusError) as caught:
        AmqpSession(f"amqp://{address}//;amqp://{address}//", patience_s=0.1).run(lambda: None)
    assert CANARY not in str(caught.value)


def test_command_line_shows_no_password(place: Place) -> None:
    """Where the app cannot be imported, with a traceback; and where a URL cannot be used, in a line."""
    for env in (
        {"SAGABUS_STORE": f"redis://u:{CANARY}/2@h", "SAGABUS_TRANSPORT": "memory:"},
        {"SAGABUS_STORE": f"redis://u:{CANARY}@h/none", "SAGABUS_TRANSPORT": "memory:"},
    ):
        ended = place.sagabus("list", APP, check=False, env=env)
        assert ended.returncode == 2
        assert "@h" not in ended.stderr
        assert CANARY not in ended.stderr + ended.stdout
    folder = place.folder / "apps"
    folder.mkdir()
    (folder / "leaking.py").write_text(f"raise OSError('redis://u:' + {CANARY!r} + '@h does not answer')\n")
    ended = place.sagabus("list", "leaking:bus", check=False, anew=True, cwd=folder)
    assert ended.returncode == 1
    assert "OSError: redis://***@h does not answer" in ended.stderr
    assert f"@h {CANARY}" not in ended.stderr


def test_command_lines_of_workers_show_no_password(place: Place) -> None:
    """The processes of a supervisor get URLs in their environment, which others cannot read."""
    env = {**place.env, "SAGABUS_STORE": f"redis://u:{CANARY}@127.0.0.1:1/0"}
    with Supervisor(APP, 2, env=env, name="w") as supervisor:
        lines = [Path(f"/proc/{pid}/cmdline") for pid in supervisor.pids]
        if not lines[0].exists():
            pytest.skip("there is no /proc here")
        servers.until(lambda: all(b"worker" in line.read_bytes() for line in lines), "two programs that have begun")
        shown = [line.read_bytes() for line in lines]
        supervisor.abort()
    assert len(shown) == 2
    assert all(b"worker" in line and CANARY.encode() not in line for line in shown)
