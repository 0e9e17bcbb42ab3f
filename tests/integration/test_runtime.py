"""Workers with their threads, on real servers: timers, claims, stops; queues beside the sagas and apart from them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import define, field

from sagabus import Bus, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Want
from sagabus.envelope import SagaKey
from sagabus.errors import StoreUnavailableError, WorkAbandonedError
from sagabus.store.memory import MemoryStore
from sagabus.store.redis import RedisStore
from tests import servers
from tests.integration.apps import App, Failpoints, Order, order_app, put, settle
from tests.servers import until
from transports.memory import MemoryTransport

QUICK = RetryPolicy(first_delay_s=0.02)


@contextmanager
def working(bus: Bus, *, name: str | None = None, endpoints: list[str] | None = None) -> Iterator[Any]:
    """Have a worker of *bus* run in threads, and stop it at the end."""
    worker = bus.worker(endpoints, name=name)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive(), "the worker does not stop"
        if failed:
            raise failed[0]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lanes that wait for messages look up often, so that workers stop soon."""
    monkeypatch.setattr("sagabus.runtime.lane.IDLE_WAIT_S", 0.05)


KINDS = ["memory", "one server", "two servers"]


@pytest.fixture(params=KINDS)
def make_parts(request: pytest.FixtureRequest, namespace: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Return what a bus of each kind is made of; every call gives new connections to the same queues and sagas."""
    memory = MemoryTransport()
    match request.param:
        case "memory":
            yield lambda: {"store": "memory:", "transport": memory}
        case "one server":
            url = request.getfixturevalue("valkey_url")
            yield lambda: {"store": url, "transport": url, "namespace": namespace}
        case "two servers":
            url = request.getfixturevalue("valkey_url")
            yield lambda: {"store": url, "transport": memory, "namespace": namespace}
        case _:
            url, broker = request.getfixturevalue("valkey_url"), request.getfixturevalue("rabbitmq_url")
            yield lambda: {"store": url, "transport": broker, "namespace": namespace}


EVERYWHERE = pytest.mark.parametrize("make_parts", [*KINDS, "rabbitmq"], indirect=True)


# -- the whole app -----------------------------------------------------------------------------------------------


@EVERYWHERE
def test_two_workers_finish_every_order_once(make_parts: Callable[[], dict[str, Any]]) -> None:
    """With racing replies, failing handlers, timers and messages that go nowhere, everything happens once."""
    app: App = order_app(**make_parts(), flaky=True, retry=QUICK)
    orders = 20
    with working(app.bus), working(app.bus):
        app.bus.send_many([Order(str(n)) for n in range(orders)], to="orders")
        until(lambda: app.finished(orders), "the last delivery")
    settle(app.bus)
    app.check(orders)
    app.bus.close()


@EVERYWHERE
def test_stop_of_a_busy_worker_finishes_what_is_in_hand_and_loses_nothing(
    make_parts: Callable[[], dict[str, Any]],
) -> None:
    """`stop` receives no more; what was received is handled, dispatched and acked; the rest waits for another."""
    app = order_app(**make_parts(), retry=QUICK)
    orders = 10
    app.bus.send_many([Order(str(n)) for n in range(orders)], to="orders")
    with working(app.bus):
        until(lambda: app.made, "the first part")
    # Nothing is given up but what the app sends nowhere on purpose.
    assert {letter.type for letter in app.bus.store.dead()} <= {"app.lost-letter"}
    with working(app.bus):
        until(lambda: app.finished(orders), "the last delivery")
    settle(app.bus)
    app.check(orders)
    app.bus.close()


# -- timers ------------------------------------------------------------------------------------------------------


@message("runtime.set")
class Set:
    key: str
    how: str = ""


@message("runtime.rang")
class Rang:
    what: str


@define
class Bells:
    rung: list[str] = field(factory=list)


class Bell(Saga[Bells], key="key", merger=lambda siblings: max(siblings, key=lambda s: len(s.rung))):
    @starts
    def set(self, m: Set) -> None:
        match m.how:
            case "after":
                self.defer(Rang("after"), after=timedelta(milliseconds=20))
            case "at":
                self.defer(Rang("at"), at=self.now + timedelta(milliseconds=20))
            case "past":
                self.defer(Rang("past"), at=datetime(2020, 1, 1, tzinfo=UTC))
            case "replaced":
                self.defer(Rang("first"), after=0.02, name="bell")
                self.defer(Rang("second"), after=0.04, name="bell")
            case "replaced later":
                self.defer(Rang("third"), after=0.01, name="bell")
            case "long":
                self.defer(Rang("never"), after=3600.0, name="bell")
            case "cancel":
                self.cancel("bell")
                self.cancel("no such bell")
            case "complete":
                self.complete()
            case _:
                pass

    @handles
    def rang(self, m: Rang) -> None:
        self.state.rung.append(m.what)


def bells(**parts: Any) -> Bus:
    bus = Bus(**parts)
    bus.endpoint("bells", Bell)
    return bus


def rung(bus: Bus, key: str) -> list[str]:
    definition = bus.saga("Bell")
    assert definition is not None
    (snapshot,) = bus.store.load([Want(SagaKey("Bell", key))])
    rung: list[str] = definition.codec.decode(snapshot.versions[0].state).rung
    return rung


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["after"], ["after"]),
        (["at"], ["at"]),
        (["past"], ["past"]),
        (["replaced"], ["second"]),
        (["long", "replaced later"], ["third"]),
        (["long", "cancel"], []),
        (["long", "complete"], []),
        (["cancel"], []),
    ],
)
def test_timer_rings_once_unless_it_is_replaced_cancelled_or_its_saga_has_ended(
    make_parts: Callable[[], dict[str, Any]], steps: list[str], expected: list[str]
) -> None:
    """The newest timer of a name counts, and none outlives its saga."""
    bus = bells(**make_parts())
    for step in steps:
        bus.send(Set("1", step), to="bells")
        bus.worker().run_until_idle()
    settle(bus)
    assert rung(bus, "1") == expected
    assert (bus.store.scheduled(), bus.store.dead()) == ([], [])
    bus.close()


def test_timer_that_was_replaced_on_its_way_is_ignored(valkey_url: str, namespace: str) -> None:
    """It had left the store already; its generation is over all the same."""
    bus = bells(store=valkey_url, transport=valkey_url, namespace=namespace)
    bus.send(Set("1", "long"), to="bells")
    bus.worker().run_until_idle()
    (old,) = bus.store.scheduled()
    bus.send(Set("1", "replaced later"), to="bells")
    bus.worker().run_until_idle()
    put(bus, "bells", old.body)
    settle(bus)
    assert rung(bus, "1") == ["third"]
    bus.close()


def test_timer_survives_the_worker_that_set_it(valkey_url: str, namespace: str) -> None:
    """It waits in the store, not in a process; any worker delivers it."""
    parts: dict[str, Any] = {"store": valkey_url, "transport": valkey_url, "namespace": namespace}
    with bells(**parts) as first:
        first.send(Set("1", "after"), to="bells")
        first.worker(name="first").run_until_idle()
    with bells(**parts) as second, working(second, name="second"):
        until(lambda: rung(second, "1") == ["after"], "the timer")


@EVERYWHERE
def test_message_sent_for_later_is_delivered_then(make_parts: Callable[[], dict[str, Any]]) -> None:
    """`after` and `at` of a client's send; the same id again replaces the first."""
    bus = Bus(**make_parts())
    got: list[tuple[str, str]] = []
    bus.endpoint("e").consumer(Rang)(lambda m, context: got.append((context.message_id, m.what)))
    bus.send(Rang("far"), to="e", id="x", after=timedelta(hours=1))
    bus.send(Rang("near"), to="e", id="x", after=0.01)
    bus.send(Rang("at"), to="e", id="y", at=datetime.now(UTC))
    with working(bus):
        until(lambda: len(got) == 2, "both messages")
    assert sorted(got) == [("x", "near"), ("y", "at")]
    assert bus.store.scheduled() == []
    bus.close()


# -- long handlers -----------------------------------------------------------------------------------------------


def bus_with_a_slow_handler(begun: list[str], name: str, *, asynchronous: bool, **parts: Any) -> Bus:
    """Return a bus whose consumer takes several claim times."""
    bus = Bus(**parts)

    def slow(m: Rang) -> None:
        begun.append(name)
        time.sleep(0.6)

    async def slow_task(m: Rang) -> None:
        begun.append(name)
        await asyncio.sleep(0.6)

    bus.endpoint("e").consumer(Rang)(slow_task if asynchronous else slow)
    return bus


@pytest.mark.parametrize("asynchronous", [False, True])
def test_handler_longer_than_the_claim_time_runs_once(valkey_url: str, namespace: str, asynchronous: bool) -> None:
    """Its worker gives signs of life for it, also while it stops, so that no other worker takes its message over."""
    parts: dict[str, Any] = {"store": valkey_url, "transport": valkey_url, "namespace": namespace, "claim_s": 0.15}
    begun: list[str] = []
    first = bus_with_a_slow_handler(begun, "first", asynchronous=asynchronous, **parts)
    second = bus_with_a_slow_handler(begun, "second", asynchronous=asynchronous, **parts)
    with working(first) as worker:
        first.send(Rang("x"), to="e")
        until(lambda: begun, "the handler's begin")
        worker.stop()
        with working(second):
            until(lambda: first.transport.queues()[0].depth == 0, "the ack")
    assert begun == ["first"]
    first.close()
    second.close()


def test_sign_of_life_that_fails_is_followed_by_the_next() -> None:
    """A broker that misses one of them does not cost the worker its thread for the others."""
    points = Failpoints()
    begun: list[str] = []
    bus = bus_with_a_slow_handler(
        begun, "one", asynchronous=False, store="memory:", transport=points.transport(MemoryTransport()), claim_s=0.15
    )
    bus.send(Rang("x"), to="e")
    points.arm("before-hold", 1, StoreUnavailableError("x", "gone for a moment"))
    with working(bus):
        until(lambda: points.hits["before-hold"] > 3, "more signs of life")
        until(lambda: bus.transport.queues()[0].depth == 0, "the ack")
    assert begun == ["one"]


def test_slow_consumers_do_not_block_sagas_on_other_endpoints(valkey_url: str, namespace: str) -> None:
    """Every endpoint has a thread of its own, and consumers have threads beyond that."""
    go_on = threading.Event()
    with bells(store=valkey_url, transport=valkey_url, namespace=namespace) as bus:
        slow = bus.endpoint("slow", concurrency=2)

        @slow.consumer
        def block(m: Rang) -> None:
            go_on.wait(20)

        with working(bus):
            bus.send_many([Rang("x")] * 10, to="slow")
            bus.send(Set("1", "after"), to="bells")
            until(lambda: bus.store.scheduled() == [] and list(bus.store.sagas()), "the saga's timer")
            until(lambda: rung(bus, "1") == ["after"], "the saga")
            depths = {q.endpoint: q.depth for q in bus.transport.queues()}
            assert depths["slow"] == 10
            go_on.set()
            until(lambda: not any(q.depth for q in bus.transport.queues()), "the slow ones")


# -- servers in trouble ------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lanes wait a moment only between their tries."""
    monkeypatch.setattr("sagabus.runtime.lane._TROUBLE_WAIT_S", 0.01)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["load", "commit", "note", "send", "exchange"])
def test_server_that_does_not_answer_for_a_while_costs_time_only(where: str, valkey_url: str, namespace: str) -> None:
    """The step is made again until the server lets it be done, before and after it was done in fact."""
    for when in ("before", "after"):
        points = Failpoints()
        own = f"{namespace}-{when}"
        store = points.store(RedisStore(valkey_url, namespace=own))
        app = order_app(store, points.transport(MemoryTransport()), flaky=True, retry=QUICK, namespace=own)
        app.bus.send_many([Order("0"), Order("1")], to="orders")
        worker = app.bus.worker()
        for nth in range(1, 4):
            points.arm(f"{when}-{where}", nth, StoreUnavailableError("x", "gone for a moment"))
            try:
                worker.run_until_idle()
            except StoreUnavailableError:
                assert where in ("send", "note"), "only the pump, which has a thread of its own, gives up"
        points.disarm()
        # What the pump had taken when it gave up comes back when its lease ends.
        until(lambda app=app, worker=worker: _finished(app, worker), "the end", 25.0)  # type: ignore[misc]
        app.check(2)
        app.bus.close()


def _finished(app: App, worker: Any) -> bool:
    worker.run_until_idle()
    return app.finished(2) and not any(q.depth for q in app.bus.transport.queues()) and len(app.bus.store.dead()) == 2


def end_after(tried: Callable[[], object], end: Callable[[], None]) -> None:
    """End a worker when it has tried for a while."""
    until(tried, "some tries")
    end()


@pytest.mark.usefixtures("impatient")
def test_worker_that_is_stopped_while_the_store_does_not_answer_ends(valkey_url: str, namespace: str) -> None:
    """It abandons what it held, which is redelivered; it does not wait for ever, and says so in the end."""
    points = Failpoints()
    transport = MemoryTransport()
    store: Any = RedisStore(valkey_url, namespace=namespace)
    down = threading.Event()
    tries: list[int] = []

    class Down:
        def __getattr__(self, name: str) -> Any:
            found = getattr(store, name)
            if not callable(found) or not down.is_set() or name in ("close", "open", "agree"):
                return found

            def fail(*args: Any, **options: Any) -> Any:
                tries.append(1)
                raise StoreUnavailableError("x", "down")

            return fail

    broken: Any = Down()
    bus = bells(store=broken, transport=transport, namespace=namespace)
    assert points.hits == {}
    bus.send(Set("1"), to="bells")
    down.set()
    with pytest.raises(WorkAbandonedError, match="that is delivered again") as caught, working(bus, name="w") as worker:
        end_after(lambda: len(tries) > 3, worker.stop)
    assert caught.value.worker == "w"
    assert transport.queues()[0].depth == 1
    down.clear()
    settle(bus)
    assert rung(bus, "1") == []
    bus.close()


def test_worker_that_cannot_give_back_what_it_holds_ends_all_the_same(namespace: str) -> None:
    """The broker is gone as well: what it held comes again when its claim has run out."""
    points = Failpoints()
    transport = MemoryTransport()
    bus = bells(store="memory:", transport=points.transport(transport), namespace=namespace)
    bus.send(Set("1"), to="bells")
    points.arm("before-close", 1, StoreUnavailableError("x", "gone"))
    with working(bus):
        until(lambda: list(bus.store.sagas()), "the saga")
    assert points.hits["before-close"] == 1


def test_hot_saga_takes_hundreds_of_concurrent_replies(valkey_url: str, namespace: str) -> None:
    """Four workers race for one saga: every reply counts, siblings stay few, and merging comes to an end."""
    app = order_app(valkey_url, valkey_url, namespace=namespace, batch=4)
    parts = 300
    with ExitStack() as stack:
        workers = [stack.enter_context(working(app.bus)) for _ in range(4)]
        app.bus.send(Order("0", parts), to="orders")
        until(lambda: app.finished(1), "the delivery")
    settle(app.bus)
    app.check(1)
    forks = sum(lane.tally.forked for worker in workers for lane in worker.lanes)
    merges = sum(lane.tally.merges for worker in workers for lane in worker.lanes)
    assert merges <= 2 * parts
    assert forks == 0 or merges > 0
    app.bus.close()


def test_marks_that_wait_for_a_load_are_noted_where_none_comes(namespace: str) -> None:
    """On two servers the marks of one batch go with the load of the next; one for consumers only has no load."""
    points = Failpoints()
    transport = MemoryTransport()
    bus = Bus(store=points.store(MemoryStore()), transport=transport, namespace=namespace)

    class Asks(Saga[Bells], key="key"):
        @starts
        def set(self, m: Set) -> None:
            self.send(Rang(m.key), to="mixed")

    got: list[str] = []
    mixed = bus.endpoint("mixed", Asks, batch=1)
    mixed.consumer(Rang)(lambda m: got.append(m.what))
    first = bus.send(Set("1"), to="mixed")
    bus.send(Rang("0"), to="mixed")
    bus.worker().run_until_idle()
    assert got == ["0", "1"]
    assert points.hits["before-note"] == 1
    (snapshot,) = bus.store.load([Want(SagaKey("Asks", "1"), (first,))])
    assert snapshot.consumed == {first: b""}
    assert transport.queues()[0].depth == 0


@pytest.mark.usefixtures("impatient")
def test_abort_does_not_wait_for_a_server(namespace: str) -> None:
    """What it held is redelivered, and whoever runs the worker is told."""
    points = Failpoints()
    transport = MemoryTransport()
    store = points.store(MemoryStore())
    bus = bells(store=store, transport=transport, namespace=namespace)
    bus.send(Set("1"), to="bells")
    points.arm("before-load", 1, StoreUnavailableError("x", "gone"), always=True)
    with pytest.raises(WorkAbandonedError), working(bus) as worker:
        end_after(lambda: points.hits["before-load"] > 2, worker.abort)
    assert transport.queues()[0].depth == 1
    points.disarm()
    settle(bus)
    assert rung(bus, "1") == []


def test_worker_whose_thread_dies_stops_whole_and_says_so(namespace: str) -> None:
    """Whatever supervises workers must see it; a worker that lives on without one of its lanes would be worse."""
    transport = MemoryTransport()
    points = Failpoints()
    bus = bells(store="memory:", transport=points.transport(transport))
    bus.send(Set("1"), to="bells")
    points.arm("after-exchange", 1, ArithmeticError("unforeseen"))
    points.arm("before-exchange", 1, ArithmeticError("unforeseen"))
    with pytest.raises(RuntimeError, match="one of its threads failed") as error, working(bus):
        until(lambda: points.hits["before-exchange"] or points.hits["after-exchange"], "the failure", 5.0)
    assert isinstance(error.value.__cause__, ArithmeticError)
    settle(bus)
    assert rung(bus, "1") == []


# -- a server as it is in bad hours ------------------------------------------------------------------------------


def test_scripts_that_the_server_forgets_are_not_missed(valkey_url: str, namespace: str) -> None:
    """SCRIPT FLUSH at any moment goes unnoticed."""
    app = order_app(valkey_url, valkey_url, namespace=namespace, retry=QUICK)
    store: Any = app.bus.store
    stop = threading.Event()

    def flush() -> None:
        while not stop.wait(0.002):
            store.link.on_node(store.link.node_keys()[0], "SCRIPT", "FLUSH")

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        with working(app.bus):
            app.bus.send_many([Order(str(n)) for n in range(10)], to="orders")
            until(lambda: app.finished(10), "the last delivery")
    finally:
        stop.set()
        thread.join()
    settle(app.bus)
    app.check(10)
    app.bus.close()


def test_writes_that_are_paused_hold_everything_up_and_lose_nothing(namespace: str) -> None:
    """CLIENT PAUSE WRITE, as in a failover by hand."""
    with servers.valkey() as url:
        app = order_app(url, url, namespace=namespace, retry=QUICK)
        store: Any = app.bus.store
        app.bus.send_many([Order(str(n)) for n in range(10)], to="orders")
        with working(app.bus):
            until(lambda: app.made, "the first part")
            store.link.on_node(store.link.node_keys()[0], "CLIENT", "PAUSE", "300", "WRITE")
            until(lambda: app.finished(10), "the last delivery")
        settle(app.bus)
        app.check(10)
        app.bus.close()


@EVERYWHERE
def test_every_message_five_times_has_the_outcome_of_once(make_parts: Callable[[], dict[str, Any]]) -> None:
    """A storm of duplicates, across batches and workers, changes nothing for sagas."""
    app = order_app(**make_parts(), retry=QUICK)
    with working(app.bus, endpoints=["orders", "ledger"]), working(app.bus):
        for n in [*range(5)] * 5:
            app.bus.send(Order(str(n)), to="orders", id=f"order-{n}")
        until(lambda: app.finished(5), "the last delivery")
    settle(app.bus)
    app.check(5)
    app.bus.close()
