"""The laws that a merger must keep, tried on concrete states. Pure: needs neither pytest nor Hypothesis.

Whoever merges first, in whatever order and grouping, every worker must come to the same state; these laws say that.
They are those of a join of a semilattice (Shapiro, Preguiça, Baquero, Zawirski: Conflict-free Replicated Data Types).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import frozen

from sagabus.codec import StateCodec
from sagabus.errors import ConfigurationError
from sagabus.testing.laws.merge_trial import ANCESTOR, Answers, BrokenCallError, MergeTrial, Term
from sagabus.testing.laws.refutation import Law, Refutation

Merger: TypeAlias = Callable[..., Any]
"""Either kind: `merge(siblings)`, or `merge(a, b, ancestor)`."""

ALL_ORDERS: Final = 4
"""Up to how many siblings every order and grouping is tried."""

REPEATS: Final = 5
"""How often a call is made again before a broken law is blamed on something else than chance."""

NARY_LAWS: Final = (
    Law.ANSWERS,
    Law.STORABLE,
    Law.MUTATES_NOTHING,
    Law.DETERMINISTIC,
    Law.COMMUTATIVE,
    Law.IDEMPOTENT,
    Law.ASSOCIATIVE,
    Law.ABSORBING,
)
"""What `refute` tries of `merge(siblings)`, in this order."""

ANCESTRAL_LAWS: Final = (
    Law.ANSWERS,
    Law.STORABLE,
    Law.MUTATES_NOTHING,
    Law.DETERMINISTIC,
    Law.SYMMETRIC,
    Law.ONE_SIDED,
)
"""What `refute` tries of `merge(a, b, ancestor)`, in this order; then `Law.SERIAL`, where somebody says what is."""

Serial: TypeAlias = Callable[[Any, Any, Any], Any]
"""`serial(changed, ancestor, onto)`: *onto* with what changed from *ancestor* to *changed* made to it as well."""

_Comparison: TypeAlias = tuple[Law, Term, Term]
"""A law, and two terms that it says are equal."""
_Compare: TypeAlias = Callable[[MergeTrial], Iterator[_Comparison]]


@frozen
class Verdict:
    """What trying the laws on one set of siblings came to.

    Attributes:
        refutation: the first law that is broken; None where all hold.
        refused: whether the merger had no value for the siblings, in whatever order; then no other law was tried.
    """

    refutation: Refutation | None = None
    refused: bool = False


def refute(
    merger: Merger,
    siblings: Sequence[Any],
    codec: StateCodec[Any],
    *,
    ancestor: Any | None = None,
    serial: Serial | None = None,
    answers: Answers | None = None,
) -> Refutation | None:
    """Return the first law that *merger* breaks on *siblings*; None where it keeps them all.

    States are equal where their stored bytes are. Every call is given copies fresh from those bytes, as the runtime
    does it, so that a merger that changes its input spoils nothing here.

    Args:
        siblings: one or more; one stands for a state that meets its equal.
        ancestor: the state that the siblings come from. With it *merger* is called as `merge(a, b, ancestor)`, for
            every two siblings; without it as `merge(siblings)`.
        serial: what the merger must be equal to, as `check_merger` has it.
        answers: where several sets of siblings of one merger are tried: what it has answered so far. It is asked once
            in all for each list of states, and for these siblings, as they are, once more.

    Raises:
        ConfigurationError: there are no siblings.
    """
    return examine(merger, siblings, codec, ancestor=ancestor, serial=serial, answers=answers).refutation


def examine(
    merger: Merger,
    siblings: Sequence[Any],
    codec: StateCodec[Any],
    *,
    ancestor: Any | None = None,
    serial: Serial | None = None,
    answers: Answers | None = None,
) -> Verdict:
    """Return what trying the laws came to, as `refute` does, and whether the merger refused the siblings."""
    if not siblings:
        raise ConfigurationError("there are no siblings to merge; give one or more states")
    trial = MergeTrial(merger, codec, answers)
    terms = [trial.term(name, state) for name, state in zip(_names(), siblings, strict=False)]
    if len(terms) == 1:
        terms *= 2
    sets: list[_Compare]
    if ancestor is None:
        sets = [partial(_nary, terms)]
    else:
        origin = trial.term(ANCESTOR, ancestor)
        serial = serial_of(merger, serial)
        if serial is not None:
            terms = [_descended(trial, serial, term, origin) for term in terms]
        sets = [partial(_ancestral, serial, a, b, origin) for a, b in itertools.combinations(terms, 2)]
    refused = True
    try:
        for compare in sets:
            for law, left, right in compare(trial):
                if left.state != right.state:
                    unsteady = _unsteady(partial(compare, MergeTrial(merger, codec)))
                    return Verdict(trial.refutation(*unsteady or (law, left, right)))
                refused &= left.state is None
    except BrokenCallError as broken:
        return Verdict(broken.refutation)
    return Verdict(refused=refused)


def serial_of(merger: Merger, serial: Serial | None) -> Serial | None:
    """Return what says how changes follow each other: what was given, or what the merger says itself, if it does."""
    return serial if serial is not None else getattr(merger, "replayed", None)


def _descended(trial: MergeTrial, serial: Serial, term: Term, ancestor: Term) -> Term:
    """Return what messages can have made of *ancestor* that come to *term*: where values only grow, not any state."""
    made = trial.replayed(serial, term, ancestor, ancestor)
    return term if made.state is None else Term(term.call, made.state)


def _unsteady(compare: Callable[[], Iterator[_Comparison]]) -> _Comparison | None:
    """Return a call that gave two results; None where it stays with one.

    What depends on chance seems to break any law, so this is looked at again where one is broken.
    """
    calls = [next(compare()) for _ in range(REPEATS)]
    first = calls[0][1]
    return next(((law, first, call) for law, *pair in calls for call in pair if call.state != first.state), None)


def _names() -> Iterator[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return itertools.chain(letters, (f"s{number}" for number in itertools.count(len(letters))))


def _nary(terms: Sequence[Term], trial: MergeTrial) -> Iterator[_Comparison]:
    merge = trial.merge
    whole = merge(*terms)
    yield Law.DETERMINISTIC, whole, trial.again(whole)
    for order in _orders(terms):
        yield Law.COMMUTATIVE, whole, merge(*order)
    if whole.refused:
        return
    for term in terms:
        alone = merge(term, term)
        if not alone.refused:  # a state that no merge takes, not even with its equal, says nothing about repetition
            yield Law.IDEMPOTENT, alone, term
        yield Law.IDEMPOTENT, whole, merge(*terms, term)
    for blocks in _groupings(terms):
        folded = [block[0] if len(block) == 1 else merge(*block) for block in blocks]
        stuck = next((block for block in folded if block.refused), None)
        yield Law.ASSOCIATIVE, whole, stuck or merge(*folded)
    for term in terms:
        yield Law.ABSORBING, whole, merge(term, whole)
        yield Law.ABSORBING, whole, merge(whole, term)


def _ancestral(serial: Serial | None, a: Term, b: Term, ancestor: Term, trial: MergeTrial) -> Iterator[_Comparison]:
    merge = trial.merge_from
    both = merge(a, b, ancestor)
    yield Law.DETERMINISTIC, both, trial.again(both)
    yield Law.SYMMETRIC, both, merge(b, a, ancestor)
    if both.refused:
        return
    for changed in (a, b):
        yield Law.ONE_SIDED, merge(changed, ancestor, ancestor), changed
        yield Law.ONE_SIDED, merge(ancestor, changed, ancestor), changed
    if serial is not None:
        orders = [trial.replayed(serial, after, ancestor, before) for before, after in ((a, b), (b, a))]
        yield Law.SERIAL, both, next((order for order in orders if order.state == both.state), orders[0])


def _orders(terms: Sequence[Term]) -> Iterator[Sequence[Term]]:
    """Yield the other orders of *terms*: all of a few, of many the reverse and the rotations."""
    if len(terms) <= ALL_ORDERS:
        yield from itertools.islice(itertools.permutations(terms), 1, None)
        return
    yield terms[::-1]
    for start in range(1, len(terms)):
        yield [*terms[start:], *terms[:start]]


def _groupings(terms: Sequence[Term]) -> Iterator[list[list[Term]]]:
    """Yield ways to merge some of *terms* first: every partition of a few, of many every cut into two.

    Deeper nestings follow: each is a merge of merges of what was merged.
    """
    if len(terms) <= ALL_ORDERS:
        yield from (blocks for blocks in _partitions(terms) if 1 < len(blocks) < len(terms))
        return
    for cut in range(1, len(terms)):
        yield [list(terms[:cut]), list(terms[cut:])]


def _partitions(terms: Sequence[Term]) -> Iterator[list[list[Term]]]:
    if not terms:
        yield []
        return
    *others, last = terms
    for blocks in _partitions(others):
        for index, block in enumerate(blocks):
            yield [*blocks[:index], [*block, last], *blocks[index + 1 :]]
        yield [*blocks, [last]]
