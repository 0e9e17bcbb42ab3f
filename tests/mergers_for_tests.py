"""States and mergers that `check_merger` is tried on, where another process finds them.

They stand apart from the tests so that such a process imports neither pytest nor Hypothesis.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any

from attrs import define, field, frozen
from attrs.validators import ge, lt

import mergers
from mergers import all_equal, all_true, any_true, by_key, either, first_of, highest, latest, lowest, nested, union
from sagabus.errors import UnmergeableStateError
from sagabus.saga import Saga, starts
from tests.sagas_for_tests import Note


@define
class Count:
    n: int = 0


@define
class Tags:
    names: set[str] = field(factory=set)


@define
class Natural:
    n: int = field(default=0, validator=ge(0))


@define
class Impossible:
    n: int = field(default=0, validator=[ge(5), lt(3)])


def greatest(siblings: Sequence[Count]) -> Count:
    """Keep the laws."""
    return Count(max(s.n for s in siblings))


def changes(a: Count, b: Count, ancestor: Count) -> Count:
    """Keep the laws: apply what either changed."""
    return Count(a.n + b.n - ancestor.n)


def first(siblings: Sequence[Count]) -> Count:
    return Count(siblings[0].n)


def added(siblings: Sequence[Count]) -> Count:
    return Count(sum(s.n for s in siblings))


def mean(siblings: Sequence[Count]) -> Count:
    """Keep equal siblings, but count each time that one of unequal ones is seen."""
    return Count(sum(s.n for s in siblings) // len(siblings))


def lower_median(siblings: Sequence[Count]) -> Count:
    """Keep the middle one of the different values, which forgets what it was the middle of."""
    values = sorted({s.n for s in siblings})
    return Count(values[(len(values) - 1) // 2])


def one_more(siblings: Sequence[Count]) -> Count:
    """Count the merge itself."""
    values = {s.n for s in siblings}
    return Count(max(values) + (len(values) > 1))


def into_the_first(siblings: Sequence[Count]) -> Count:
    best = siblings[0]
    for sibling in siblings:
        best.n = max(best.n, sibling.n)
    return best


def shortening(siblings: list[Count]) -> Count:
    best = siblings.pop()
    while siblings:
        best = max(best, siblings.pop(), key=lambda s: s.n)
    return Count(best.n)


def spoiling(siblings: Sequence[Any]) -> Count:
    siblings[0].n = object()
    return Count()


def forgetful(siblings: Sequence[Count]) -> None:
    """Return nothing."""


def careless(siblings: Sequence[Count]) -> Count:
    return Count({0: 0, 1: 1}[max(s.n for s in siblings)])


def refuses_to_end_on_one(siblings: Sequence[Count]) -> Count:
    if siblings[-1].n == 1:
        raise UnmergeableStateError("one is last")
    return greatest(siblings)


def refuses_three(siblings: Sequence[Count]) -> Count:
    if len({s.n for s in siblings}) == 2:
        raise UnmergeableStateError("two values")
    return greatest(siblings)


def refuses_all(siblings: Sequence[Count]) -> Count:
    raise UnmergeableStateError("never")


def same_only(siblings: Sequence[Count]) -> Count:
    """Keep the laws: refuse all that differ."""
    if len({s.n for s in siblings}) > 1:
        raise UnmergeableStateError("they differ")
    return Count(siblings[0].n)


def first_side(a: Count, b: Count, ancestor: Count) -> Count:
    return Count(a.n if a.n != ancestor.n else b.n)


def both_sides(a: Count, b: Count, ancestor: Count) -> Count:
    return Count(a.n + b.n)


def into_the_ancestor(a: Count, b: Count, ancestor: Count) -> Count:
    ancestor.n = a.n + b.n - ancestor.n
    return Count(ancestor.n)


def refusing_side(a: Count, b: Count, ancestor: Count) -> Count:
    if a.n != ancestor.n and b.n != ancestor.n:
        raise UnmergeableStateError("both changed")
    return changes(a, b, ancestor)


def lowest_hash(siblings: Sequence[Tags]) -> Tags:
    """Keep the names with the lowest hashes, which are others in each process."""
    return Tags(min((s.names for s in siblings), key=lambda names: sorted(map(hash, names))))


def hash_of_change(a: Tags, b: Tags, ancestor: Tags) -> Tags:
    """Keep the changed side, and of two changed ones the one with the lower hashes."""
    if a.names == ancestor.names:
        return Tags(b.names)
    if b.names == ancestor.names:
        return Tags(a.names)
    return Tags(min(a.names, b.names, key=lambda names: sorted(map(hash, names))))


class Counting(Saga[Count], merger=lambda siblings: Count(max(s.n for s in siblings))):
    """Its merger has no name that leads to it; the saga has."""

    @starts
    def noted(self, m: Note) -> None:
        self.state.n += 1


by_partial = mergers.fieldwise(Count, n=highest)


class Stage(enum.Enum):
    OPEN = "open"
    PAID = "paid"
    CANCELLED = "cancelled"


@frozen
class Quote:
    amount: int
    at: int


@define
class Address:
    city: Annotated[str | None, first_of] = None
    floors: Annotated[set[int], union] = field(factory=set)


@define
class Order:
    """One field for each ready-made rule."""

    best: Annotated[int | None, highest] = None
    worst: Annotated[float, lowest] | None = None
    tags: Annotated[set[str], union] = field(factory=set)
    scores: Annotated[dict[str, int], by_key(highest)] = field(factory=dict)
    starter: Annotated[list[int] | None, first_of] = None
    quote: Annotated[Quote | None, latest(by=lambda quote: quote.at)] = None
    note: Annotated[str | None, latest(by="noted_at")] = None
    noted_at: Annotated[int | None, highest] = None
    flagged: Annotated[bool, any_true] = False
    clean: Annotated[bool, all_true] = True
    addresses: Annotated[dict[str, Address], by_key(nested)] = field(factory=dict)
    stage: Annotated[Stage, either(priority=[Stage.CANCELLED, Stage.PAID, Stage.OPEN])] = Stage.OPEN


@define
class Agreed:
    customer: Annotated[str | None, all_equal] = None
    best: Annotated[int, highest] = 0


merge_orders = mergers.fieldwise(Order)
merge_agreed = mergers.fieldwise(Agreed)


def last_in_order(siblings: Sequence[Any]) -> Any:
    return max(siblings, key=lambda state: state.n)


def chatty(siblings: Sequence[Count]) -> Count:
    print("merging")
    return greatest(siblings)
