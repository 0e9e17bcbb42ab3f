"""Trying a merger on many sets of siblings, and keeping the smallest that refute it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from attrs import field, mutable

from sagabus.codec import StateCodec
from sagabus.errors import ConfigurationError
from sagabus.testing.laws.counter_example import Minimiser, Reach
from sagabus.testing.laws.merge_trial import ANCESTOR
from sagabus.testing.laws.merger_laws import Serial, examine
from sagabus.testing.laws.refutation import Law, Refutation
from sagabus.testing.laws.siblings import forks_of, siblings_of

Case: TypeAlias = tuple[list[bytes], bytes | None]
"""Stored siblings, and their ancestor where the merger takes one."""

S = TypeVar("S")
_Weight: TypeAlias = tuple[int, int, list[bytes]]

MOST_GIVEN: Final = 20_000
"""Up to how many sets of given states are tried, a size; of more it is a sample."""
MOST_ELSEWHERE: Final = 400
"""Of how many sets another process merges."""


@mutable
class Tried:
    """What a merger was tried on so far.

    Attributes:
        merger: the merger.
        codec: writes its states.
        serial: what a binary merger must be equal to; None where nobody says.
        reach: where a smaller counter-example may be looked for.
        cases: the sets of siblings, as they are stored, in the order they were tried.
        refused: how many of them the merger had no value for.
        refutations: what broke a law, by the key of the set.
        minimal: the key of the set that Hypothesis could not make smaller.
    """

    merger: Any
    codec: StateCodec[Any]
    serial: Serial | None = None
    reach: Reach = Reach.GIVEN
    cases: dict[tuple[bytes, ...], Case] = field(factory=dict)
    refused: int = 0
    refutations: dict[tuple[bytes, ...], Refutation] = field(factory=dict)
    minimal: tuple[bytes, ...] = ()

    def fails(self, siblings: Sequence[Any], ancestor: Any | None = None) -> bool:
        """Try one set of siblings, and return whether they break a law."""
        key = self.key(siblings, ancestor)
        verdict = examine(self.merger, siblings, self.codec, ancestor=ancestor, serial=self.serial)
        if verdict.refutation is not None:
            self.refutations[key] = verdict.refutation
        if key not in self.cases:
            self.refused += verdict.refused
            stored = list(key if ancestor is None else key[:-1])
            self.cases[key] = (stored if len(stored) > 1 else stored * 2, None if ancestor is None else key[-1])
        return verdict.refutation is not None

    def key(self, siblings: Sequence[Any], ancestor: Any | None = None) -> tuple[bytes, ...]:
        """Return what tells one set of siblings from another."""
        return tuple(self.codec.encode(state) for state in (*siblings, *(() if ancestor is None else (ancestor,))))

    def smallest(self) -> list[Refutation]:
        """Return the smallest counter-example, then the next one that breaks the same law with other states.

        A merger that is not deterministic may seem to break any law; where that was seen, it is what is returned.
        """
        ordered = sorted(self.refutations.values(), key=self._size)
        unsteady = [each for each in ordered if each.law is Law.DETERMINISTIC]
        first = unsteady[0] if unsteady else self.refutations.get(self.minimal, ordered[0])
        others = [each for each in ordered if each.law is first.law and each is not first]
        drawn = {data for siblings, _ in self.cases.values() for data in siblings}
        ancestors = {ancestor for _, ancestor in self.cases.values() if ancestor is not None}
        minimiser = Minimiser(self.merger, self.codec, first.law, self.reach, self.serial)
        return minimiser.two_smallest([first, *others], drawn, ancestors)

    def is_second(self, siblings: Sequence[Any], ancestor: Any | None = None) -> bool:
        """Return whether a set that failed breaks the law that the first one broke, and by other states."""
        first, latest = next(iter(self.refutations.values())), self.refutations[self.key(siblings, ancestor)]
        if latest is first or latest.law is not first.law:
            return False
        minimiser = Minimiser(self.merger, self.codec, first.law, serial=self.serial)
        example = minimiser.reduced(first)
        return example is None or minimiser.reduced(latest, example) is not None

    def sample(self) -> list[Case]:
        """Return some of the sets, spread over all of them, the smallest first."""
        cases = list(self.cases.values())
        step = max(1, math.ceil(len(cases) / MOST_ELSEWHERE))
        return sorted(cases[::step], key=lambda case: _weight([*case[0], case[1] or b""]))

    def _size(self, refutation: Refutation) -> _Weight:
        states = dict(refutation.states)
        ancestor = [states.pop(ANCESTOR)] if ANCESTOR in states else []
        return _weight([self.codec.encode(state) for state in (*ancestor, *states.values())])


def search_given(tried: Tried, states: Sequence[Any], ancestors: Sequence[Any] | None, seed: int) -> None:
    """Try each of *states*, all pairs and all triples, the smallest first, until two sets break a law.

    Raises:
        ConfigurationError: they are of different classes.
    """
    strange = next((each for each in states if type(each) is not tried.codec.state_type), None)
    if strange is not None:
        expected, found = tried.codec.state_type.__qualname__, type(strange).__qualname__
        raise ConfigurationError(f"a {found} stands among states of {expected}; give states of one class")
    stored = {tried.codec.encode(state): state for state in states}
    distinct = [stored[data] for data in sorted(stored, key=lambda data: _weight([data]))]
    if ancestors is not None:
        _try(tried, _forks(distinct, ancestors, seed))
        return
    for size in (1, 2, 3):
        if _try(tried, [(siblings, None) for siblings in _combinations(distinct, size, seed)]):
            return


def search_generated(tried: Tried, drawn: Any, ancestors: Any | None, max_examples: int, seed: int) -> None:
    """Try siblings made from the strategy *drawn*, and have Hypothesis shrink what breaks a law.

    Raises:
        ConfigurationError: nothing can be drawn.
    """
    from hypothesis import Phase, errors, find, settings  # only tests have it

    quiet = settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        backend="hypothesis",
    )
    siblings = siblings_of(drawn) if ancestors is None else forks_of(drawn, ancestors)

    def fails(family: tuple[Any, ...]) -> bool:
        return tried.fails(family) if ancestors is None else tried.fails(family[:2], family[2])

    try:
        minimal = find(siblings, fails, settings=quiet, random=random.Random(seed))
    except errors.NoSuchExample:
        return
    except errors.Flaky:
        return  # the merger is not deterministic: what it broke once is among the refutations
    except errors.Unsatisfiable as error:
        raise _nothing(error) from error
    tried.minimal = tried.key(minimal) if ancestors is None else tried.key(minimal[:2], minimal[2])


def simplest(drawn: Any) -> Any:
    """Return the simplest value that the strategy *drawn* makes.

    Raises:
        ConfigurationError: it makes none.
    """
    from hypothesis import errors, find, settings  # whoever has a strategy has Hypothesis

    quiet = settings(database=None, deadline=None)
    try:
        return find(drawn, lambda value: True, settings=quiet, random=random.Random(0))
    except (errors.NoSuchExample, errors.Unsatisfiable) as error:
        raise _nothing(error) from error


def _nothing(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"no state can be generated that its validators take and the store gives back ({error}); "
        f"pass a Hypothesis strategy that makes some, or the states themselves"
    )


def _try(tried: Tried, cases: Iterable[tuple[Sequence[Any], Any | None]]) -> bool:
    """Try *cases*, the smallest first, until two different ones break a law, and return whether two did."""

    def weight(case: tuple[Sequence[Any], Any | None]) -> _Weight:
        *siblings, last = tried.key(*case)
        return _weight([last, *siblings])  # an ancestor is last, and made simple first

    return any(
        tried.fails(siblings, ancestor) and tried.is_second(siblings, ancestor)
        for siblings, ancestor in sorted(cases, key=weight)
    )


def _combinations(states: Sequence[S], size: int, seed: int) -> list[tuple[S, ...]]:
    """Return all sets of *size* states, or a sample where there are very many."""
    if math.comb(len(states), size) <= MOST_GIVEN:
        return list(itertools.combinations(states, size))
    source = random.Random(seed)
    places = {tuple(sorted(source.sample(range(len(states)), size))) for _ in range(MOST_GIVEN)}
    return [tuple(states[place] for place in picked) for picked in sorted(places)]


def _forks(states: Sequence[S], ancestors: Sequence[S], seed: int) -> list[tuple[tuple[S, S], S]]:
    """Return all pairs of states, equal ones too, each with every ancestor; a sample where that is too many."""
    if math.comb(len(states) + 1, 2) * len(ancestors) <= MOST_GIVEN:
        pairs = itertools.combinations_with_replacement(states, 2)
        return list(itertools.product(pairs, ancestors))
    source = random.Random(seed)
    return [((source.choice(states), source.choice(states)), source.choice(ancestors)) for _ in range(MOST_GIVEN)]


def _weight(stored: Iterable[bytes]) -> _Weight:
    """Return what sorts sets of stored states: how many, how long, and then some fixed order."""
    listed = list(stored)
    return len(listed), sum(map(len, listed)), listed
