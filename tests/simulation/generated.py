"""Small sagas drawn at random, with the messages that they get and what may go wrong. Seeded."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from sagabus import MergeSagaState, Saga, handles, starts
from tests.changes import evolve
from tests.simulation.naive import Naive, TooManySchedulesError, Walk
from tests.simulation.vocabulary import (
    FIELDS,
    MERGERS,
    Again,
    Answer,
    Ask,
    Begin,
    Do,
    Fact,
    News,
    Ring,
    perform,
    state_class,
)

MOST_STEPS = 700
LONGEST = 60
_TWO = ("two",)
_SMALLEST = 3


# -- sagas -----------------------------------------------------------------------------------------------------------


@frozen
class Plan:
    """A saga class as it was drawn.

    Attributes:
        name: of the class.
        starts: the message that starts it.
        fields: of its state.
        merger: which.
        options: further class arguments.
        programs: message class, or `decide` or `on_late` -> what is done.
    """

    name: str
    starts: type
    fields: tuple[str, ...]
    merger: str
    options: Mapping[str, Any]
    programs: Mapping[Any, tuple[Do, ...]]

    def __str__(self) -> str:
        lines = [f"{self.name}({', '.join(self.fields)}) merger: {self.merger}, {dict(self.options)}"]
        for what, program in self.programs.items():
            lines.append(f"    {getattr(what, '__name__', what)}: {', '.join(map(str, program))}")
        return "\n".join(lines)

    def build(self) -> type[Saga[Any]]:
        """Return the class."""
        state = state_class(self.fields)

        def body(names: dict[str, Any]) -> None:
            names["__module__"] = __name__
            for what, program in self.programs.items():
                if isinstance(what, type):
                    mark = starts if what is self.starts else handles
                    names[f"on_{what.__name__.lower()}"] = mark(what)(_handler(program))
                else:
                    names[what] = _decide(program) if what == "decide" else _handler(program)

        options = {"key": "saga", "merger": MERGERS[self.merger][0], **self.options}
        return types.new_class(self.name, (Saga[state],), options, body)  # type: ignore[valid-type]


def _handler(program: tuple[Do, ...]) -> Callable[[Any, Any], None]:
    return lambda saga, m: perform(saga, program, m)


def _decide(program: tuple[Do, ...]) -> Callable[[Any], None]:
    return lambda saga: perform(saga, program, None)


class _Drawer:
    """Draws plans."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.two = chance.random() < 0.35
        self.timers = chance.random() < 0.35
        self.itself = chance.random() < 0.25

    def plan(self, first: bool) -> Plan:
        """Return the first saga, or the second."""
        chance = self.chance
        fields = tuple(sorted(chance.sample(list(FIELDS), chance.randint(1, 3))))
        merger = self._weighted({name: weight for name, (_, weight) in MERGERS.items()})
        options: dict[str, Any] = {}
        if chance.random() < 0.2:
            options["restartable"] = True
        if chance.random() < 0.25:
            options["sibling_limit"] = 2
        taken: list[type] = [Begin, Fact] if first else [Ask]
        if self.two:
            taken += [Answer] if first else []
            taken += [News] if chance.random() < 0.5 else []
        taken += [Again] if self.itself else []
        taken += [Ring] if self.timers else []
        programs: dict[Any, tuple[Do, ...]] = {what: self._handling(what, fields, first) for what in taken}
        for do in self._promised(first):
            what = chance.choice(taken[:2] if first else taken[:1])
            programs[what] = (*programs[what], do)
        if chance.random() < 0.45:
            programs[MergeSagaState] = self._merging(fields)
        if chance.random() < 0.3:
            programs["on_late"] = tuple(chance.choice([Do("tell"), Do("publish"), Do("reply")]) for _ in range(1))
        if chance.random() < 0.85:
            programs["decide"] = self._deciding(fields)
        return Plan("First" if first else "Second", taken[0], fields, merger, options, programs)

    def _promised(self, first: bool) -> list[Do]:
        """Return what is done without condition, so that what was to be drawn does happen."""
        chance, do = self.chance, list[Do]()
        if self.timers:
            do.append(Do(chance.choice(["defer", "defer nameless"])))
        if self.itself:
            do.append(Do("again"))
        if self.two:
            do.append(Do("ask", chance.choice(["Second", "elsewhere"])) if first else Do("reply"))
        return do

    def _weighted(self, weights: Mapping[str, float]) -> str:
        return self.chance.choices(list(weights), list(weights.values()))[0]

    def _guarded(self, do: Do, least: int = 4) -> Do:
        chance = self.chance
        if chance.random() < 0.3:
            do = evolve(do, least=chance.randint(1, least))
        return evolve(do, parity=chance.randint(0, 1)) if chance.random() < 0.2 else do

    def _change(self, fields: tuple[str, ...]) -> Do:
        return Do(self._weighted({"change": 5, "overwrite": 1}), self.chance.choice(fields))

    def _handling(self, what: type, fields: tuple[str, ...], first: bool) -> tuple[Do, ...]:
        program = [self._change(fields) for _ in range(self.chance.randint(0 if what is Begin else 1, 2))]
        words: dict[str, float] = {"tell": 2, "publish": 2, "complete": 0.7, "raise": 0.8}
        if self.timers and what is not Ring:
            words |= {"defer": 2, "defer nameless": 2, "cancel": 2}
        if self.itself:
            words["again"] = 2
        if self.two:
            words |= {"ask": 2 if first else 0, "news": 0 if what is News else 1.5}
            words["reply"] = 1.5 if first else 2
        for _ in range(self.chance.choice([0, 1, 1, 2])):
            word = self._weighted(words)
            do = Do(word, self.chance.choice(["Second", "elsewhere"]) if word == "ask" else "")
            program.append(evolve(do, least=self.chance.randint(1, 4)) if word == "raise" else self._guarded(do))
        self.chance.shuffle(program)
        return tuple(program)

    def _merging(self, fields: tuple[str, ...]) -> tuple[Do, ...]:
        words: dict[str, float] = {"change": 3, "overwrite": 1, "tell": 3, "publish": 2, "complete": 0.4, "raise": 0.3}
        if self.timers:
            words["defer"] = 2
        if self.itself:
            words["again"] = 2
        word = self._weighted(words)
        return (self._guarded(Do(word, self.chance.choice(fields) if word in ("change", "overwrite") else "")),)

    def _deciding(self, fields: tuple[str, ...]) -> tuple[Do, ...]:
        chance = self.chance
        guard = {"least": chance.randint(0, 4), "parity": chance.choice([None, None, None, 0, 1])}
        program = [Do("publish", **guard)]
        if chance.random() < 0.3:
            program.append(Do("change", chance.choice(fields), **guard))
        words: dict[str, float] = {"nothing": 6, "raise": 0.6, "tell": 1, "answer": 1.0 if self.two else 0}
        if self.timers:
            words |= {"defer": 1, "cancel": 1}
        if self.two:
            words["news"] = 0.5
        word = self._weighted(words)
        if word != "nothing":
            program.append(self._guarded(Do(word), least=6))
        if chance.random() < 0.65:
            program.append(Do("complete", **guard))
        return tuple(program)


# -- cases -----------------------------------------------------------------------------------------------------------


@frozen
class Case:
    """What is to be explored, and what the naive enumerator says of it.

    Attributes:
        seed, draw: what it was drawn with.
        plans: the saga classes as drawn.
        options: the arguments that `Naive` and `explore` share.
        subject: the saga classes.
        walk: what the naive enumerator found.
    """

    seed: int
    draw: int
    plans: tuple[Plan, ...]
    options: Mapping[str, Any]
    subject: tuple[type[Saga[Any]], ...] = field(repr=False)
    walk: Walk = field(repr=False)

    def __str__(self) -> str:
        options = "\n".join(f"    {name}={value!r}" for name, value in self.options.items())
        return "\n".join([f"seed {self.seed}, draw {self.draw}", *map(str, self.plans), options])


def generate(seed: int, draw: int = 0, most_steps: int = MOST_STEPS) -> Case:
    """Return the first case drawn with *seed*, from *draw* on, whose schedules can all be walked; always the same one.

    Where there are too many, less is asked of the same sagas: fewer messages and mishaps, then fewer workers.
    """
    while True:
        number, small = divmod(draw, _SMALLEST + 1)
        chance = random.Random(f"{seed}/{number}")
        drawer = _Drawer(chance)
        plans = tuple(drawer.plan(first) for first in ([True, False] if drawer.two else [True]))
        options = _options(chance, drawer, small)
        subject = tuple(plan.build() for plan in plans)
        try:
            walk = Naive(subject, **options).walk(most_steps=most_steps, longest=LONGEST)
        except TooManySchedulesError:
            draw += 1
            continue
        if not walk.endless and walk.schedules > 2:
            return Case(seed, draw, plans, options, subject, walk)
        draw += _SMALLEST + 1 - small


def _options(chance: random.Random, drawer: _Drawer, small: int) -> dict[str, Any]:
    mishaps = chance.choice([(), (), ("duplicates",), ("resends",), ("rollbacks",), _TWO])
    if mishaps is _TWO:
        mishaps = tuple(chance.sample(["duplicates", "resends", "rollbacks"], 2))
    small = max(small, 2 * drawer.two + drawer.timers + drawer.itself + len(mishaps) - 2)
    mishaps = mishaps[: 2 - (small > 0) - (small > 1)]
    busy = drawer.two or drawer.timers or drawer.itself or mishaps
    many = min(chance.choice([2, 2, 2, 3] if busy else [2, 3, 3, 3, 4]), 4 if not small else 2)
    begins = 2 if chance.random() < 0.25 else 1
    given: list[Any] = [
        Ask("s", chance.choice("ab"), chance.randint(1, 2))
        if drawer.two and chance.random() < 0.25
        else Fact("s", chance.choice("abc"), chance.randint(1, 3))
        for _ in range(many - begins)
    ]
    return {
        "start": [Begin("s", chance.choice("ab"), chance.randint(1, 2)) for _ in range(begins)],
        "messages": given,
        "workers": min(chance.choice([1, 2, 2, 2, 3]), 3 if small < 2 else 2 if small < 3 else 1),
        "batch": chance.choice([1, 1, 2]),
        **dict.fromkeys(mishaps, 1),
        "timeouts": chance.random() < 0.85,
    }
