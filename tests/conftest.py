"""Servers that live as long as the test run, a namespace a test, and how Hypothesis reports."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Store
from sagabus.store.redis import RedisStore
from tests import servers

# A server may be slow to answer once; what fails is printed so that it can be run again.
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
# CI judges a change, so it tries the same examples every time; elsewhere each run tries others.
settings.register_profile("quick", parent=_COMMON, max_examples=100, derandomize=os.environ.get("CI") == "true")
settings.register_profile("long", parent=_COMMON, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# The tests of the pytest plugin run pytest.
pytest_plugins = ["pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and programs inherit it: those that the tests interrupt would never notice.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def named_servers() -> Iterator[dict[str, str]]:
    """Take the servers that the environment names out of it, and yield them to who asks for them."""
    names = ("SAGABUS_STORE", "SAGABUS_TRANSPORT")
    named = {name: url for name in names if (url := os.environ.get(name))}
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.delenv(name, raising=False)
        yield named


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """Leave no test the logging that another one has set up: files are run in any order."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Yield the URL of a private Valkey, the embedded store's own."""
    with servers.valkey() as url:
        yield url


@pytest.fixture(scope="session")
def redis7_url() -> Iterator[str]:
    """Yield the URL of a private server of the machine's own Redis."""
    with servers.redis7() as url:
        yield url


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """Yield the URL of a private cluster of three nodes."""
    with servers.cluster() as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """Yield the URL of a virtual host made for this run."""
    with servers.rabbitmq_url() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the URL of a database made for this run."""
    with servers.postgres() as url:
        yield url


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["memory", "valkey"])
def either_store(request: pytest.FixtureRequest, namespace: str) -> Iterator[Store]:
    """Yield an empty store: once in memory, once on a server."""
    if request.param == "memory":
        yield MemoryStore()
        return
    store = RedisStore(request.getfixturevalue("valkey_url"), namespace=namespace)
    store.open()
    yield store
    store.close()
