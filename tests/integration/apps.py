"""What the runtime's tests share: an app with every kind of effect, places to fail, and what must hold in the end."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any, cast

from attrs import define, field

from sagabus import Bus, Context, RetryPolicy, Saga, handles, message, starts
from sagabus.commit import Lifecycle, Want
from sagabus.envelope import SagaKey
from sagabus.index.query import Forked, SagaCount, SagaQuery
from sagabus.store.memory import MemoryStore
from sagabus.store.protocol import Store
from sagabus.transport import Parcel, ParcelKind, Transport
from transports.memory import MemoryTransport

START_MS = 1_700_000_000_000


class Clock:
    """A clock that stands still until it is told to go on; for a store (ms) and a broker (s) at once."""

    def __init__(self) -> None:
        self._ms = START_MS
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._ms += round(seconds * 1000)

    def ms(self) -> int:
        return self._ms

    def s(self) -> float:
        return self._ms / 1000


# -- the app -----------------------------------------------------------------------------------------------------


@message("app.order")
class Order:
    """Starts a saga that has *parts* made, then says so once."""

    number: str
    parts: int = 2


@message("app.make-part")
class MakePart:
    number: str
    part: int


@message("app.part-made")
class PartMade:
    part: int


@message("app.overdue")
class Overdue:
    """A timer that is cancelled by completion."""


@message("app.look-again")
class LookAgain:
    """A timer that fires."""


@message("app.lost-letter")
class LostLetter:
    """Sent to where nobody ever was."""


@message("app.delivered")
class Delivered:
    number: str
    parts: int


@define
class Progress:
    wanted: int = 0
    made: list[int] = field(factory=list)
    looked: bool = False


def farthest(siblings: Any) -> Progress:
    """Merge by union: what one sibling knows, all know."""
    return Progress(
        max(s.wanted for s in siblings),
        sorted({part for s in siblings for part in s.made}),
        any(s.looked for s in siblings),
    )


class OrderSaga(Saga[Progress], key="number", merger=farthest):
    """Every kind of effect: sends, a reply by header, timers that fire and are cancelled, a decision with an event."""

    @starts
    def ordered(self, m: Order) -> None:
        self.state.wanted = m.parts
        for part in range(m.parts):
            self.send(MakePart(m.number, part), to="workshop")
        self.send(LostLetter(), to="nowhere")
        self.defer(Overdue(), after=timedelta(hours=1), name="overdue")
        self.defer(LookAgain(), after=0.02)

    @handles
    def made(self, m: PartMade) -> None:
        self.state.made = sorted({*self.state.made, m.part})

    @handles
    def looked(self, m: LookAgain) -> None:
        self.state.looked = True

    @handles
    def overdue(self, m: Overdue) -> None:
        raise AssertionError("a timer fired that completion has cancelled")

    def decide(self) -> None:
        if self.state.looked and len(self.state.made) == self.state.wanted:
            self.publish(Delivered(self.id, len(self.state.made)))
            self.complete()


@define
class App:
    """A bus with the order app on it, and a ledger outside of it.

    Attributes:
        delivered: what the subscriber got: (message id, order number).
        made: how often the workshop began each part.
        flaky: parts whose first attempt fails.
    """

    bus: Bus
    delivered: list[tuple[str, str]] = field(factory=list)
    made: Counter[tuple[str, int]] = field(factory=Counter)
    flaky: bool = False

    def finished(self, orders: int) -> bool:
        return len({number for _, number in self.delivered}) >= orders

    def check(self, orders: int) -> None:
        """Check the baseline: every effect once, every saga through, nothing left anywhere."""
        per_order: dict[str, set[str]] = {}
        for id_, number in self.delivered:
            per_order.setdefault(number, set()).add(id_)
        assert {n: len(ids) for n, ids in per_order.items()} == {str(n): 1 for n in range(orders)}
        store = self.bus.store
        rows = list(store.sagas())
        assert {(row.key.id, row.lifecycle, row.siblings) for row in rows} == {
            (str(n), Lifecycle.COMPLETED, 1) for n in range(orders)
        }
        indexed = store.index.find(SagaQuery(), 1000).rows
        assert {row.key: (row.lifecycle, row.siblings, row.life, row.versions) for row in indexed} == {
            row.key: (row.lifecycle, row.siblings, row.life, row.versions) for row in rows
        }, "an index that says what is not so"
        assert store.index.counts() == [SagaCount("OrderSaga", 0, orders)]
        assert store.index.forked() == Forked()
        for row in rows:
            ids = {m.id for entry in store.history(row.key) for m in entry.messages}
            (snapshot,) = store.load([Want(row.key, tuple(ids))])
            assert snapshot.consumed == dict.fromkeys(ids, b""), "an outbox that was never dispatched"
        assert [q.depth for q in self.bus.transport.queues()] == [0, 0, 0], "unacked messages"
        assert [(d.reason, d.endpoint) for d in store.dead()] == [("no-endpoint", "nowhere")] * orders
        assert [s for s in store.scheduled() if not _is_overdue(s.body)] == []


def _is_overdue(body: bytes) -> bool:
    # A copy of the timer may be scheduled anew by a second dispatch; it is stale when it comes.
    return b"app.overdue" in body


def order_app(
    store: Any = "memory:",
    transport: Any = "memory:",
    *,
    flaky: bool = False,
    batch: int = 64,
    retry: RetryPolicy | None = None,
    **options: Any,
) -> App:
    """Return the order app on a new bus.

    Args:
        flaky: whether the first attempt at the first part of every order fails.
        batch: of the sagas' endpoint.
        retry: of the workshop.
    """
    app = App(Bus(store=store, transport=transport, **options), flaky=flaky)
    app.bus.endpoint("orders", OrderSaga, batch=batch)
    workshop = app.bus.endpoint("workshop", retry=retry)
    ledger = app.bus.endpoint("ledger")

    @workshop.consumer
    def make(m: MakePart, context: Context) -> None:
        app.made[m.number, m.part] += 1
        if app.flaky and m.part == 0 and context.attempt == 1:
            raise ValueError("the lathe is cold")
        context.reply(PartMade(m.part))

    @ledger.consumer
    def delivered(m: Delivered, context: Context) -> None:
        app.delivered.append((context.message_id, m.number))

    return app


def order_key(number: int | str) -> SagaKey:
    return SagaKey("OrderSaga", str(number))


# -- places to fail ----------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Stands for SIGKILL: nothing between here and the test catches it."""


class Failpoints:
    """Named places in a store and a transport, one of which raises when it is reached for the nth time.

    Once, or from then on, until it is disarmed.
    """

    def __init__(self) -> None:
        self._armed: tuple[str, int] | None = None
        self._always = False
        self._error: BaseException = Crash()
        self.hits: Counter[str] = Counter()

    def arm(self, point: str, nth: int = 1, error: BaseException | None = None, *, always: bool = False) -> None:
        self.hits.clear()
        self._always = always
        self._armed, self._error = (point, nth), error or Crash(f"{point} {nth}")

    def disarm(self) -> None:
        self._armed = None

    def reach(self, point: str) -> None:
        self.hits[point] += 1
        if self._armed is None or self._armed[0] != point:
            return
        if self.hits[point] == self._armed[1] or (self._always and self.hits[point] > self._armed[1]):
            if not self._always:
                self._armed = None
            raise self._error

    def wrap(self, inner: Any, *methods: str) -> Any:
        """Return *inner* with a point before and after each of *methods*."""
        return _Fragile(inner, self, methods)

    def store(self, inner: Store) -> Store:
        return cast(Store, self.wrap(inner, "load", "commit", "note"))

    def transport(self, inner: Transport) -> Transport:
        return cast(Transport, _FragileTransport(inner, self, ("send",)))


class _Fragile:
    def __init__(self, inner: Any, points: Failpoints, methods: tuple[str, ...]) -> None:
        self._inner, self._points, self._methods = inner, points, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found

        def call(*args: Any, **options: Any) -> Any:
            if name == "exchange" and not any(args[:3]):
                return found(*args, **options)  # only a look for messages: nothing could be half done
            self._points.reach(f"before-{name}")
            answer = found(*args, **options)
            self._points.reach(f"after-{name}")
            return answer

        return call


class _FragileTransport(_Fragile):
    def receiver(self, *args: Any, **options: Any) -> Any:
        return self._points.wrap(self._inner.receiver(*args, **options), "exchange", "receive", "close", "hold")


# -- parts in memory ---------------------------------------------------------------------------------------------


def memory_parts(clock: Clock) -> tuple[MemoryStore, MemoryTransport]:
    """Return a store and a broker in memory that both go by *clock*."""
    return MemoryStore(now_ms=clock.ms), MemoryTransport(clock=clock.s)


def settle(bus: Bus, *, timeout_s: float = 60.0) -> None:
    """Run workers until no queue holds anything and nothing is due within a minute."""
    worker = bus.worker()
    give_up_at = time.monotonic() + timeout_s
    quiet = 0
    while time.monotonic() < give_up_at:
        worker.run_until_idle()
        now_ms, due_ms = bus.store.next_due_ms()
        far = due_ms is None or due_ms > now_ms + 60_000
        quiet = 0 if any(q.depth for q in bus.transport.queues()) or not far else quiet + 1
        if quiet > 2:
            return  # a broker may take a moment to hand out what was sent
        time.sleep(0.002)
    raise TimeoutError(f"the bus has not settled within {timeout_s:g} s: {bus.transport.queues()}")


def put(bus: Bus, endpoint: str, body: bytes | str) -> None:
    """Put raw bytes into a queue, as a foreign or broken sender would."""
    data = body.encode() if isinstance(body, str) else body
    refused = bus.transport.send([Parcel(ParcelKind.COMMAND, endpoint, data, "", "raw")])
    assert not refused


def envelope(type_: str, data: str = "{}", *, id_: str = "raw", **extra: Any) -> str:
    """Return an envelope as JSON text, with *extra* attributes as they are."""
    fields = {"specversion": "1.0", "id": id_, "source": "/test", "type": type_} | extra
    return json.dumps(fields)[:-1] + f', "data": {data}}}'
