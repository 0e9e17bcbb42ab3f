"""Requests: an answer comes back to the process that asked, over every transport that has reply queues."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis
from attrs import define
from msgspec import structs

from sagabus import Bus, Context, Keyring, RetryPolicy, Saga, Signing, effects, handles, message, starts
from sagabus.envelope import encode
from sagabus.errors import (
    ConfigurationError,
    NoRouteError,
    QueueFullError,
    RequestError,
    RequestFailedError,
    RequestTimeoutError,
    UnknownEndpointError,
)
from sagabus.replies import entrance
from sagabus.transport import Parcel, ParcelKind, Refusal
from tests import servers
from transports.memory import MemoryTransport


@message("ask.price")
class AskPrice:
    item: str


@message("ask.price.told")
class PriceTold:
    item: str
    cents: int


@message("ask.slow")
class AskSlow:
    item: str


@message("ask.broken")
class AskBroken:
    item: str


@message("ask.order")
class PlaceOrder:
    number: str


@message("ask.approve")
class ApproveOrder:
    number: str


@message("ask.order.done")
class OrderDone:
    number: str
    approved_by: str


@define
class OrderState:
    pass


class Order(Saga[OrderState], key="number"):
    @starts
    def placed(self, m: PlaceOrder) -> None: ...

    @handles(key="number")
    def approved(self, m: ApproveOrder) -> None:
        self.reply_to_starter(OrderDone(self.key, "somebody else"))
        self.complete()


class Shop:
    """The app, as the process that works has it; `AskSlow` is answered when the gate is open."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.gate = threading.Event()
        self.answered = threading.Event()
        bus.endpoint("orders", Order)
        prices = bus.endpoint("prices", retry=RetryPolicy(1))

        @prices.consumer
        def price(m: AskPrice, context: Context) -> None:
            context.reply(PriceTold(m.item, 100 * int(m.item)))

        @prices.consumer
        def slow(m: AskSlow, context: Context) -> None:
            assert self.gate.wait(30)
            context.reply(PriceTold(m.item, 1))

        @prices.consumer
        def after(m: PriceTold) -> None:
            self.answered.set()

        @prices.consumer
        def broken(m: AskBroken) -> None:
            raise ValueError(f"no price for {m.item}")


async def turning(condition: Callable[[], object]) -> None:
    """Let the event loop turn until *condition* holds, of which nobody tells it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@contextmanager
def at_work(bus: Bus, endpoints: Sequence[str] | None = None) -> Iterator[None]:
    """Run a worker in a thread."""
    assert bus.transport, "its queues are there from here on"
    worker = bus.worker(endpoints)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


Open = Callable[..., Bus]


@pytest.fixture(scope="module", params=["memory", "valkey", "cluster", "rabbitmq"])
def open_bus(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Yield what opens a bus as another process would: to the same servers, and in memory the very same one."""
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        opened: list[Bus] = []
        url = request.getfixturevalue("valkey_url") if request.param == "rabbitmq" else ""
        broker = request.getfixturevalue(f"{request.param}_url") if request.param != "memory" else "memory:"

        def open_one(**options: Any) -> Bus:
            if request.param == "memory" and opened:
                return opened[0]
            opened.append(stack.enter_context(Bus(url or broker, broker, namespace=namespace, **options)))
            return opened[-1]

        yield open_one


@pytest.fixture(scope="module")
def working(open_bus: Open) -> Iterator[Shop]:
    """Yield the app, at work for all tests on one transport."""
    shop = Shop(open_bus())
    with at_work(shop.bus):
        yield shop
        shop.gate.set()


@pytest.fixture
def shop(working: Shop) -> Iterator[Shop]:
    """Yield the app with its gate closed; when the test ends, all is answered."""
    working.gate.clear()
    working.answered.clear()
    yield working
    working.gate.set()


def is_placed(bus: Bus, number: str) -> bool:
    """Return whether a saga has started."""
    return any(row.key.id == number for row in bus.store.sagas())


def letters(bus: Bus) -> list[str]:
    """Return the ids of the dead letters."""
    return [letter.id for letter in bus.dead_letters.find()]


def test_request_returns_what_a_consumer_replies(open_bus: Open, shop: Shop) -> None:
    """The answer is a message, decoded."""
    asking = open_bus()
    answer = asyncio.run(asking.request(AskPrice("7"), to="prices", timeout=30))
    assert answer == PriceTold("7", 700)
    assert asking.ask(AskPrice("8"), to="prices", timeout=timedelta(seconds=30)) == PriceTold("8", 800)


def test_request_that_starts_a_saga_gets_what_it_tells_its_starter_later(open_bus: Open, shop: Shop) -> None:
    """Also where the message that made the saga answer belongs to somebody else's conversation."""
    asking, approving = open_bus(), open_bus()

    async def ask() -> Any:
        waiting = asyncio.create_task(asking.request(PlaceOrder("A1"), to="orders", timeout=30, id="place-A1"))
        await turning(lambda: is_placed(shop.bus, "A1"))
        await approving.send_async(ApproveOrder("A1"), to="orders")
        return await waiting

    assert asyncio.run(ask()) == OrderDone("A1", "somebody else")


def test_many_requests_at_once_get_their_own_answers_from_one_queue(open_bus: Open, shop: Shop) -> None:
    """Whatever order they come in; no thread a request, and no queue that anybody would look after."""
    asking = open_bus()

    async def ask() -> list[Any]:
        return await asyncio.gather(*(asking.request(AskPrice(str(n)), to="prices", timeout=60) for n in range(200)))

    before = threading.active_count()
    assert asyncio.run(ask()) == [PriceTold(str(n), 100 * n) for n in range(200)]
    assert threading.active_count() - before <= 2 + shop.bus.endpoints["prices"].options.concurrency
    assert {queue.endpoint: queue.depth for queue in asking.transport.queues()} == {"orders": 0, "prices": 0}


def test_request_without_an_answer_in_time_says_so_and_its_late_answer_is_dropped(open_bus: Open, shop: Shop) -> None:
    """Nothing is dead-lettered, and later requests are answered as ever."""
    asking = open_bus()
    with pytest.raises(RequestTimeoutError, match=r"no answer to ask.slow .* from 'prices' within 0.2 s") as caught:
        asyncio.run(asking.request(AskSlow("1"), to="prices", timeout=0.2, id="slow-1"))
    assert (caught.value.request_id, caught.value.endpoint, caught.value.timeout_s) == ("slow-1", "prices", 0.2)
    with pytest.raises(RequestTimeoutError):
        asking.ask(AskSlow("2"), to="prices", timeout=0.05)
    shop.gate.set()
    assert asking.ask(AskPrice("3"), to="prices", timeout=30) == PriceTold("3", 300)
    asking.send(PriceTold("4", 0), to="prices")
    assert shop.answered.wait(30)
    assert not [id_ for id_ in letters(shop.bus) if not id_.startswith("broken")]


def test_request_that_is_dead_lettered_fails_at_once_with_the_reason(open_bus: Open, shop: Shop) -> None:
    """Nobody waits for a time-out when it is known that no answer will come."""
    asking = open_bus()
    with pytest.raises(RequestFailedError, match="no price for 9") as caught:
        asyncio.run(asking.request(AskBroken("9"), to="prices", timeout=60, id="broken-9"))
    assert (caught.value.request_id, caught.value.endpoint, caught.value.reason) == ("broken-9", "prices", "failed")
    # Where the store is not the broker, the answer may be there first.
    servers.until(lambda: "broken-9" in letters(shop.bus), "its dead letter")


def test_request_that_goes_nowhere_says_what_send_says(open_bus: Open, shop: Shop) -> None:
    """The same errors, at once."""
    asking = open_bus()
    with pytest.raises(UnknownEndpointError, match="known endpoints: orders, prices"):
        asyncio.run(asking.request(AskPrice("1"), to="nowhere", timeout=30))
    with pytest.raises(NoRouteError):
        asyncio.run(asking.request(AskPrice("1"), timeout=30))
    with pytest.raises(ConfigurationError, match="timeout"):
        asyncio.run(asking.request(AskPrice("1"), to="prices", timeout=0))


def test_asynchronous_send_and_publish_arrive(open_bus: Open, shop: Shop) -> None:
    """Commands, those to come later, and events."""
    asking = open_bus()

    async def send() -> list[str]:
        return [
            await asking.send_async(PlaceOrder("B1"), to="orders", id="b1"),
            await asking.send_async(PriceTold("x", 1), to="prices", id="b2", after=0.01),
        ]

    assert asyncio.run(send()) == ["b1", "b2"]
    assert shop.answered.wait(30)
    shop.answered.clear()
    assert asyncio.run(asking.publish_async(PriceTold("y", 1), id="b3")) == "b3"
    assert shop.answered.wait(30)


def test_two_requests_of_one_id_share_an_answer(namespace: str) -> None:
    """A client that asks twice at once under one idempotency key has the answer twice."""
    with Bus("memory:", "memory:") as bus, at_work(Shop(bus).bus):

        async def ask() -> list[Any]:
            ask = [bus.request(PlaceOrder("C1"), to="orders", timeout=30, id="c1") for _ in range(2)]
            tasks = [asyncio.create_task(each) for each in ask]
            await turning(lambda: is_placed(bus, "C1"))
            await bus.send_async(ApproveOrder("C1"), to="orders")
            return await asyncio.gather(*tasks)

        assert asyncio.run(ask()) == 2 * [OrderDone("C1", "somebody else")]


def test_request_in_memory_is_answered_by_a_worker_that_runs_until_idle() -> None:
    """As tests of users do it: no threads but their own."""
    with Bus("memory:", "memory:") as bus:
        shop = Shop(bus)

        async def ask() -> Any:
            waiting = asyncio.create_task(bus.request(AskPrice("5"), to="prices", timeout=30))
            worker = shop.bus.worker()
            while not waiting.done():
                await asyncio.to_thread(worker.run_until_idle)
            return await waiting

        assert asyncio.run(ask()) == PriceTold("5", 500)


def test_signed_answers_are_taken_and_others_are_not(valkey_url: str, namespace: str) -> None:
    """Who cannot sign cannot answer for somebody else."""
    signing = Signing(keyring=Keyring({"k1": bytes(32)}))
    with (
        Bus(valkey_url, namespace=namespace, signing=signing) as bus,
        Bus(valkey_url, namespace=namespace) as forger,
        at_work(Shop(bus).bus),
    ):
        assert bus.ask(AskPrice("1"), to="prices", timeout=30) == PriceTold("1", 100)
        with pytest.raises(RequestFailedError, match="no price for 2"):
            bus.ask(AskBroken("2"), to="prices", timeout=30)
        asked: list[str] = []

        @bus.endpoint("gossip").consumer
        def overheard(m: AskSlow, context: Context) -> None:
            asked.append(context.envelope.replyto)
            outgoing = forger._outgoing(effects.Send(PriceTold("forged", 0), context.envelope.replyto), "forged")
            body = encode(structs.replace(outgoing.envelope, saga=context.envelope.replysaga))
            forger.transport.send([Parcel(ParcelKind.COMMAND, outgoing.to, body, "", "forged")])
            context.reply(PriceTold("true", 1))

        with at_work(bus, ["gossip"]):
            assert bus.ask(AskSlow("3"), to="gossip", timeout=30) == PriceTold("true", 1)
        assert asked


# -- the reply queue of one process ------------------------------------------------------------------------------


def test_reply_queue_goes_with_its_bus_and_no_answer_brings_it_back(valkey_url: str, namespace: str) -> None:
    """What is left in the store of a process that asked is nothing."""
    with Bus(valkey_url, namespace=namespace) as bus, redis.Redis.from_url(valkey_url) as server:
        shop = Shop(bus)
        with Bus(valkey_url, namespace=namespace) as asking, at_work(bus):
            assert asking.ask(AskPrice("1"), to="prices", timeout=30) == PriceTold("1", 100)
            [key] = server.keys(f"{namespace}:replies:*")
            assert 0 < server.pttl(key) <= 60_000, "it goes by itself where its process dies"
            with pytest.raises(RequestTimeoutError):
                asking.ask(AskSlow("2"), to="prices", timeout=0.05)
            asking.close()
            assert server.keys(f"{namespace}:replies:*") == []
            shop.gate.set()
            bus.send(PriceTold("3", 0), to="prices")
            assert shop.answered.wait(30)
        assert server.keys(f"{namespace}:replies:*") == []
        assert letters(bus) == []


def test_reply_queue_that_is_lost_is_made_again(valkey_url: str, namespace: str) -> None:
    """A server that was flushed, or a process that stood still for too long, costs the answers of that time alone."""
    with (
        Bus(valkey_url, namespace=namespace) as bus,
        redis.Redis.from_url(valkey_url) as server,
        at_work(Shop(bus).bus),
    ):
        assert bus.ask(AskPrice("1"), to="prices", timeout=30) == PriceTold("1", 100)
        [key] = server.keys(f"{namespace}:replies:*")
        server.delete(key)
        servers.until(lambda: server.exists(key), "a new reply queue")
        assert bus.ask(AskPrice("2"), to="prices", timeout=30) == PriceTold("2", 200)


def test_closing_a_bus_tells_who_waits_for_an_answer(valkey_url: str, namespace: str) -> None:
    """At once: a server that is stopped does not wait for time-outs."""
    with Bus(valkey_url, namespace=namespace) as bus:
        shop = Shop(bus)
        with at_work(bus):

            async def ask() -> None:
                asking = Bus(valkey_url, namespace=namespace)
                waiting = asyncio.create_task(asking.request(AskSlow("1"), to="prices", timeout=600))
                await turning(lambda: bus.transport.queues()[1].depth)
                await asking.close_async()
                with pytest.raises(RequestError, match="the bus was closed"):
                    await waiting

            asyncio.run(ask())
            shop.gate.set()


def test_bus_that_was_closed_asks_again(valkey_url: str, namespace: str) -> None:
    """Through another queue."""
    with (
        Bus(valkey_url, namespace=namespace) as bus,
        Bus(valkey_url, namespace=namespace) as asking,
        at_work(Shop(bus).bus),
    ):
        assert asking.ask(AskPrice("1"), to="prices", timeout=30) == PriceTold("1", 100)
        asking.close()
        assert asking.ask(AskPrice("2"), to="prices", timeout=30) == PriceTold("2", 200)


def test_process_that_was_forked_has_a_reply_queue_of_its_own(valkey_url: str, namespace: str) -> None:
    """As servers fork their workers: what the parent had open is of no use to the child, and the other way round."""
    script = f"""
import os, sys
from sagabus import Bus
from tests.integration.test_requests import AskPrice, PriceTold
bus = Bus({valkey_url!r}, namespace={namespace!r})
assert bus.ask(AskPrice("1"), to="prices", timeout=30) == PriceTold("1", 100)
child = os.fork()
assert bus.ask(AskPrice("2"), to="prices", timeout=30) == PriceTold("2", 200)
if child == 0:
    bus.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert bus.ask(AskPrice("3"), to="prices", timeout=30) == PriceTold("3", 300)
bus.close()
"""
    with (
        Bus(valkey_url, namespace=namespace) as bus,
        redis.Redis.from_url(valkey_url) as server,
        at_work(Shop(bus).bus),
    ):
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        assert server.keys(f"{namespace}:replies:*") == []


def test_transport_without_reply_queues_says_what_to_do(tmp_path: Any) -> None:
    """At once, and not when time is over."""
    with Bus("memory:", "kombu+memory://") as bus:
        bus.endpoint("prices")
        with pytest.raises(ConfigurationError, match="reply_to=ENDPOINT"):
            asyncio.run(bus.request(AskPrice("1"), to="prices", timeout=30))


def test_endpoint_named_as_a_reply_queue_is_refused() -> None:
    """Such names are kept for them."""
    with pytest.raises(ConfigurationError, match="reply queues"):
        Bus("memory:", "memory:").endpoint("~mine")


# -- sends from an event loop ------------------------------------------------------------------------------------


class Broker(MemoryTransport):
    """Lets a test hold up sends, and counts them."""

    def __init__(self) -> None:
        super().__init__("memory:", namespace="test")
        self.open = threading.Event()
        self.began = threading.Event()
        self.sends: list[int] = []

    def send(self, parcels: Sequence[Parcel], *, force: bool = False) -> dict[int, Refusal]:
        self.began.set()
        assert self.open.wait(30)
        self.sends.append(len(parcels))
        return super().send(parcels, force=force)


def test_sends_of_many_tasks_leave_together_and_the_loop_goes_on() -> None:
    """A broker that does not answer stops nobody but who waits for it."""
    broker = Broker()
    with Bus("memory:", broker) as bus:
        bus.endpoint("prices")

        async def send() -> list[str]:
            first = asyncio.create_task(bus.send_async(AskPrice("0"), to="prices", id="0"))
            await turning(broker.began.is_set)
            others = [
                asyncio.create_task(bus.send_async(AskPrice(str(n)), to="prices", id=str(n))) for n in range(1, 100)
            ]
            await asyncio.sleep(0)
            broker.open.set()
            return await asyncio.gather(first, *others)

        assert asyncio.run(send()) == [str(n) for n in range(100)]
        assert broker.sends == [1, 99]


def test_send_that_is_cancelled_before_it_left_never_leaves() -> None:
    """And one that was on its way is sent all the same."""
    broker = Broker()
    with Bus("memory:", broker) as bus:
        bus.endpoint("prices")

        async def send() -> None:
            first = asyncio.create_task(bus.send_async(AskPrice("0"), to="prices"))
            await turning(broker.began.is_set)
            second = asyncio.create_task(bus.send_async(AskPrice("1"), to="prices"))
            await asyncio.sleep(0)
            second.cancel()
            first.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
            broker.open.set()
            await bus.send_async(AskPrice("2"), to="prices")

        asyncio.run(send())
        assert sum(broker.sends) == 2


def test_full_queue_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes elsewhere leaves at once; what waits leaves when there is room, or is given up."""
    monkeypatch.setattr(entrance, "FULL_WAIT_S", 0.3)
    broker = Broker()
    broker.open.set()
    with Bus("memory:", broker) as bus:
        bus.endpoint("full", max_length=1)
        bus.endpoint("free")
        bus.send(AskPrice("0"), to="full")

        async def send() -> None:
            held = asyncio.create_task(bus.send_async(AskPrice("1"), to="full", id="held"))
            other, unknown = await asyncio.gather(
                bus.send_async(AskPrice("2"), to="free", id="free"),
                bus.send_async(AskPrice("3"), to="nowhere"),
                return_exceptions=True,
            )
            assert other == "free"
            assert isinstance(unknown, UnknownEndpointError)
            assert not held.done()
            receiver = broker.receiver(["full"], consumer="c", claim_s=60)
            receiver.exchange((), receiver.receive(1, 0.0), (), 0, 0.0)
            assert await held == "held"
            with pytest.raises(QueueFullError):
                await bus.send_async(AskPrice("4"), to="full")

        asyncio.run(send())


def test_closing_a_bus_sends_what_is_in_hand() -> None:
    """What was given to it before is not lost with it."""
    broker = Broker()
    bus = Bus("memory:", broker)
    bus.endpoint("prices")

    async def send() -> str:
        async with bus:
            sending = asyncio.create_task(bus.send_async(AskPrice("0"), to="prices", id="last"))
            await asyncio.sleep(0)
            broker.open.set()
        return await sending

    assert asyncio.run(send()) == "last"
