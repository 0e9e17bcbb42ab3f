"""The bus of the soak's workers: credit checks, a fan-in, timers, and sagas that get messages for ever.

`SOAK_NAMESPACE`, `SOAK_WINDOW_S` (dedupe window and retention, seconds) and `SOAK_LOG` (where their log goes)
come from whoever starts them.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated, Final

from attrs import define, field

from benchmarks.soak.messages import (
    AlarmRang,
    Confirm,
    Confirmed,
    FetchPart,
    Gather,
    Gathered,
    Guard,
    PartFetched,
    Ring,
    SetAlarm,
    Tick,
)
from examples.credit_check.bureaus import score_of
from examples.credit_check.messages import RequestScore, ScoreReported
from examples.credit_check.saga import BUREAUS, CreditCheck
from mergers import additions, fieldwise, highest, union
from sagabus import Bus, Context, Saga, handles, starts

SEED: Final = 1
CLAIM_S: Final = 10.0
ENDPOINTS: Final = ("credit", *BUREAUS, "gathering", "shelf", "alarms", "desk", "ticks")
_MOVE_MS: Final = 500


@define
class GatherState:
    """Which parts are wanted, and which are there."""

    wanted: Annotated[int, highest] = 0
    parts: Annotated[set[int], union] = field(factory=set)


class Gathering(Saga[GatherState], key="key", merger=fieldwise(GatherState)):
    """Ask for all parts at once and wait for the last."""

    @starts
    def asked(self, m: Gather) -> None:
        """Ask for every part."""
        self.state.wanted = m.parts
        for part in range(m.parts):
            self.send(FetchPart(part), to="shelf")

    @handles
    def fetched(self, m: PartFetched) -> None:
        """Note a part."""
        self.state.parts.add(m.part)

    def decide(self) -> None:
        """Say that all have come."""
        if len(self.state.parts) == self.state.wanted:
            self.publish(Gathered(self.key, sorted(self.state.parts)))
            self.complete()


@define
class AlarmState:
    """What an alarm knows of itself; no sibling ever, it is serial.

    Attributes:
        due_ms: when it rings.
        generation: how often it was moved.
        guarded: whether its guard is still set.
        problem: what went wrong so far.
    """

    due_ms: int = 0
    generation: int = 0
    guarded: bool = True
    problem: str = ""


class Alarm(Saga[AlarmState], key="key"):
    """Ring once, at the time it was moved to last; a guard that was dismissed stays silent."""

    @starts
    def asked(self, m: SetAlarm) -> None:
        """Set the alarm and its guard, and have the desk confirm both."""
        self._set(m.after_ms)
        self.defer(Guard(), after=m.after_ms / 2000, name="guard")
        self.send(Confirm(m.moves), to="desk")

    @handles
    def confirmed(self, m: Confirmed) -> None:
        """Dismiss the guard; move the alarm as often as was asked."""
        self.cancel("guard")
        self.state.guarded = False
        if m.moves:
            self.state.generation += 1
            self._set(max(self.state.due_ms - round(self.now.timestamp() * 1000), 0) + _MOVE_MS)
            self.send(Confirm(m.moves - 1), to="desk")

    @handles
    def guard(self, m: Guard) -> None:
        """Note a guard that came although it had been dismissed."""
        if not self.state.guarded:
            self.state.problem = "a cancelled timer came"

    @handles
    def rings(self, m: Ring) -> None:
        """Say so, and what was wrong with it."""
        now_ms = round(self.now.timestamp() * 1000)
        problem = self.state.problem
        if m.generation != self.state.generation:
            problem = "a replaced timer came"
        elif now_ms < m.due_ms:
            problem = f"came {m.due_ms - now_ms} ms early"
        self.publish(AlarmRang(self.key, m.due_ms, now_ms, problem))
        self.complete()

    def _set(self, after_ms: int) -> None:
        self.state.due_ms = round(self.now.timestamp() * 1000) + after_ms
        self.defer(Ring(self.state.due_ms, self.state.generation), after=after_ms / 1000, name="ring")


@define
class TickState:
    """How many came."""

    count: Annotated[int, additions] = 0


class Ticks(Saga[TickState], key="key", merger=fieldwise(TickState)):
    """Count for ever: nothing that is kept of it may grow with how much it has counted."""

    @starts
    def ticked(self, m: Tick) -> None:
        """Count one."""
        self.state.count += 1


if _log := os.environ.get("SOAK_LOG"):
    # A store that is away is an error to each lane of each worker: hundreds of lines, and no news to who has killed it.
    os.dup2(os.open(_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
_window = timedelta(seconds=float(os.environ.get("SOAK_WINDOW_S", "60")))
bus = Bus(namespace=os.environ.get("SOAK_NAMESPACE", "soak"), dedupe_window=_window, retention=_window, claim_s=CLAIM_S)
bus.endpoint("credit", CreditCheck)
bus.endpoint("gathering", Gathering)
bus.endpoint("alarms", Alarm)
bus.endpoint("ticks", Ticks)
shelf, desk = bus.endpoint("shelf"), bus.endpoint("desk")


def report(m: RequestScore, context: Context) -> None:
    """Answer at once."""
    context.reply(ScoreReported(bureau=context.endpoint, score=score_of(m.customer, context.endpoint, SEED)))


for bureau in BUREAUS:
    bus.endpoint(bureau).consumer(report)


@shelf.consumer
def fetch(m: FetchPart, context: Context) -> None:
    """Hand out a part."""
    context.reply(PartFetched(m.part))


@desk.consumer
def confirm(m: Confirm, context: Context) -> None:
    """Confirm."""
    context.reply(Confirmed(m.moves))
