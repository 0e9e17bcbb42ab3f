"""The driver: sends errands at a pace, knows what was accepted, waits until all is quiet, and asks the judge."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from sagabus import Bus, SagabusError
from sagabus.envelope import SagaKey
from tests.chaos.judge import judge, undispatched
from tests.chaos.ledger import ACCEPTED, EFFECT, FAULT, TOOLS_DOWN, Ledger, Line, Reader
from tests.chaos.load.crew import Crew, Member
from tests.chaos.load.errand import LAST_KINDS, Effect, Errand, Mix, Sending
from tests.chaos.load.settings import Settings
from tests.chaos.verdict import Verdict
from tests.servers import until

_TURN_S: Final = 0.01
_POLL_S: Final = 0.1
_QUIET_S: Final = 0.3
# Longer than a worker pauses whose server was away: what it has in hand then may be in no queue any more.
QUIET_AFTER_FAILOVER_S: Final = 3.0
_AGAIN_S: Final = 0.05
_SOON_MS: Final = 600_000
DRAIN_TIMEOUT_S: Final = 180.0


@define
class Load:
    """Errands under way on worker processes. Enter it to start the workers; all have ended when it is left.

    Attributes:
        settings: what the workers are told.
        workers: how many.
        folder: for the ledger and the workers' output.
        mix: which errands there are.
        window: how many errands are under way at once.
        store, transport: what the driver and the judge themselves use, where not what the workers do (a proxy, say).
        prefix: what to put before the workers' command lines.
        held: returns how many messages are in all queues, those that workers hold included; for brokers whose queues
            leave these out of their depth. Negative while nobody can tell.
        sent_again: how often a send of the driver failed and was made again.
    """

    settings: Settings
    workers: int
    folder: Path
    mix: Mix = field(factory=Mix)
    window: int = 40
    store: str = ""
    transport: str = ""
    prefix: Sequence[str] = ()
    held: Callable[[], int] | None = None
    sent_again: int = field(default=0, init=False)
    crew: Crew = field(init=False)
    lines: list[Line] = field(factory=list, init=False)
    accepted: list[Errand] = field(factory=list, init=False)
    done: set[Effect] = field(factory=set, init=False)
    _finished: int = field(default=0, init=False)
    _ledger: Ledger = field(init=False)
    _reader: Reader = field(init=False)
    _bus: Bus | None = field(default=None, init=False)
    _started_at: float = field(default=0.0, init=False)
    _at_least: int = field(default=0, init=False)
    _enough: threading.Event = field(factory=threading.Event, init=False)
    _closed: threading.Event = field(factory=threading.Event, init=False)
    _threads: list[threading.Thread] = field(factory=list, init=False)
    _failures: list[BaseException] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        ledger = Path(self.settings.ledger)
        self._ledger, self._reader = Ledger(ledger), Reader(ledger)
        self.crew = Crew(self.workers, self.settings.environment(), self.folder, self.prefix)

    @property
    def bus(self) -> Bus:
        """Return the driver's own bus: nothing is on it, and it has no failpoints."""
        if self._bus is None:
            urls = self.store or self.settings.store, self.transport or self.settings.transport
            self._bus = Bus(*urls, namespace=self.settings.namespace, **self.settings.bus)
        return self._bus

    @property
    def faults(self) -> list[Line]:
        """Return the announcements of workers that struck at a failpoint."""
        return [line for line in list(self.lines) if line["what"] == FAULT]

    # -- while it runs -------------------------------------------------------------------------------------------

    def send(self, at_least: int) -> None:
        """Send errands from now on, in the background, until `finish`, and *at_least* so many."""
        self._at_least, self._started_at = at_least, time.monotonic()
        self._run(self._send_all)

    def await_done(self, errands: int, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Return when so many errands have come to their last effect."""
        self.until(lambda: self.finished() >= errands, f"the end of {errands} errands", timeout_s)

    def await_faults(self, count: int, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Return when workers have struck *count* times at their failpoint."""
        self.until(lambda: len(self.faults) >= count, f"fault number {count}", timeout_s)

    def strike_over(self, nth: int) -> None:
        """Say that strike number *nth* (from 0) is over, for workers that strike one at a time."""
        Path(f"{self.settings.ledger}.strike-{nth}.over").touch()

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Return when *condition* holds; sooner, with its error, where a thread of the load has failed."""
        until(lambda: self._failures or condition(), what, timeout_s)
        self._raise()

    def finished(self) -> int:
        """Return how many errands have come to their last effect."""
        return self._finished

    def under_way(self) -> set[Effect]:
        """Return the last effects of the errands that have not come to them yet."""
        return {errand.last for errand in list(self.accepted)} - self.done

    def idle_member(self) -> Member | None:
        """Return a worker that is at work, None where none is."""
        return next(iter(self.crew.at_work()), None)

    def send_again(self) -> None:
        """Send everything that was accepted so far once more, with the same ids: for a store that has lost data."""
        for errand in list(self.accepted):
            for sending in errand.sendings:
                self._accepted(sending)

    def down_tools(self) -> None:
        """Kill all workers, and have them replaced no sooner than at `take_up`; all they did is in `lines` then."""
        self.crew.replacing = False
        for member in self.crew.members:
            self.crew.kill(member)
        self.until(lambda: not any(member.process for member in self.crew.members), "the end of all workers")
        self._ledger.note(TOOLS_DOWN)  # ends what a killed worker may have left of a line
        size = Path(self.settings.ledger).stat().st_size
        self.until(lambda: self._reader.offset >= size, "all lines of the ledger")

    def take_up(self) -> None:
        """Have workers work again."""
        self.crew.replacing = True

    def finish(
        self,
        *,
        timeout_s: float = DRAIN_TIMEOUT_S,
        quiet_s: float = _QUIET_S,
        forgotten: Collection[SagaKey] = (),
    ) -> Verdict:
        """Send no more, wait until nothing is under way, end the workers in good order, and return the verdict.

        Args:
            timeout_s: for the drain.
            quiet_s: for how long nothing may move before nothing is under way any more.
            forgotten: as of `judge`.
        """
        self._enough.set()
        problems: list[str] = []
        try:
            self.until(lambda: not self._threads[-1].is_alive(), "the acceptance of all that was sent", timeout_s)
            self._drain(timeout_s, quiet_s)
        except TimeoutError as error:
            problems.append(f"{error}; {self.state()}")
        seconds = time.monotonic() - self._started_at
        self.crew.stop()
        self._closed.set()
        self._threads[0].join()
        self._read()
        problems += self.crew.problems
        verdict = judge(self.bus, self.accepted, self.lines, problems=problems, seconds=seconds, forgotten=forgotten)
        torn = self._reader.torn
        return verdict.noting(f"{torn} lines of the ledger were torn by a kill" if torn else "")

    def state(self) -> str:
        """Return what is still under way, for people."""
        depths = ", ".join(f"{queue.endpoint} {queue.depth}" for queue in self.bus.transport.queues() if queue.depth)
        missing = [str(errand.saga) for errand in self.accepted if errand.last not in self.done]
        held = "" if self.held is None else f", {self.held()} with those that workers hold"
        return (
            f"{len(missing)} of {len(self.accepted)} errands are under way, such as {missing[:3]}; "
            f"in queues: {depths or 'nothing'}{held}; "
            f"workers ended with {dict(self.crew.codes())}; logs in {self.folder}"
        )

    def _drain(self, timeout_s: float, quiet_s: float) -> None:
        quiet_since = math.inf

        def is_quiet() -> bool:
            """Look once. One look is not enough, however long it takes: it sees one queue after the other."""
            nonlocal quiet_since
            time.sleep(_POLL_S)
            began_at = time.monotonic()
            if not self._nothing_moves():
                quiet_since = math.inf
                return False
            quiet_since = min(quiet_since, time.monotonic())
            return began_at - quiet_since >= quiet_s

        self.until(is_quiet, "an end of all work", timeout_s)

    def _nothing_moves(self) -> bool:
        if any(queue.depth for queue in self.bus.transport.queues()):
            return False
        if self.held is not None and self.held() != 0:
            return False
        now_ms, due_ms = self.bus.store.next_due_ms()
        if due_ms is not None and due_ms <= now_ms + _SOON_MS:
            return False
        # What a failover left undispatched is found and sent by a worker later, with empty queues meanwhile.
        return next(undispatched(self.bus), None) is None

    # -- threads -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._run(self._listen)
        self.crew.__enter__()
        try:
            self.until(lambda: len(self.crew.at_work()) == self.workers, "workers that are at work", 120.0)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._enough.set()
        self.crew.__exit__(kind, error, trace)
        for thread in self._threads:
            thread.join()
        if self._bus is not None:
            self._bus.close()
        self._ledger.close()

    def _run(self, job: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guard, args=(job,), name=job.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            self._failures.append(failure)

    def _raise(self) -> None:
        if self._failures:
            raise RuntimeError(f"the load failed; logs in {self.folder}") from self._failures[0]

    def _listen(self) -> None:
        while not self._closed.wait(_TURN_S):
            self._read()

    def _read(self) -> None:
        for line in self._reader.new():
            self.lines.append(line)
            self.crew.heard(line)
            if line["what"] == EFFECT:
                effect = (line["kind"], line["key"])
                # Counted here: there are many errands, and who asks asks often.
                self._finished += effect[0] in LAST_KINDS and effect not in self.done
                self.done.add(effect)

    def _send_all(self) -> None:
        number = 0
        while not self._closed.is_set() and (number < self._at_least or not self._enough.is_set()):
            if number - self.finished() >= self.window:
                self._closed.wait(_TURN_S)
                continue
            errand = self.mix.errand(number, self.settings.seed)
            if not all(self._accepted(sending) for sending in errand.sendings):
                return
            self.accepted.append(errand)
            number += 1

    def _accepted(self, sending: Sending) -> bool:
        """Send until it is accepted, with the same id each time; return False where the load ends before that."""
        while not self._closed.is_set():
            try:
                self.bus.send(sending.message, to=sending.to, id=sending.id)
            except SagabusError:
                self.sent_again += 1
                self._closed.wait(_AGAIN_S)
                continue
            self._ledger.note(ACCEPTED, id=sending.id)
            return True
        return False
