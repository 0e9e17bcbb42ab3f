"""What if the siblings of a saga were merged now: by today's merger, in every order, and what would follow. Pure.

Nothing is written. A merger is to give one state whatever the order (`sagabus.testing.check_merger` tries to refute
that with made-up states; this tries it on real ones), so two results, or one that changes from call to call, are a
broken merger. Up to five siblings are merged in all their orders; more in every rotation, each of these reversed, and
in random orders up to 120 in all, drawn from a seed; of large states in fewer. A binary merger folds from the largest
context down, so for it only siblings of equally large contexts change places, and each order is tried with both sides
swapped too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

from attrs import define, field, frozen

from sagabus.advance import advance
from sagabus.codec import shown_state
from sagabus.commit import Commit, Lifecycle, Snapshot, StoredVersion
from sagabus.definition import SagaDefinition
from sagabus.envelope import Envelope, Incoming, SagaKey, derive_id
from sagabus.errors import NothingToMergeError
from sagabus.merging import merge_order, merged
from sagabus.messages import MERGE
from sagabus.observe.asked import Asked, asked
from sagabus.observe.changes import Change, changes
from sagabus.printable import said
from sagabus.redaction import scrub
from sagabus.versions import Dot

ALL_ORDERS_UP_TO: Final = 5
"""So many siblings are merged in all orders."""
MOST_ORDERS: Final = 120
"""So many orders are tried at most; all those of five siblings are as many."""
_FEWEST: Final = 6
_MOST_BYTES: Final = 40_000_000
"""So much state is merged, as stored, before fewer orders have to do; some seconds' work. Three siblings get all."""


@frozen
class Trial:
    """One merge.

    Attributes:
        order: in which order the siblings were given.
        swapped: whether a binary merger got its sides the other way round.
    """

    order: tuple[Dot, ...]
    swapped: bool = False

    def __str__(self) -> str:
        return " + ".join(map(str, self.order)) + (", sides swapped" if self.swapped else "")


@frozen
class Answer:
    """What the merger made of the siblings in some orders.

    Attributes:
        state: the state, as it would be stored, secrets encrypted; None where it raised.
        error: what it raised, in a line; else empty.
        trials: the merges that gave this, the runtime's own order first, if it is among them.
        differs: where the state differs from that of the first answer.
    """

    state: bytes | None
    error: str
    trials: tuple[Trial, ...]
    differs: tuple[Change, ...] = ()

    @property
    def plain(self) -> Any:
        """Return the state as plain data for people; None where there is none."""
        return None if self.state is None else shown_state(self.state)


@frozen
class NextStep:
    """What would be committed if the saga got its `MergeSagaState` now.

    Attributes:
        state: the state after the merge and its handler, as stored; None where it could not be merged.
        facts: what that handler asks for.
        decided_state: the state after `decide()`; None where that changes nothing and asks for nothing.
        decision: what `decide()` asks for.
        completes: whether the saga would end.
        error: why nothing would be committed, in a line; else empty.
    """

    state: bytes | None = None
    facts: tuple[Asked, ...] = ()
    decided_state: bytes | None = None
    decision: tuple[Asked, ...] = ()
    completes: bool = False
    error: str = ""

    @property
    def plain(self) -> Any:
        """Return the state that the saga would be left with, as plain data for people; None where there is none."""
        state = self.state if self.decided_state is None else self.decided_state
        return None if state is None else shown_state(state)


@frozen
class WhatIf:
    """What today's merger makes of stored siblings.

    Attributes:
        key: which saga.
        siblings: what is merged, in dot order.
        answers: the different results, that of the runtime's own order first; one is what a merger is to give.
        tried: how many merges were tried.
        all_orders: whether there are no other orders.
        seed: of the random orders, where there were any.
        mutates: whether the merger changed the states that it was given.
        unstable: whether the same order gave another result the second time.
        next: what would be committed now.
    """

    key: SagaKey
    siblings: tuple[StoredVersion, ...]
    answers: tuple[Answer, ...]
    tried: int
    all_orders: bool
    seed: int
    mutates: bool
    unstable: bool
    next: NextStep = field(repr=False)

    @property
    def broken(self) -> str:
        """Return why the merger is broken, in a sentence; empty where nothing shows that it is."""
        if self.unstable:
            return "a broken merger: the same siblings in the same order gave another result the second time"
        if len(self.answers) > 1:
            return f"a broken merger: {len(self.answers)} different results, depending on the order of the siblings"
        if self.mutates:
            return "a broken merger: it changes the states that it is given"
        return ""

    @property
    def refused(self) -> str:
        """Return what the merger raises in the runtime's own order, in a line; empty where it merges."""
        return self.answers[0].error


def what_if(definition: SagaDefinition, snapshot: Snapshot, *, seed: int = 0) -> WhatIf:
    """Return what today's merger would make of the siblings in *snapshot*, and what would follow.

    Args:
        seed: of the random orders, where there are too many siblings for all.

    Raises:
        NothingToMergeError: there are no siblings, or the saga has no merger.
    """
    check_mergeable(definition, snapshot)
    ordered = tuple(merge_order(definition, snapshot.versions))
    orders, all_orders = _orders(definition, ordered, seed)
    trials = _Trials(definition)
    for order in orders:
        trials.add(order)
        if definition.ancestral:
            trials.add(order, swapped=True)
    unstable = trials.again_differs(ordered)
    return WhatIf(
        key=snapshot.key,
        siblings=snapshot.versions,
        answers=trials.answers(),
        tried=trials.tried,
        all_orders=all_orders,
        seed=seed,
        mutates=trials.mutates,
        unstable=unstable,
        next=next_step(definition, snapshot),
    )


def check_mergeable(definition: SagaDefinition, snapshot: Snapshot) -> None:
    """Make sure that there are siblings, and a merger for them.

    Raises:
        NothingToMergeError: it is not so; the text says what is.
    """
    if snapshot.lifecycle is Lifecycle.COMPLETED:
        raise NothingToMergeError(str(snapshot.key), "it has completed")
    if len(snapshot.versions) < 2:
        raise NothingToMergeError(str(snapshot.key), "it has one version, and no siblings")
    if definition.merger is None:
        siblings = len(snapshot.versions)
        why = f"{definition.name} has no merger in this app, but {siblings} siblings; give it merger= again"
        raise NothingToMergeError(str(snapshot.key), why)


def next_step(definition: SagaDefinition, snapshot: Snapshot) -> NextStep:
    """Return what would be committed if the saga in *snapshot* got its `MergeSagaState` now."""
    id_ = snapshot.pending_merge or derive_id("what-if", snapshot.key, snapshot.life)
    envelope = Envelope(
        specversion="1.0", id=id_, source="/what-if", type=MERGE, saga=str(snapshot.key), sagalife=snapshot.life
    )
    commit = advance(definition, snapshot, [Incoming(envelope)])
    errors = [commit.unmergeable, *(failure.error for failure in commit.failures)]
    error = next((error for error in errors if error is not None), None)
    if error is not None:
        return NextStep(error=in_a_line(error))
    return _step(commit)


def _step(commit: Commit) -> NextStep:
    decision = commit.decision
    return NextStep(
        state=commit.facts.state,
        facts=asked(commit.facts),
        decided_state=decision.state if decision else None,
        decision=asked(decision),
        completes=commit.completes,
    )


def in_a_line(error: BaseException) -> str:
    """Return what was raised, in a line and without credentials."""
    return scrub(said(error))


# -- orders ------------------------------------------------------------------------------------------------------

Order = tuple[StoredVersion, ...]


def _orders(definition: SagaDefinition, ordered: Order, seed: int) -> tuple[list[Order], bool]:
    """Return the orders to try, *ordered* first, and whether there are no others."""
    groups = _groups(definition, ordered)
    many = math.prod(math.factorial(len(group)) for group in groups)
    most = max(_FEWEST, min(MOST_ORDERS, _MOST_BYTES // max(sum(len(version.state) for version in ordered), 1)))
    if many <= most and all(len(group) <= ALL_ORDERS_UP_TO for group in groups):
        every = (
            tuple(itertools.chain.from_iterable(parts))
            for parts in itertools.product(*map(itertools.permutations, groups))
        )
        return list(every), True
    random = Random(seed)
    found = {_dots(order): order for order in _turned(groups)}
    while len(found) < min(most, many):
        shuffled = [random.sample(group, len(group)) for group in groups]
        order = tuple(itertools.chain.from_iterable(shuffled))
        found.setdefault(_dots(order), order)
    return list(found.values())[:most], False


def _dots(order: Order) -> tuple[Dot, ...]:
    return tuple(version.dot for version in order)


def _groups(definition: SagaDefinition, ordered: Order) -> list[Order]:
    """Return the siblings that may change places with each other."""
    if not definition.ancestral:
        return [ordered]
    return [tuple(group) for _, group in itertools.groupby(ordered, key=lambda v: sum(v.context.values()))]


def _turned(groups: Sequence[Order]) -> Iterator[Order]:
    """Yield every rotation, and each of these reversed."""
    for turn in range(max(map(len, groups))):
        turned = [(*group[turn % len(group) :], *group[: turn % len(group)]) for group in groups]
        yield tuple(itertools.chain.from_iterable(turned))
        yield tuple(itertools.chain.from_iterable(reversed(group) for group in turned))


@define
class _Trials:
    """Merges in one order after another, and keeps what came of it."""

    definition: SagaDefinition
    tried: int = 0
    mutates: bool = False
    _found: dict[tuple[bytes | None, str], list[Trial]] = field(factory=dict)
    _errors: dict[str, str] = field(factory=dict)

    def add(self, order: Order, *, swapped: bool = False) -> tuple[bytes | None, str]:
        """Merge once; return the state, or the name of what was raised."""
        self.tried += 1
        answer: tuple[bytes | None, str]
        try:
            state = merged(self.definition, order, self._watched, swapped=swapped)
            answer = self.definition.codec.encode(state), ""
        except Exception as error:
            # Which of two values it names first may hang on the order, and is no difference.
            answer = None, type(error).__qualname__
            self._errors.setdefault(answer[1], in_a_line(error))
        self._found.setdefault(answer, []).append(Trial(_dots(order), swapped))
        return answer

    def again_differs(self, order: Order) -> bool:
        """Return whether the first order gives something else this time."""
        first = next(iter(self._found))
        trial = _Trials(self.definition)
        self.tried += 1
        return trial.add(order) != first

    def _watched(self, _message: object, merger: Any, *args: Any) -> Any:
        """Call the merger, and note whether it changes what it is given."""
        states = args[0] if len(args) == 1 else args
        before = [self.definition.codec.encode(state) for state in states]
        given = list(states)
        result = merger(*args)
        try:
            self.mutates = self.mutates or before != [self.definition.codec.encode(state) for state in given]
        except Exception:
            self.mutates = True  # it was made into something that cannot be written
        return result

    def answers(self) -> tuple[Answer, ...]:
        """Return the different results, in the order in which they came."""
        found: list[Answer] = []
        for (state, name), trials in self._found.items():
            answer = Answer(state, self._errors.get(name, ""), tuple(trials))
            if found and answer.state is not None and found[0].state is not None:
                differs = tuple(changes(found[0].plain, answer.plain))
                answer = Answer(state, "", answer.trials, differs)
            found.append(answer)
        return tuple(found)
