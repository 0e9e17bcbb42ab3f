"""`check_merger`: the laws of merging tried on many states, given or generated, and in other processes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from sagabus.codec import StateCodec
from sagabus.definition import definition_of, takes_ancestor
from sagabus.errors import ConfigurationError, DefinitionError, SagabusError
from sagabus.messages import enclosing_names
from sagabus.saga import Saga
from sagabus.testing.keys import fall_back_on_test_keys
from sagabus.testing.laws.counter_example import Reach
from sagabus.testing.laws.merge_search import Tried, search_generated, search_given, simplest
from sagabus.testing.laws.merge_trial import ANCESTOR, merger_name
from sagabus.testing.laws.merger_laws import ANCESTRAL_LAWS, NARY_LAWS, Serial, serial_of
from sagabus.testing.laws.other_process import Merged, Task, Unreachable, address_of, merge_all, merge_elsewhere
from sagabus.testing.laws.refutation import Law, Refutation, Result
from sagabus.testing.laws.strategies import codec_of, is_strategy, stored_states, strategies

HASH_SEEDS: Final = (1, 2)
"""Of the processes that the merger is tried in; fixed, so that a check comes out alike each time."""

_NAMES: Final = "abcdefghijklmnopqrstuvwxyz"


class MergerError(AssertionError, SagabusError):
    """A merger breaks a law of merging; the text shows by which states, and what to do.

    Attributes:
        law: which law.
        states: the smallest states that show it, in the order of their names, an ancestor last.
        results: what should have been equal.
        refutations: the smallest counter-example, and the next one where there is one.
    """

    def __init__(self, refutations: Sequence[Refutation]) -> None:
        first, *others = refutations
        shown = [first.problem, first.shown, *(f"The next smallest:\n\n{other.shown}" for other in others), first.mend]
        super().__init__("\n\n".join(shown))
        self.refutations = tuple(refutations)
        self.law: str = first.law
        self.states = tuple(first.states.values())
        self.results = first.results


@frozen
class MergerCheck:
    """What a merger was tried on, and stood.

    Attributes:
        merger: its name.
        sets: how many different sets of siblings were tried.
        refused: how many of them the merger had no value for; on those only the order was tried.
        laws: the laws that held.
        skipped: law -> why it was not tried.
    """

    merger: str
    sets: int
    refused: int
    laws: tuple[str, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        refused = f" ({self.refused} refused)" if self.refused else ""
        skipped = "".join(f"; not tried: {law}, for {reason}" for law, reason in self.skipped.items())
        return f"{self.merger}: {len(self.laws)} laws hold on {self.sets} sets of siblings{refused}{skipped}"


@frozen
class _Subject:
    """What is checked: the merger, how its states are written, and what names it in another process."""

    merger: Any
    codec: StateCodec[Any]
    ancestral: bool
    home: Any


def check_merger(
    merger: Any,
    states: Any = None,
    *,
    ancestors: Any = None,
    serial: Serial | None = None,
    max_examples: int = 300,
    seed: int = 0,
) -> MergerCheck:
    """Try to refute that *merger* keeps the laws of merging, and return what it was tried on.

    The same call tries the same states each time, and writes nothing to Hypothesis's database.

    Args:
        merger: `merge(siblings)`, `merge(a, b, ancestor)`, or a saga class, whose merger is meant.
        states: an attrs class, of which states are generated; a Hypothesis strategy; or the states themselves, of
            which all pairs and triples are tried (a sample of them where there are very many). By default the class
            of the saga's state, or of the `state_type` that the merger names.
        ancestors: for `merge(a, b, ancestor)`: the ancestors as a sequence or, where states are drawn, a strategy. By
            default they are drawn as the states are, or each given state and that of a saga that has just begun.
        serial: for `merge(a, b, ancestor)`: `serial(changed, ancestor, onto)` returns *onto* with what changed from
            *ancestor* to *changed* made to it as well, as one message after the other would. The merged state must be
            that of one of both orders. By default the merger's own method `replayed`, which those of `fieldwise` have;
            without either, that law is not tried. States are tried as what they make of the ancestor: where a value
            only grows, none that is below it.
        max_examples: how many sets of siblings are generated.
        seed: of the generated states, and of the sample.

    Raises:
        MergerError: a law is broken; an AssertionError, with the two smallest counter-examples that were found.
        ConfigurationError: there are no states, or none can be generated.
        DefinitionError: *merger* cannot be the merger of such states.
    """
    __tracebackhide__ = True  # pytest shows the line that asked
    subject = _subject(merger, states, enclosing_names(sys._getframe(1)))
    if ancestors is not None and not subject.ancestral:
        raise ConfigurationError(f"{merger_name(subject.merger)} takes siblings and no ancestor; leave ancestors= out")
    if serial is not None and not subject.ancestral:
        raise ConfigurationError(f"{merger_name(subject.merger)} takes siblings and no ancestor; leave serial= out")
    tried = Tried(subject.merger, subject.codec, serial)
    if isinstance(states, Sequence):
        search_given(tried, states, _given_ancestors(subject, states, ancestors), seed)
    else:
        own = is_strategy(states)  # of the user, who may leave out what cannot happen
        tried.reach = Reach.DRAWN if own or ancestors is not None else Reach.EDITED
        drawn = states if own else stored_states(subject.codec)
        search_generated(tried, drawn, _drawn_ancestors(subject, drawn, ancestors), max_examples, seed)
    if tried.refutations:
        raise MergerError(tried.smallest())
    laws: list[str] = list(ANCESTRAL_LAWS if subject.ancestral else NARY_LAWS)
    if subject.ancestral and serial_of(subject.merger, serial) is not None:
        laws.append(Law.SERIAL)
    skipped: dict[str, str] = {}
    if tried.refused == len(tried.cases):
        order = Law.SYMMETRIC if subject.ancestral else Law.COMMUTATIVE
        untried = laws[laws.index(order) + 1 :]
        laws = laws[: laws.index(order) + 1]
        skipped |= dict.fromkeys(untried, "the merger refused every set of siblings")
    reason = _across_processes(subject, tried)
    if reason:
        skipped[Law.ACROSS_PROCESSES] = reason
    else:
        laws.append(Law.ACROSS_PROCESSES)
    return MergerCheck(merger_name(subject.merger), len(tried.cases), tried.refused, tuple(laws), skipped)


def _subject(merger: Any, states: Any, names: Mapping[str, Any]) -> _Subject:
    fall_back_on_test_keys()
    if isinstance(merger, type) and issubclass(merger, Saga):
        definition = definition_of(merger)
        if definition.merger is None:
            raise DefinitionError(
                f"{merger.__module__}.{merger.__qualname__}",
                "is serial: it has no merger",
                "Give it one with merger=..., or check nothing",
            )
        return _Subject(definition.merger, definition.codec, definition.ancestral, merger)
    name = merger_name(merger)
    if states is None:
        states = getattr(merger, "state_type", None)
    if states is None:
        raise ConfigurationError(f"{name} does not say what it merges; give check_merger the class of the states too")
    if isinstance(states, Sequence):
        if not states:
            raise ConfigurationError(f"there are no states to try {name} on; give at least one, or their class")
        state_type = type(states[0])
    elif is_strategy(states):
        state_type = type(simplest(states))
    else:
        state_type = states
    codec = codec_of(state_type, names)
    return _Subject(merger, codec, takes_ancestor(merger, state_type, f"check_merger({name}, ...)", names), merger)


def _given_ancestors(subject: _Subject, states: Sequence[Any], ancestors: Any) -> Sequence[Any] | None:
    if not subject.ancestral:
        return None
    if ancestors is None:
        return [*states, subject.codec.state_type()]
    if not isinstance(ancestors, Sequence):
        raise ConfigurationError("the states are given, so their ancestors must be too; give ancestors as a sequence")
    return ancestors


def _drawn_ancestors(subject: _Subject, drawn: Any, ancestors: Any) -> Any:
    if not subject.ancestral:
        return None
    if ancestors is None:
        return drawn
    return ancestors if is_strategy(ancestors) else strategies().sampled_from(list(ancestors))


def _across_processes(subject: _Subject, tried: Tried) -> str:
    """Have other processes merge too, and return why they could not; empty where they came to the same.

    Raises:
        MergerError: they came to something else.
    """
    __tracebackhide__ = True  # as in check_merger
    address = address_of(subject.home)
    state = "" if subject.home is not subject.merger else address_of(subject.codec.state_type)
    for place, what in ((address, "merger"), (state, "state class")):
        if isinstance(place, Unreachable):
            return f"another process cannot find the {what}: {place.reason}"
    task = Task(str(address), str(state), tried.sample())
    elsewhere = merge_elsewhere(task, HASH_SEEDS)
    if isinstance(elsewhere, Unreachable):
        return elsewhere.reason
    here = merge_all(subject.merger, subject.codec, task)
    one, other = ((f"where PYTHONHASHSEED={seed}", merged) for seed, merged in zip(HASH_SEEDS, elsewhere, strict=True))
    for left, right in ((one, other), (("here", here), one)):
        refutations = _differing(subject, task, left, right)
        if refutations:
            raise MergerError(refutations)
    return ""


def _differing(
    subject: _Subject, task: Task, left: tuple[str, list[Merged]], right: tuple[str, list[Merged]]
) -> list[Refutation]:
    """Return the first two merges of *task* that came out differently in two places."""
    found: list[Refutation] = []
    for (siblings, ancestor), one, other in zip(task.cases, left[1], right[1], strict=True):
        if one == other:
            continue
        named = dict(zip(_NAMES, siblings, strict=False))
        call = f"merge([{', '.join(named)}])" if ancestor is None else f"merge({', '.join(named)}, ancestor)"
        if ancestor is not None:
            named[ANCESTOR] = ancestor
        states = {name: subject.codec.decode(data) for name, data in named.items()}
        results = (_result(subject, f"{call} {left[0]}", one), _result(subject, f"{call} {right[0]}", other))
        found.append(Refutation(Law.ACROSS_PROCESSES, merger_name(subject.merger), states, results))
    return found[:2]


def _result(subject: _Subject, call: str, merged: Merged) -> Result:
    if merged.state is not None:
        return Result(call, subject.codec.decode(merged.state))
    return Result(call, error=merged.error or "refused")
