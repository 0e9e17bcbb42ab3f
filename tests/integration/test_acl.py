"""A Redis user with the rights of docs/security.md and no others: everything works, and what is missing is named."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from attrs import frozen

from sagabus.errors import AccessRefusedError
from sagabus.link import Command, Link
from sagabus.replies.address import new_address
from sagabus.store.redis import RedisStore
from sagabus.store.rights import CLUSTER_COMMANDS, COMMANDS, REPLICATED_COMMANDS, acl_rule, check_rights
from sagabus.transport import Parcel, ParcelKind, reply_queue_of
from tests.integration.apps import Order, order_app, settle
from tests.integration.processes import Place
from transports.redis_streams import RedisStreamsTransport

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "c4n4ry/p@ss:w?rd#%[]é"


@frozen
class User:
    """A user of a server.

    Attributes:
        url: theirs.
        change: gives and takes rights.
    """

    name: str
    url: str
    change: Callable[..., object]


def with_user(url: str, namespace: str) -> Iterator[User]:
    """Yield a user with exactly the rights that *namespace* needs on the server at *url*."""
    name = f"user-{secrets.token_hex(4)}"
    with redis.Redis.from_url(url) as admin:

        def change(*rules: str) -> object:
            return admin.execute_command("ACL", "SETUSER", name, *rules)

        change("on", f">{PASSWORD}", *acl_rule(namespace).split())
        scheme, _, rest = url.partition("://")
        yield User(name, f"{scheme}://{name}:{quote(PASSWORD, safe='')}@{rest}", change)
        admin.execute_command("ACL", "DELUSER", name)


@pytest.fixture(params=["valkey_url", "redis7_url"])
def user(request: pytest.FixtureRequest, namespace: str) -> Iterator[User]:
    """Yield a user of either server."""
    yield from with_user(request.getfixturevalue(request.param), namespace)


@pytest.fixture
def valkey_user(valkey_url: str, namespace: str) -> Iterator[User]:
    """Yield a user of one server, for what does not depend on whose it is."""
    yield from with_user(valkey_url, namespace)


def test_user_with_the_rights_that_are_documented_does_everything(user: User, namespace: str) -> None:
    """Sagas with all kinds of effects, retries, dead letters, documents, leases, listing and looking."""
    app = order_app(user.url, user.url, namespace=namespace, flaky=True)
    for number in range(3):
        app.bus.send(Order(str(number)), to="orders")
    settle(app.bus)
    app.check(3)
    group = app.bus.documents.group("g")
    one = group.create("a", Order("1"))
    group.put("a", Order("2"), etag=one.etag)
    group.delete("a", etag=group.load("a", Order).etag)
    with app.bus.lease("l", ttl_s=5.0):
        pass
    assert app.bus.store.scheduled() is not None
    address = new_address()
    replies = reply_queue_of(app.bus.transport, address)
    app.bus.transport.send([Parcel(ParcelKind.COMMAND, address, b"answer", "", "1")])
    assert replies.receive(10.0) == [b"answer"]
    assert replies.receive(0.01) == []
    replies.close()
    app.bus.close()


def test_user_may_do_nothing_outside_of_the_namespace(valkey_user: User) -> None:
    """Neither read nor write other keys, nor run what no bus runs."""
    link = Link(valkey_user.url)
    for words in (("GET", "elsewhere"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("PUBLISH", "c", "m")):
        with pytest.raises(AccessRefusedError):
            link.round([Command(words, None)])
    link.close()


def test_missing_rights_are_all_named_before_anything_is_written(valkey_user: User, namespace: str) -> None:
    """A script that is refused a command half-way keeps what it has written: it must not come to that."""
    valkey_user.change("-zadd", "-rpush", "-xinfo|consumers")
    for used in (
        RedisStore(valkey_user.url, namespace=namespace).open,
        lambda: RedisStreamsTransport(valkey_user.url, namespace=namespace).declare("a", subscriptions=[]),
    ):
        with pytest.raises(AccessRefusedError) as caught:
            used()
        assert caught.value.right == "+rpush +zadd +xinfo|consumers"
        assert f"ACL SETUSER NAME ~{namespace}:* +rpush +zadd +xinfo|consumers" in str(caught.value)
    valkey_user.change("+zadd", "+rpush", "+xinfo|consumers")
    link = Link(valkey_user.url)
    check_rights(link, namespace)
    assert not any(link.scan(f"{namespace}:*"))
    link.close()


def test_keys_of_another_namespace_are_refused_with_the_mend(valkey_user: User) -> None:
    """The user's pattern and the bus's namespace have to agree."""
    with pytest.raises(AccessRefusedError, match=r"Grant it: ACL SETUSER NAME ~NAMESPACE:\*"):
        RedisStore(valkey_user.url, namespace="other").open()


def test_wrong_password_is_refused_at_once_and_not_shown(valkey_user: User) -> None:
    """However long one waits, it stays wrong; and the mend speaks of percent-encoding."""
    link = Link(valkey_user.url.replace("c4n4ry", "wr0ng"))
    with pytest.raises(AccessRefusedError, match=r"invalid username-password pair.*percent-encoded") as caught:
        link.round([Command(("PING",), None)])
    assert link.round_trips == 1
    assert "wr0ng" not in str(caught.value)


def test_right_that_is_taken_from_a_running_worker_ends_it_with_a_word(valkey_user: User, namespace: str) -> None:
    """It does not try for ever what it may not do; what it had in hand is delivered again when it may."""
    app = order_app(valkey_user.url, valkey_user.url, namespace=namespace)
    app.bus.send(Order("0"), to="orders")
    worker = app.bus.worker()
    valkey_user.change("-evalsha", "-eval", "-xreadgroup")
    with pytest.raises(AccessRefusedError, match="Grant it: ACL SETUSER NAME"):
        worker.run()
    valkey_user.change("+evalsha", "+eval", "+xreadgroup")
    settle(app.bus)
    app.check(1)
    app.bus.close()


def test_command_line_says_what_is_missing_and_exits_as_for_a_wrong_option(place: Place, valkey_url: str) -> None:
    """Code 2, so that a supervisor does not start it again; one line, without the password."""
    for user in with_user(valkey_url, place.namespace):
        user.change("-zadd")
        env = {"SAGABUS_STORE": user.url, "SAGABUS_TRANSPORT": user.url}
        ended = place.sagabus("worker", "tests.integration.creditapp:bus", check=False, env=env)
        assert ended.returncode == 2
        assert "+zadd" in ended.stderr.splitlines()[-1]
        assert "c4n4ry" not in ended.stderr


# -- the list ----------------------------------------------------------------------------------------------------


_MEND = "add it to sagabus/store/rights.py and to docs/security.md: users have to be given the right"
_WITH_SUBCOMMANDS = ("XGROUP", "XINFO", "CLUSTER")
_IN_LUA = re.compile(r"\bcall\('([A-Z]+)'(?:, *'([A-Z]+)')?")
_IN_PYTHON = re.compile(r"(?:Command\(\s*\(|on_node\(\w+, |args = \()\"([A-Z]+)\"(?:, \"([A-Z]+)\")?")


def commands_in(pattern: re.Pattern[str], *places: str) -> set[str]:
    """Return what the files at *places* run, as an ACL names it."""
    found = [match for place in places for path in ROOT.glob(place) for match in pattern.findall(path.read_text())]
    return {f"{name}|{sub}".lower() if name in _WITH_SUBCOMMANDS else name.lower() for name, sub in found}


def test_every_command_of_a_script_is_among_the_rights() -> None:
    """Whoever lets a script run one more learns here that users' rights have to grow with it."""
    used = commands_in(_IN_LUA, "sagabus/**/*.lua", "transports/*.lua")
    assert len(used) > 20
    assert used <= set(COMMANDS), _MEND


def test_every_command_that_is_sent_is_among_the_rights() -> None:
    """The same for what goes out from Python."""
    used = commands_in(_IN_PYTHON, "sagabus/link/*.py", "sagabus/store/*.py", "transports/*.py")
    assert {"info", "evalsha", "xreadgroup", "hset"} <= used
    assert used <= {*COMMANDS, *CLUSTER_COMMANDS, *REPLICATED_COMMANDS}, _MEND


def test_documentation_has_the_rights_that_are_looked_for() -> None:
    """The line that people copy is the one that the tests above run with."""
    text = " ".join((ROOT / "docs" / "security.md").read_text().split())
    assert acl_rule("sagabus") in text
    assert all(f"`+{name}`" in text for name in (*CLUSTER_COMMANDS, *REPLICATED_COMMANDS))
