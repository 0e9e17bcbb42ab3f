"""The cells of the comparison: so many replies to one saga, coped with in one way, on real worker processes."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from attrs import field, frozen

from benchmarks.concurrency.app import WAYS, Gather, Gathered, Replied
from benchmarks.listening import listening
from benchmarks.meter import MeterRead, Readings
from benchmarks.witness import WrongResultError
from sagabus import Bus
from sagabus.commit import Lifecycle, Snapshot, Want
from sagabus.definition import definition_of
from sagabus.envelope import SagaKey
from sagabus.supervisor import Supervisor

WARM_UP: Final = 8
"""So many replies a worker process are gathered before anything is measured."""
_START_S: Final = 30.0
_DRAIN_S: Final = 10.0
_IDLE_S: Final = 1.0
_EARS: Final = "ears"


@frozen
class Cell:
    """What gathering some replies cost; of several rounds, the median of each figure.

    Attributes:
        way: how replies that meet are coped with.
        replies: how many there were, all to one saga.
        seconds: from the first reply sent to the verdict heard; where it was capped, until it was.
        handler_runs: of the reply's handler, in all workers.
        round_trips: of all workers to the server, less those that idle ones make in that time.
        again: runs in vain, because somebody else was faster.
        waited: looks at a saga whose lease another worker held.
        parked: messages put off for a second, because that went on.
        siblings: versions that merges have folded.
        done: how many replies were handled for good.
        capped: whether the time was up before all were.
    """

    way: str
    replies: int
    seconds: float
    handler_runs: float
    round_trips: float
    again: float = 0
    waited: float = 0
    parked: float = 0
    siblings: float = 0
    done: float = 0
    capped: bool = False

    @property
    def retries(self) -> float:
        """Return how often work was put off or made again, for whatever cause."""
        return self.again + self.waited + self.parked

    def a_reply(self, figure: float) -> float:
        """Return what comes of *figure* to each reply that was handled."""
        return figure / max(1.0, self.done)

    @classmethod
    def median(cls, rounds: Sequence[Cell]) -> Cell:
        """Return the median of each figure over *rounds* of the same cell; capped where any was."""
        names = ("seconds", "handler_runs", "round_trips", "again", "waited", "parked", "siblings", "done")
        figures = {name: statistics.median(getattr(cell, name) for cell in rounds) for name in names}
        return cls(rounds[0].way, rounds[0].replies, capped=any(cell.capped for cell in rounds), **figures)


@frozen
class Options:
    """How cells are measured, the same for all of them.

    Attributes:
        processes: how many workers share the replies.
        batch: how many messages a worker takes at once: few, so that the replies are spread over the workers.
        cap_s: after how many seconds a cell is given up.
    """

    processes: int = 4
    batch: int = 4
    cap_s: float = 60.0


class Fleet:
    """Worker processes, warmed up, and a bus to have them work by. To be closed.

    Args:
        url: of the server, store and transport in one.
        options: how cells are measured.

    Attributes:
        idle_trips_per_s: how many round trips a second the workers make with nothing to do.

    Raises:
        TimeoutError: the workers did not start.
    """

    def __init__(self, url: str, options: Options) -> None:
        self.options = options
        with ExitStack() as stack:
            namespace = f"concurrency-{uuid.uuid4().hex[:12]}"
            self._bus = stack.enter_context(Bus(url, url, namespace=namespace))
            for way, saga in WAYS.items():
                self._bus.endpoint(way, saga)
            self._ears, self._readings = _Ears(self._bus), Readings(self._bus)
            stack.enter_context(listening(self._bus, [_EARS, self._readings.endpoint.name]))
            env = {
                "SAGABUS_STORE": self._bus.store_url,
                "SAGABUS_TRANSPORT": self._bus.transport_url,
                "CONCURRENCY_NAMESPACE": namespace,
                "CONCURRENCY_BATCH": str(options.batch),
            }
            app, quiet = "benchmarks.concurrency.app:bus", ["--log-level", "ERROR"]
            self._workers = stack.enter_context(Supervisor(app, options.processes, options=quiet, env=env))
            self._warm_up()
            self._stack = stack.pop_all()

    def _warm_up(self) -> None:
        for way in WAYS:
            course = _Course(self._bus, self._ears, way, "warm-up")
            course.start(WARM_UP * self.options.processes)
            if not course.run(WARM_UP * self.options.processes, self.options.cap_s):
                raise TimeoutError(f"{way}: the workers did not warm up within {self.options.cap_s:g} s")
        before = self._totals()
        time.sleep(_IDLE_S)
        spent, seconds = self._totals().since(before)
        self.idle_trips_per_s = spent("round_trips") / seconds

    def _totals(self) -> _Totals:
        return _Totals.of(self._readings.take(self._workers.pids))

    def measure(self, way: str, replies: int) -> Cell:
        """Return what *replies* cost. A fleet whose cell was capped is of no use any more.

        Raises:
            WrongResultError: not every reply was handled once.
        """
        course = _Course(self._bus, self._ears, way, f"{replies}-{uuid.uuid4().hex[:8]}")
        course.start(replies)
        before = self._totals()
        started_at = time.perf_counter()
        heard = course.run(replies, self.options.cap_s)
        seconds = (self._ears.heard_at[course.key] if heard else time.perf_counter()) - started_at
        done = course.gathered()
        spent, elapsed_s = self._totals().since(before)
        if heard:
            course.verify(replies)
        return Cell(
            way,
            replies,
            seconds,
            handler_runs=spent("handler_runs"),
            round_trips=max(0.0, spent("round_trips") - self.idle_trips_per_s * elapsed_s),
            again=spent("again"),
            waited=spent("waited"),
            parked=spent("parked"),
            siblings=spent("siblings"),
            done=done,
            capped=not heard,
        )

    def close(self, *, at_once: bool = False) -> None:
        """End the workers: when they are through, or at once."""
        if at_once:
            self._workers.abort()
        self._stack.close()


@frozen
class _Totals:
    """What all workers have counted so far.

    Attributes:
        counts: by name.
        at: when they said so, `time.perf_counter()`.
    """

    counts: Mapping[str, int]
    at: float

    @classmethod
    def of(cls, reads: Sequence[MeterRead]) -> _Totals:
        """Return the sum of what each worker has read."""
        totals = Counter({"round_trips": sum(read.round_trips for read in reads)})
        for read in reads:
            totals.update(read.counts)
        return cls(totals, time.perf_counter())

    def since(self, before: _Totals) -> tuple[Callable[[str], int], float]:
        """Return what gives the difference by name, and how many seconds lie between."""
        return lambda name: self.counts.get(name, 0) - before.counts.get(name, 0), self.at - before.at


@frozen
class _Ears:
    """Hear the verdicts. Thread-safe.

    Attributes:
        heard_at: key -> when its verdict came, `time.perf_counter()`.
    """

    bus: Bus
    heard_at: dict[str, float] = field(factory=dict)
    _news: threading.Condition = field(factory=threading.Condition)

    def __attrs_post_init__(self) -> None:
        self.bus.endpoint(_EARS).consumer(self.gathered)

    def gathered(self, m: Gathered) -> None:
        """Note a verdict."""
        with self._news:
            self.heard_at.setdefault(m.key, time.perf_counter())
            self._news.notify_all()

    def wait_for(self, key: str, timeout_s: float) -> bool:
        """Return whether the verdict on *key* comes in time."""
        with self._news:
            return self._news.wait_for(lambda: key in self.heard_at, timeout_s)


@frozen
class _Course:
    """Sends replies to one saga and looks what became of them."""

    bus: Bus
    ears: _Ears
    way: str
    key: str

    def start(self, replies: int) -> None:
        """Start the saga, and wait until it is there: what comes sooner would be early, and come again later.

        Raises:
            TimeoutError: no worker starts it.
        """
        self.bus.send(Gather(self.key, replies), to=self.way)
        if not _until(lambda: self._snapshot().lifecycle is Lifecycle.LIVE and self._idle(), _START_S):
            raise TimeoutError(f"{self.way}: no worker started the saga within {_START_S:g} s")

    def run(self, replies: int, timeout_s: float) -> bool:
        """Have the saga get *replies*; return whether its verdict came in time, and nothing is left over."""
        self.bus.send_many([Replied(self.key, number) for number in range(replies)], to=self.way)
        return self.ears.wait_for(self.key, timeout_s) and _until(self._idle, _DRAIN_S)

    def gathered(self) -> int:
        """Return how many replies the saga has by now; of one with siblings, all together."""
        codec = definition_of(WAYS[self.way]).codec
        return len({n for version in self._snapshot().versions for n in codec.decode(version.state).numbers})

    def verify(self, replies: int) -> None:
        """Make sure that the saga has ended with every reply.

        Raises:
            WrongResultError: it has not.
        """
        dead = self.bus.store.dead()
        if self._snapshot().lifecycle is not Lifecycle.COMPLETED or self.gathered() != replies or dead:
            raise WrongResultError(
                f"{self.way}: {self.gathered()} of {replies} replies were gathered, {len(dead)} are dead letters; "
                f"run the tests, for the figures mean nothing"
            )

    def _snapshot(self) -> Snapshot:
        (snapshot,) = self.bus.store.load([Want(SagaKey(WAYS[self.way].__name__, self.key))])
        return snapshot

    def _idle(self) -> bool:
        """Return whether nothing waits for the saga's endpoint, now or later."""
        queued = [queue.depth for queue in self.bus.transport.queues() if queue.endpoint == self.way]
        return not any(queued) and not self.bus.store.scheduled(1)


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.005)
    return True
