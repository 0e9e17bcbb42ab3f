"""The driver: a closed loop that keeps so many cases open, and resends under the same ids what was not accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from benchmarks.soak.app import SEED
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.messages import AlarmRang, Gather, Gathered, SetAlarm, Tick
from examples.credit_check.bureaus import score_of
from examples.credit_check.messages import CheckCredit, CreditDecided
from examples.credit_check.saga import ACCEPT_OVER, BUREAUS, SCORES_NEEDED
from sagabus import Bus, Context
from sagabus.errors import SagabusError

PARTS: Final = 25
TICKERS: Final = 20
_TICKS_A_TURN: Final = 2
_TURN_S: Final = 0.02
_TROUBLE_S: Final = 0.2


@frozen
class Load:
    """One kind of case.

    Attributes:
        kind: what the ledger calls it, and what its keys begin with.
        endpoint: where it is sent.
        open_cases: how many are kept open.
        make: returns the message of a number.
    """

    kind: str
    endpoint: str
    open_cases: int
    make: Callable[[int], Any]


def key_of(kind: str, number: int) -> str:
    """Return the key of a case."""
    return f"{kind}-{number:09}"


def _alarm(number: int, longest_ms: int) -> SetAlarm:
    # In an order without a pattern; every third is moved, once or twice.
    moves = min(number % 5, 2) if number % 3 == 0 else 0
    return SetAlarm(key_of("alarm", number), longest_ms // 10 + number * 7919 % (longest_ms * 9 // 10), moves)


def loads(checks: int, longest_ms: int) -> tuple[Load, ...]:
    """Return all kinds of cases: so many checks, a quarter of that alarms, and a gathering for each hundred.

    Args:
        longest_ms: alarms are set from a tenth of this up to this.
    """
    return (
        Load("check", "credit", checks, lambda n: CheckCredit(customer=key_of("check", n))),
        Load("gather", "gathering", max(1, checks // 100), lambda n: Gather(key_of("gather", n), PARTS)),
        Load("alarm", "alarms", max(1, checks // 4), lambda n: _alarm(n, longest_ms)),
    )


@define
class Driver:
    """Sends in a thread of its own until told to stop.

    Attributes:
        ticks: key -> how many ticks were accepted.
        retries: how often a send failed and was made again.
    """

    bus: Bus
    ledger: Ledger
    loads: Sequence[Load]
    ticks: dict[str, int] = field(factory=dict, init=False)
    retries: int = field(default=0, init=False)
    _next: dict[str, int] = field(factory=dict, init=False)
    _turns: int = field(default=0, init=False)

    def run(self, stop: threading.Event) -> None:
        """Keep the cases open until *stop* is set; what is being sent then is still sent."""
        while not stop.is_set():
            for load in self.loads:
                room = load.open_cases - self.ledger.open_cases(load.kind)
                if room >= max(1, load.open_cases // 8):
                    self._send(load, room)
            self._tick()
            stop.wait(_TURN_S)

    def _send(self, load: Load, count: int) -> None:
        first = self._next.get(load.kind, 0)
        self._next[load.kind] = first + count
        numbers = range(first, first + count)
        self.ledger.ask(load.kind, numbers, time.monotonic())
        messages = [load.make(number) for number in numbers]
        self._insist(messages, [f"ask-{key_of(load.kind, number)}" for number in numbers], load.endpoint)
        self.ledger.accept(load.kind, numbers, time.monotonic())

    def _tick(self) -> None:
        self._turns += 1
        keys = [f"tick-{(self._turns * _TICKS_A_TURN + i) % TICKERS:02}" for i in range(_TICKS_A_TURN)]
        self._insist([Tick(key) for key in keys], [f"tick-{self._turns}-{key}" for key in keys], "ticks")
        for key in keys:
            self.ticks[key] = self.ticks.get(key, 0) + 1

    def _insist(self, messages: Sequence[Any], ids: Sequence[str], to: str) -> None:
        """Send until it is accepted: a store that was killed comes back, and equal ids make a second copy harmless."""
        while True:
            try:
                self.bus.send_many(messages, to=to, ids=ids)
                return
            except SagabusError:
                self.retries += 1
                time.sleep(_TROUBLE_S)


@define
class Judge:
    """Hears every outcome and says what is wrong with it.

    Attributes:
        late_ms: how late the timers of the latest alarms came, ms, unsorted.
    """

    ledger: Ledger
    late_ms: list[int] = field(factory=list, init=False)

    def listen(self, bus: Bus) -> str:
        """Put the endpoint of the judge on *bus* and return its name."""
        endpoint = bus.endpoint("judge", concurrency=1)
        endpoint.consumer(self.decided)
        endpoint.consumer(self.gathered)
        endpoint.consumer(self.rang)
        return endpoint.name

    def decided(self, m: CreditDecided, context: Context) -> None:
        """Enter a decision."""
        self._enter(m.customer, context, wrong_decision(m.customer, m.scores, m.average, m.accepted))

    def gathered(self, m: Gathered, context: Context) -> None:
        """Enter a gathering."""
        self._enter(m.key, context, "" if m.parts == list(range(PARTS)) else f"gathered {m.parts}")

    def rang(self, m: AlarmRang, context: Context) -> None:
        """Enter an alarm."""
        self.late_ms.append(m.rang_ms - m.due_ms)
        del self.late_ms[:-10_000]
        self._enter(m.key, context, m.problem)

    def _enter(self, key: str, context: Context, problem: str) -> None:
        kind, _, number = key.partition("-")
        self.ledger.outcome(kind, int(number), context.message_id, problem, time.monotonic())


def wrong_decision(customer: str, scores: Mapping[str, int], average: float, accepted: bool) -> str:
    """Return what is wrong with a decision; empty if nothing."""
    right = {bureau: score_of(customer, bureau, SEED) for bureau in BUREAUS}
    if len(scores) < SCORES_NEEDED or not scores.items() <= right.items():
        return f"decided on {scores}, the scores are {right}"
    mean = sum(scores.values()) / len(scores)
    if average != mean or accepted is not (mean > ACCEPT_OVER):
        return f"{average} was {'accepted' if accepted else 'declined'}, the mean is {mean}"
    return ""
