"""Workers that die at every single step, and others that finish what they had begun."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from sagabus import RetryPolicy
from sagabus.connect import open_transport
from sagabus.store.redis import RedisStore
from tests import servers
from tests.integration.apps import App, Clock, Crash, Failpoints, Order, memory_parts, order_app, settle
from transports.redis_streams import RedisStreamsTransport

ORDERS = 2
POINTS = [f"{when}-{what}" for what in ("load", "commit", "send", "note", "exchange") for when in ("before", "after")]
QUICK = RetryPolicy(first_delay_s=0.02)


def is_quiet(app: App) -> bool:
    near = [s for s in app.bus.store.scheduled() if b"app.overdue" not in s.body]
    return not near and not any(q.depth for q in app.bus.transport.queues())


def work(app: App, name: str, pause: Callable[[], None]) -> None:
    """Let workers called *name* run, each for a moment, until the app is through."""
    for _ in range(200):
        app.bus.worker(name=name).run_until_idle()
        if app.finished(ORDERS) and is_quiet(app):
            return
        pause()


def crash_everywhere(
    point: str, begin: Callable[[], tuple[App, Failpoints]], second: str, pause: Callable[[], None]
) -> int:
    """Run the app once for every time that *point* is reached, and die there; return how often that was.

    What *first* left behind is finished by a worker called *second*.
    """
    for nth in range(1, 1000):
        app, points = begin()
        for number in range(ORDERS):
            app.bus.send(Order(str(number)), to="orders")
        points.arm(point, nth)
        try:
            work(app, "first", pause)
        except Crash:
            crashed = True
        else:
            crashed = False
            points.disarm()
        work(app, second, pause)
        app.check(ORDERS)
        app.bus.close()
        if not crashed:
            return nth - 1
    raise AssertionError(f"there is no end to {point}")


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("second", ["first", "second"])
@pytest.mark.parametrize("point", [*POINTS, "after-receive"])
def test_worker_that_dies_with_two_servers_leaves_everything_to_the_next(point: str, second: str, batch: int) -> None:
    """Wherever a worker dies, the next one under its name, and any other after the claim time, finishes its work."""
    clock = Clock()

    def begin() -> tuple[App, Failpoints]:
        points = Failpoints()
        store, transport = memory_parts(clock)
        parts = points.store(store), points.transport(transport)
        return order_app(*parts, flaky=True, batch=batch, retry=QUICK, claim_s=2.0), points

    reached = crash_everywhere(point, begin, second, lambda: clock.advance(2.5))
    assert reached > 0 or (point, batch) == ("after-receive", 64)


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have due messages that a pump took with it into death come back soon."""
    monkeypatch.setattr("sagabus.runtime.timers._LONGEST_LEASE_S", 0.02)


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("point", POINTS)
def test_worker_that_dies_on_one_server_leaves_everything_to_the_next(
    point: str, valkey_url: str, namespace: str
) -> None:
    """Where queues and store share a server, sends, marks and acks are one write: all of it is done, or nothing."""
    begun = 0

    def begin() -> tuple[App, Failpoints]:
        nonlocal begun
        begun += 1
        points = Failpoints()
        own = f"{namespace}-{begun}"
        store = points.store(RedisStore(valkey_url, namespace=own))
        transport = points.transport(RedisStreamsTransport(valkey_url, namespace=own))
        return order_app(store, transport, flaky=True, retry=QUICK, namespace=own), points

    assert crash_everywhere(point, begin, "first", lambda: time.sleep(0.01)) > 0


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("point", ["after-commit", "after-send", "before-note", "before-exchange"])
def test_worker_that_dies_on_a_cluster_leaves_an_index_that_is_made_good(
    point: str, nth: int, cluster_url: str, namespace: str
) -> None:
    """There the index is told afterwards: whoever gets the messages again tells it what it has missed."""
    points = Failpoints()
    store = points.store(RedisStore(cluster_url, namespace=namespace))
    transport = points.transport(RedisStreamsTransport(cluster_url, namespace=namespace))
    app = order_app(store, transport, flaky=True, retry=QUICK, batch=1, namespace=namespace, claim_s=0.15)
    for number in range(ORDERS):
        app.bus.send(Order(str(number)), to="orders")
    points.arm(point, nth)
    with pytest.raises(Crash):
        work(app, "first", lambda: time.sleep(0.01))
    work(app, "second", lambda: time.sleep(0.02))
    app.check(ORDERS)
    app.bus.close()


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("point", ["after-load", "after-commit", "after-exchange"])
def test_worker_that_dies_on_one_server_leaves_everything_to_another_after_the_claim_time(
    point: str, valkey_url: str, namespace: str
) -> None:
    """Nobody has to restart the one that died."""
    points = Failpoints()
    store = points.store(RedisStore(valkey_url, namespace=namespace))
    transport = points.transport(RedisStreamsTransport(valkey_url, namespace=namespace))
    app = order_app(store, transport, flaky=True, retry=QUICK, namespace=namespace, claim_s=0.15)
    for number in range(ORDERS):
        app.bus.send(Order(str(number)), to="orders")
    points.arm(point, 3)
    with pytest.raises(Crash):
        work(app, "first", lambda: time.sleep(0.01))
    work(app, "second", lambda: time.sleep(0.02))
    app.check(ORDERS)
    app.bus.close()


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("point", ["after-commit", "after-send", "after-note", "before-exchange"])
def test_worker_that_dies_with_rabbitmq_leaves_everything_to_the_next(
    point: str, valkey_url: str, rabbitmq_url: str, namespace: str
) -> None:
    """The broker gives back what the dead connection held; sagas and outboxes are in the store."""
    points = Failpoints()
    parts: dict[str, Any] = {"flaky": True, "retry": QUICK, "namespace": namespace, "batch": 1}
    fragile = points.transport(open_transport(rabbitmq_url, namespace))
    first = order_app(points.store(RedisStore(valkey_url, namespace=namespace)), fragile, **parts)
    for number in range(ORDERS):
        first.bus.send(Order(str(number)), to="orders")
    points.arm(point, 3)
    with pytest.raises(Crash):
        work(first, "first", lambda: time.sleep(0.01))
    first.bus.close()  # with a process, its connections end
    second = order_app(valkey_url, rabbitmq_url, **parts)
    second.delivered += first.delivered
    servers.until(lambda: settle(second.bus) or second.finished(ORDERS), "the last delivery")
    second.check(ORDERS)
    second.bus.close()
