"""From URLs to a store and a transport."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sagabus import Bus
from sagabus.connect import choose_urls, embedded_folder, open_store, open_transport, scheme_of
from sagabus.errors import ConfigurationError, ShadowedPackageError, UnknownTransportError
from sagabus.link import Link
from sagabus.store.memory import MemoryStore
from sagabus.store.redis import RedisStore
from transports.memory import MemoryTransport
from transports.redis_streams import RedisStreamsTransport

ROOT = Path(__file__).resolve().parents[2]


# -- which URLs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "transport", "environment", "expected"),
    [
        (None, None, {}, ("embedded:", "embedded:")),
        ("redis://a", None, {}, ("redis://a", "redis://a")),
        (None, "amqp://b", {}, ("embedded:", "amqp://b")),
        (None, None, {"SAGABUS_STORE": "redis://s"}, ("redis://s", "redis://s")),
        (None, None, {"SAGABUS_STORE": "redis://s", "SAGABUS_TRANSPORT": "amqp://t"}, ("redis://s", "amqp://t")),
        (None, None, {"SAGABUS_TRANSPORT": "amqp://t"}, ("embedded:", "amqp://t")),
        ("redis://a", "amqp://b", {"SAGABUS_STORE": "x:", "SAGABUS_TRANSPORT": "y:"}, ("redis://a", "amqp://b")),
        (None, None, {"SAGABUS_STORE": "", "SAGABUS_TRANSPORT": ""}, ("embedded:", "embedded:")),
    ],
)
def test_urls_come_from_arguments_then_the_environment_then_the_embedded_server(
    store: str | None,
    transport: str | None,
    environment: dict[str, str],
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A transport that nobody names is on the store's server."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose_urls(store, transport) == expected
    bus = Bus(store, transport)
    assert (bus.store_url, bus.transport_url) == expected


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("embedded:", ".sagabus"),
        ("embedded:data", "data"),
        ("embedded:/srv/data", "/srv/data"),
        ("embedded:///srv/data", "/srv/data"),
        ("embedded:a%20b", "a b"),
    ],
)
def test_embedded_url_names_a_folder(url: str, folder: str) -> None:
    """The one in the current folder where it names none."""
    assert embedded_folder(url) == Path(folder)


@pytest.mark.parametrize("url", ["", "localhost", ":6379", "/a/path"])
def test_url_without_a_scheme_is_refused_with_an_example(url: str) -> None:
    """The commonest mistake of all."""
    with pytest.raises(ConfigurationError, match="write one as redis://"):
        scheme_of(url)


# -- what they lead to -------------------------------------------------------------------------------------------


def test_scheme_leads_to_its_store() -> None:
    """Nothing connects before it is used."""
    assert isinstance(open_store("memory:", "n"), MemoryStore)
    for scheme in ("redis", "rediss", "valkey", "valkeys", "redis+cluster", "rediss+cluster", "valkey+cluster"):
        assert isinstance(open_store(f"{scheme}://nowhere.invalid", "n"), RedisStore)
    assert isinstance(open_store("UNIX:///tmp/none.sock", "n"), RedisStore)
    with pytest.raises(ConfigurationError, match="no store for 'amqp' URLs"):
        open_store("amqp://nowhere", "n")


def test_scheme_leads_to_its_transport() -> None:
    """Found through entry points; what has none of its own is kombu's, which says no to what it does not know."""
    assert isinstance(open_transport("memory:", "n"), MemoryTransport)
    for scheme in ("redis", "rediss", "valkey", "valkeys", "redis+cluster", "valkey+cluster", "unix"):
        assert isinstance(open_transport(f"{scheme}://nowhere.invalid", "n"), RedisStreamsTransport)
    assert type(open_transport("amqp://nowhere.invalid", "n")).__module__.startswith("transports.")
    with pytest.raises(UnknownTransportError, match="'gopher'") as error:
        open_transport("gopher://x", "n")
    assert error.value.scheme == "gopher"
    assert {"redis", "amqp", "memory"} <= set(error.value.known)


@pytest.mark.parametrize("cause", [ImportError("No module named 'botocore'"), NameError("'boto' is not defined")])
def test_broker_whose_library_is_missing_is_refused_with_the_package_to_install(
    cause: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, whichever way kombu fails without it, and not by an error about what was never connected."""

    def fail(*args: Any, **options: Any) -> Any:
        raise cause

    monkeypatch.setattr("transports.virtual.Connection", fail)
    with pytest.raises(ConfigurationError) as caught:
        open_transport("sqs://", "n")
    assert "pip install 'kombu[sqs]'" in str(caught.value)
    assert str(cause) in str(caught.value)
    assert caught.value.__cause__ is cause


def test_broker_whose_library_is_called_otherwise_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every scheme is what the extra of kombu is called."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.setitem(sys.modules, "etcd", None)
    for scheme, package in (("kafka", "kombu[confluentkafka]"), ("etcd", "python-etcd")):
        with pytest.raises(ConfigurationError, match="library that cannot be imported") as caught:
            open_transport(f"{scheme}://nowhere.invalid", "n")
        assert f"pip install '{package}'" in str(caught.value)


def test_transport_that_nothing_is_installed_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists those that there are."""
    monkeypatch.setattr("sagabus.connect.entry_points", lambda group: [])
    with pytest.raises(UnknownTransportError, match="known schemes"):
        open_transport("redis://x", "n")


class ForeignPoint:
    """An entry point of another distribution."""

    name, module, dist = "carrier", "somebody.pigeons", None

    def load(self) -> Any:
        return lambda url, namespace: ("pigeon", url, namespace)


def test_transport_of_another_distribution_is_loaded_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may publish one."""
    monkeypatch.setattr("sagabus.connect.entry_points", lambda group: [ForeignPoint()])
    made: Any = open_transport("carrier:loft", "n")
    assert made == ("pigeon", "carrier:loft", "n")


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("//u:secret@h:99999", "Port out of range"),
        ("//u:secret@h:port", "'port'"),
        ("//u:secret@h/abc", "'abc' is no number of a database"),
        ("//u:secret@h/0/1", "'0/1' is no number of a database"),
        ("//u:secret@h/1?db=abc", "'db'"),
        ("//u:secret@h?socket_timeout=abc", "'socket_timeout'"),
        ("//u:secret@h?sokket_timeout=1", "sokket_timeout"),
        ("//u:secret@[::1", "Invalid IPv6 URL"),
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "valkeys", "rediss+cluster"])
def test_redis_url_that_cannot_be_used_is_refused_when_it_is_read(scheme: str, rest: str, words: str) -> None:
    """Before anything connects, without the password, for store and queues alike; no database is taken for another."""
    for opened in (open_store, open_transport):
        with pytest.raises(ConfigurationError) as caught:
            opened(f"{scheme}:{rest}", "n")
        assert words in str(caught.value)
        assert "; write " in str(caught.value)
        assert "secret" not in str(caught.value)


def test_redis_url_names_a_database_by_path_or_option() -> None:
    """As redis-py reads it."""
    for url in ("redis://h/3", "redis://h/3/", "redis://h?db=3", "unix:///tmp/a.sock?db=3"):
        (node,) = Link(url)._nodes.values()
        assert node.pool.connection_kwargs["db"] == 3


@pytest.mark.parametrize("scheme", ["redis", "amqp", "valkey+cluster"])
def test_url_whose_password_has_a_slash_is_refused_without_showing_it(scheme: str) -> None:
    """What stands before the slash would be taken for host and port, and shown."""
    with pytest.raises(ConfigurationError, match="as %2F") as caught:
        open_transport(f"{scheme}://u:sec/ret@h:1/0", "n")
    assert not any(part in str(caught.value) for part in ("sec", "ret"))


@pytest.mark.parametrize("rest", ["h:999999", "h:port", "[::1", "h?sokket=1"])
def test_amqp_url_that_cannot_be_used_is_refused_when_it_is_read(rest: str) -> None:
    """A broker is not looked for where none can be."""
    with pytest.raises(ConfigurationError, match="; write ") as caught:
        open_transport(f"amqp://u:secret@{rest}", "n")
    assert "secret" not in str(caught.value)


# -- packages that hide ours -------------------------------------------------------------------------------------

SCRIPT = """
from sagabus import Bus
bus = Bus(store="memory:", transport="memory:")
bus.transport
print("loaded")
"""

HIDING = {
    "an empty package": {"transports/__init__.py": ""},
    "one with a module of that name": {"transports/__init__.py": "", "transports/memory.py": ""},
    "one with all of the names": {
        "transports/__init__.py": "",
        "transports/memory.py": "class MemoryTransport:\n    def __init__(self, *a, **k): pass\n",
    },
    "a folder that is no package": {"transports/readme.txt": "ours", "transports/memory.py": "x = 1"},
    "a module": {"transports.py": ""},
}


@pytest.mark.parametrize("case", HIDING)
def test_package_of_the_user_that_hides_ours_is_named(case: str, tmp_path: Path) -> None:
    """The error has both paths, so that one sees at once which is whose."""
    for name, text in HIDING[case].items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    code = SCRIPT.replace(
        "bus.transport\n",
        "from sagabus.errors import ShadowedPackageError\n"
        "try:\n    bus.transport\n"
        "except ShadowedPackageError as e:\n    print(e.package, e.found, e.expected, sep='|'); raise SystemExit(7)\n",
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if case == "a folder that is no package":
        # A regular package anywhere on the path outranks a mere folder, so this one hides nothing.
        assert (ran.returncode, ran.stdout.strip()) == (0, "loaded"), ran.stderr
        return
    assert ran.returncode == 7, ran.stderr
    package, found, expected = ran.stdout.strip().splitlines()[-1].split("|")
    assert package == "transports"
    assert Path(found).is_relative_to(tmp_path)
    assert Path(expected) == ROOT / "transports"


def test_packages_of_the_user_called_like_ours_do_no_harm_to_the_kernel(tmp_path: Path) -> None:
    """`sagas` and `mergers` are names that a user may well have; the kernel imports neither."""
    for name in ("sagas", "mergers", "examples"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('mine')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.strip() == "loaded", ran.stderr


def test_import_error_of_our_own_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing dependency is not somebody's package in the way."""
    from importlib.metadata import entry_points

    (point,) = entry_points(group="sagabus.transports", name="memory")

    class Broken:
        name, module, dist = point.name, point.module, point.dist

        def load(self) -> Any:
            raise ImportError("no module named kombu")

    monkeypatch.setattr("sagabus.connect.entry_points", lambda group: [Broken()])
    with pytest.raises(ImportError, match="kombu"):
        open_transport("memory:", "n")


def test_shadowed_package_error_says_what_to_do() -> None:
    """Rename, or run from elsewhere."""
    error = ShadowedPackageError("transports", "/mine", "/theirs")
    assert "rename your package, or run from a folder that does not contain it" in str(error)
