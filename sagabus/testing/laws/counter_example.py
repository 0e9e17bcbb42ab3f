"""The smallest counter-examples that can be found near one: fewer siblings, simpler states, the same law broken.

Hypothesis shrinks the choices that made the states, one state after the other. What siblings must have in common,
such as their number of entries, it cannot take from all of them at once; so the states themselves are looked at here.
Nothing here depends on chance.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from sagabus.codec import StateCodec
from sagabus.errors import CodecError
from sagabus.testing.laws.merge_trial import ANCESTOR
from sagabus.testing.laws.merger_laws import Serial, examine
from sagabus.testing.laws.refutation import Law, Refutation
from sagabus.testing.laws.simpler import complexity, edited, edits, stored_tree, tree_of

Weight: TypeAlias = tuple[int, tuple[int, ...], int, list[bytes]]

MOST_EDITS: Final = 1_000
"""How many edited sets of siblings are tried for one counter-example."""
MOST_LISTED: Final = 300
"""How many sets of simple states of one size are tried."""
MOST_OTHERS: Final = 20
"""How many refutations are edited in search of a second counter-example."""
SIMPLEST_ANCESTORS: Final = 4
"""How many ancestors each listed set is tried with."""


class Reach(enum.Enum):
    """Where a smaller counter-example may be looked for.

    Attributes:
        GIVEN: among the siblings of the counter-example; no others are known to be possible.
        DRAWN: among the states that were drawn, too.
        EDITED: among all states of the class, too.
    """

    GIVEN = enum.auto()
    DRAWN = enum.auto()
    EDITED = enum.auto()


@frozen
class CounterExample:
    """Stored states that break a law.

    Attributes:
        siblings: different ones, the simplest first.
        ancestor: where the merger takes one.
        refutation: what they show.
    """

    siblings: tuple[bytes, ...]
    ancestor: bytes | None
    refutation: Refutation = field(eq=False)

    def within(self, siblings: Iterable[bytes], ancestor: bytes | None) -> bool:
        """Return whether *siblings* have all of its siblings, and so say nothing that it does not."""
        return ancestor == self.ancestor and set(self.siblings) <= set(siblings)


class Minimiser:
    """Looks for the smallest counter-examples to one law."""

    def __init__(
        self,
        merger: Any,
        codec: StateCodec[Any],
        law: Law,
        reach: Reach = Reach.GIVEN,
        serial: Serial | None = None,
    ) -> None:
        self._merger, self._codec, self._law, self._reach, self._serial = merger, codec, law, reach, serial
        self._initial: Any = None

    def two_smallest(
        self, found: Sequence[Refutation], drawn: Iterable[bytes] = (), ancestors: Iterable[bytes] = ()
    ) -> list[Refutation]:
        """Return the smallest counter-example near the first of *found*, and another one where there is one.

        Args:
            found: what broke the law, the smallest first.
            drawn: states that were drawn.
            ancestors: those that were drawn.
        """
        first = self.reduced(found[0])
        if first is None:
            return [found[0]]  # it broke the law once, and does no more
        smallest = [first]
        if self._reach is not Reach.GIVEN:
            smallest = sorted([*self._listed(first, drawn, ancestors), first], key=self._weight_of)
        first = smallest[0]
        seconds = (each for each in smallest[1:] if not first.within(each.siblings, each.ancestor))
        most = MOST_OTHERS if self._reach is Reach.EDITED else None
        others = (self.reduced(each, first) for each in itertools.islice(found, 1, most))
        second = next((each for each in itertools.chain(seconds, others) if each is not None), None)
        return [each.refutation for each in (first, second) if each is not None]

    def reduced(self, refutation: Refutation, unlike: CounterExample | None = None) -> CounterExample | None:
        """Return what is left of *refutation* where nothing more can be left out, and that is not *unlike*."""
        states = dict(refutation.states)
        ancestor = self._codec.encode(states.pop(ANCESTOR)) if ANCESTOR in states else None
        example = self._fewest([self._codec.encode(state) for state in states.values()], ancestor, unlike)
        if example is None or self._reach is not Reach.EDITED:
            return example
        tried: set[tuple[tuple[bytes, ...], bytes | None]] = set()
        simpler: CounterExample | None = example
        while simpler is not None:
            example, simpler = simpler, self._simpler(simpler, unlike, tried)
        return example

    def _fewest(
        self, siblings: Sequence[bytes], ancestor: bytes | None, unlike: CounterExample | None
    ) -> CounterExample | None:
        """Return how the fewest of *siblings*, the simplest named `a`, break the law; None where none do."""
        ordered = sorted(set(siblings), key=self._state_weight)
        for size in range(1, len(ordered) + 1):
            for some in itertools.combinations(ordered, size):
                example = self._broken(some, ancestor, unlike)
                if example is not None:
                    return example
        return None

    def _broken(
        self, siblings: tuple[bytes, ...], ancestor: bytes | None, unlike: CounterExample | None = None
    ) -> CounterExample | None:
        if unlike is not None and unlike.within(siblings, ancestor):
            return None
        origin = None if ancestor is None else self._codec.decode(ancestor)
        states = [self._codec.decode(data) for data in siblings]
        refutation = examine(self._merger, states, self._codec, ancestor=origin, serial=self._serial).refutation
        if refutation is None or refutation.law is not self._law:
            return None
        return CounterExample(siblings, ancestor, refutation)

    def _simpler(
        self, example: CounterExample, unlike: CounterExample | None, tried: set[tuple[tuple[bytes, ...], bytes | None]]
    ) -> CounterExample | None:
        """Return the first simpler counter-example that one edit of *example* gives."""
        old = [*example.siblings, *_listed_ancestor(example.ancestor)]
        limit = self._weight(example.siblings, example.ancestor)
        for trees in edited([tree_of(data) for data in old]):
            new = [self._stored(tree, like) for tree, like in zip(trees, old, strict=True)]
            known = [data for data in new if data is not None]
            if len(known) < len(new):
                continue
            ancestor = None if example.ancestor is None else known.pop()
            siblings = tuple(sorted(set(known), key=self._state_weight))
            if (siblings, ancestor) in tried or self._weight(siblings, ancestor) >= limit:
                continue
            if len(tried) >= MOST_EDITS:
                return None
            tried.add((siblings, ancestor))
            if self._broken(siblings, ancestor, unlike) is not None:
                return self._fewest(siblings, ancestor, unlike)
        return None

    def _listed(
        self, example: CounterExample, drawn: Iterable[bytes], ancestors: Iterable[bytes]
    ) -> list[CounterExample]:
        """Return the first two counter-examples among all sets of the simplest states, the simplest sets first."""
        pool = self._simplest([*example.siblings, *drawn], example.siblings)
        origins: Sequence[bytes | None] = [None]
        if example.ancestor is not None:
            origins = self._simplest([example.ancestor, *ancestors], [example.ancestor])[:SIMPLEST_ANCESTORS]
        found: list[CounterExample] = []
        for size in range(1, len(example.siblings) + 1):
            for siblings, ancestor in self._sets(pool, size, origins):
                listed = self._broken(siblings, ancestor, found[0] if found else None)
                if listed is not None:
                    found.append(listed)
                if len(found) == 2:
                    return found
        return found

    def _sets(
        self, pool: Sequence[bytes], size: int, origins: Sequence[bytes | None]
    ) -> list[tuple[tuple[bytes, ...], bytes | None]]:
        most = len(pool)
        while most > size and math.comb(most, size) * len(origins) > MOST_LISTED:
            most -= 1
        sets = itertools.product(itertools.combinations(pool[:most], size), origins)
        return sorted(sets, key=lambda each: self._weight(*each))

    def _simplest(self, known: Iterable[bytes], near: Iterable[bytes]) -> list[bytes]:
        """Return *known* states and, where they may be edited, those one edit from *near*; the simplest first."""
        pool = set(known)
        if self._reach is Reach.EDITED:
            for data in near:
                tree = tree_of(data)
                pool |= {new for edit in edits([tree]) if (new := self._stored(edit(tree), data)) is not None}
        return sorted(pool, key=self._state_weight)

    def _stored(self, tree: Any, like: bytes) -> bytes | None:
        """Return the state that *tree* is, as it is stored; None where its class does not take that."""
        try:
            return self._codec.encode(self._codec.decode(stored_tree(tree, like)))
        except (CodecError, TypeError, ValueError, OverflowError):
            return None

    def _weight_of(self, example: CounterExample) -> Weight:
        return self._weight(example.siblings, example.ancestor)

    def _weight(self, siblings: Sequence[bytes], ancestor: bytes | None) -> Weight:
        """Return what sorts counter-examples: how many siblings, how complex, how long, then some fixed order."""
        stored = [*_listed_ancestor(ancestor), *siblings]
        parts = [self._state_weight(data)[0] for data in stored]
        return len(siblings), tuple(map(sum, zip(*parts, strict=True))), sum(map(len, stored)), stored

    def _state_weight(self, data: bytes) -> tuple[tuple[int, int, int], int, bytes]:
        if self._reach is Reach.GIVEN:
            return (0, 0, 0), len(data), data  # in the order that given states were tried in
        if self._initial is None:
            initial = self._stored({}, data)
            self._initial = {} if initial is None else tree_of(initial)
        return complexity(tree_of(data), self._initial), len(data), data


def _listed_ancestor(ancestor: bytes | None) -> list[bytes]:
    return [] if ancestor is None else [ancestor]
