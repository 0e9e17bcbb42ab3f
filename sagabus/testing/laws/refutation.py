"""A law of merging that was broken: which, by what states, and what to do about it."""

from __future__ import annotations

import enum
from typing import Any, Final

from attrs import frozen


class Law(enum.StrEnum):
    """What every merger must keep; `sagabus.testing.laws.merger_laws` tries to refute it."""

    ANSWERS = "answers"
    STORABLE = "storable"
    MUTATES_NOTHING = "mutates-nothing"
    DETERMINISTIC = "deterministic"
    COMMUTATIVE = "commutative"
    IDEMPOTENT = "idempotent"
    ASSOCIATIVE = "associative"
    ABSORBING = "absorbing"
    SYMMETRIC = "symmetric"
    ONE_SIDED = "one-sided"
    SERIAL = "serial"
    ACROSS_PROCESSES = "deterministic-across-processes"


_ORDER_MEND: Final = (
    "Let the result depend on what the siblings say, never on which of them stands first: keep the highest, the "
    "union, or the one that sorts first."
)
_PROCESS_MEND: Final = (
    "Look for the iteration order of a set, for hash() or id(), the clock, random numbers, and state kept between "
    "calls. Sort a set before you go through it."
)

_EXPLAINED: Final = {
    Law.ANSWERS: (
        "raises an error",
        "Mend the error; where no value can stand for all siblings, raise sagabus.errors.UnmergeableStateError.",
    ),
    Law.STORABLE: (
        "does not return a state that can be stored and read again",
        "Return a new state of the siblings' class, within the annotations and validators of its fields.",
    ),
    Law.MUTATES_NOTHING: (
        "changes what it is given",
        "Build a new state, and copy every dict, list and set before you change it.",
    ),
    Law.DETERMINISTIC: ("gives two results for one call made twice", _PROCESS_MEND),
    Law.COMMUTATIVE: ("depends on the order of the siblings", _ORDER_MEND),
    Law.IDEMPOTENT: (
        "gives something else where a sibling is repeated",
        "Equal siblings merge to what they are: drop nothing, and count nothing twice, for two siblings may say the "
        "same fact. Keep facts that can be recognised, a set of ids or a dict by source, and count them when you "
        "decide; for plain counters write merge(a, b, ancestor).",
    ),
    Law.ASSOCIATIVE: (
        "depends on which siblings are merged first",
        "A merge must keep what the next merge needs: an average or a most frequent value forgets how it came about. "
        "Keep the values themselves, and compute from them when you decide.",
    ),
    Law.ABSORBING: (
        "changes again when a sibling that is already merged comes back",
        "Merging must record what the siblings say and nothing about the merging itself, such as how often it "
        "happened.",
    ),
    Law.SYMMETRIC: ("depends on which of the two siblings is given first", _ORDER_MEND),
    Law.ONE_SIDED: (
        "loses or invents something where only one side changed since the ancestor",
        "Apply what each side changed to the ancestor: for a counter a + b - ancestor.",
    ),
    Law.SERIAL: (
        "gives what handling the messages in no order gives",
        "Make the change of one side to the other side, the one that sorts first: for a list keep what both kept, then "
        "what the one added, then what the other added.",
    ),
    Law.ACROSS_PROCESSES: ("gives another result in another process", _PROCESS_MEND),
}


@frozen
class Result:
    """What one side of a broken law came to.

    Attributes:
        call: how it came about, such as `merge([a, merge([b, c])])`.
        state: the state; None where there is none.
        error: why there is none, such as what the merger raised.
    """

    call: str
    state: Any = None
    error: str = ""

    def __str__(self) -> str:
        return self.error or repr(self.state)


@frozen
class Refutation:
    """A law that a merger breaks, with the states that show it.

    Attributes:
        law: which one.
        merger: the name of the merger.
        states: name -> state, of the states involved: `a`, `b`, …, and `ancestor`.
        results: what should have been equal; a single one where a call went wrong by itself.
    """

    law: Law
    merger: str
    states: dict[str, Any]
    results: tuple[Result, ...]

    @property
    def problem(self) -> str:
        """Return what is wrong, in one line."""
        return f"{self.merger} is refuted ({self.law}): it {_EXPLAINED[self.law][0]}"

    @property
    def mend(self) -> str:
        """Return what to do next."""
        return _EXPLAINED[self.law][1]

    @property
    def text(self) -> str:
        """Return the whole explanation: the states, what became of them, and what to do next."""
        return f"{self.problem}\n\n{self.shown}\n\n{self.mend}"

    @property
    def shown(self) -> str:
        """Return the states and the results, one a line."""
        width = max((len(result.call) for result in self.results), default=0)
        lines = [f"  {name} = {state!r}" for name, state in self.states.items()]
        lines += ["", *(f"  {result.call:<{width}}  gives  {result}" for result in self.results)]
        return "\n".join(lines)
