"""Errands: what the driver sends, and what each must come to. Number n of a seed is always the same."""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen

from examples.credit_check.messages import CheckCredit
from examples.credit_check.saga import ACCEPT_OVER, BUREAUS, SCORES_NEEDED
from sagabus.envelope import SagaKey
from tests.chaos.load.messages import CallOff, Gather, SetBell

Effect = tuple[str, str]
"""Kind and key."""
LAST_KINDS: Final = frozenset({"decided", "gathered", "ended"})
"""The kinds of effects that end an errand."""
_RINGS_AFTER_S: Final = 0.3
_RINGS_FAR_S: Final = 30_000.0


@frozen
class Sending:
    """One message of an errand.

    Attributes:
        id: the idempotency key it is sent with, at every try.
        message: what is sent.
        to: the endpoint.
    """

    id: str
    message: Any
    to: str


@frozen
class Errand:
    """One saga, from its start to its last effect.

    Attributes:
        saga: which.
        sendings: what to send, in order.
        effects: what must happen once each.
        last: the effect that says that the saga has completed.
    """

    saga: SagaKey
    sendings: tuple[Sending, ...]
    effects: frozenset[Effect]
    last: Effect

    def objection(self, values: dict[Effect, Any]) -> str:
        """Return what is wrong with what it came to; "" where it is allowed.

        Args:
            values: of all effects that happened, in the whole run.
        """
        value = values[self.last]
        if self.last[0] == "decided":
            return _objection_to_decision(self.saga.id, value, values)
        if self.last[0] == "gathered":
            wanted = list(range(self.sendings[0].message.parts))
            return "" if value == wanted else f"gathered {value} instead of all {len(wanted)}"
        called_off = any(isinstance(sending.message, CallOff) for sending in self.sendings)
        wanted_end = "called off" if called_off else "rung"
        return "" if value == wanted_end else f"ended as {value!r} instead of {wanted_end!r}"


def _objection_to_decision(customer: str, value: Any, values: dict[Effect, Any]) -> str:
    scores = value["scores"]
    for bureau, score in scores.items():
        given = values.get(("scored", f"{customer}/{bureau}"))
        if score != given:
            return f"decided on {score} of {bureau}, who gave {given}"
    if len(scores) < SCORES_NEEDED:
        return f"decided on {len(scores)} scores"
    average = sum(scores.values()) / len(scores)
    if value["average"] != average or value["accepted"] != (average > ACCEPT_OVER):
        return f"decided {value['accepted']} on an average of {value['average']}, which is {average}"
    return ""


@frozen
class Mix:
    """Which errands there are.

    Attributes:
        gather_every: each so manieth errand gathers; 0 for none.
        watch_every: each so manieth errand waits for a bell; 0 for none.
        parts: how many pieces are gathered.
    """

    gather_every: int = 100
    watch_every: int = 10
    parts: int = 100
    prefix: str = field(default="")

    def errand(self, number: int, seed: int) -> Errand:
        """Return errand number *number* (from 0)."""
        name = f"{self.prefix}{seed}-{number:06}"
        if self.gather_every and number % self.gather_every == self.gather_every // 2:
            made = frozenset(("made", f"{name}/{part}") for part in range(self.parts))
            last = ("gathered", name)
            sending = Sending(f"gather-{name}", Gather(name, self.parts), "gather")
            return Errand(SagaKey("Gathering", name), (sending,), made | {last}, last)
        if self.watch_every and number % self.watch_every == self.watch_every - 1:
            return _watch(name, called_off=number // self.watch_every % 2 == 1)
        scored = frozenset(("scored", f"{name}/{bureau}") for bureau in BUREAUS)
        last = ("decided", name)
        sending = Sending(f"check-{name}", CheckCredit(customer=name), "credit")
        return Errand(SagaKey("CreditCheck", name), (sending,), scored | {last}, last)


def _watch(name: str, *, called_off: bool) -> Errand:
    bell = Sending(f"bell-{name}", SetBell(name, _RINGS_FAR_S if called_off else _RINGS_AFTER_S), "watch")
    last = ("ended", name)
    if called_off:
        off = Sending(f"off-{name}", CallOff(name), "watch")
        return Errand(SagaKey("Watch", name), (bell, off), frozenset({last}), last)
    return Errand(SagaKey("Watch", name), (bell,), frozenset({last, ("rung", name)}), last)
