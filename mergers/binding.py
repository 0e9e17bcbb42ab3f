"""A rule, and what it becomes where it stands: a way to merge values of one known type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from mergers.annotations import class_of
from mergers.bound import Bound, Fold, Folded, Spoken
from mergers.errors import MergerDefinitionError, UnmergeableError
from mergers.order import owned, rank

V = TypeVar("V")

AncestralFold: TypeAlias = Callable[[V, V, V | None], V]
"""Merges two values with the one that they come from; None where there was none yet."""


@attrs.frozen
class Place:
    """Where a rule stands: the field of a class, or the values within that field.

    Attributes:
        state_type: the class that has the field.
        field: its name.
        hint: the annotation of the values to merge; `Any` where it is unknown.
        merger_of: makes what merges a nested class field by field.
    """

    state_type: type
    field: str
    hint: Any
    merger_of: Callable[[type[Any]], Bound]

    def error(self, mend: str) -> MergerDefinitionError:
        """Return the definition error for this place."""
        return MergerDefinitionError(self.state_type, self.field, mend)

    def require(self, *allowed: type, mend: str) -> None:
        """Refuse a place whose values are known to be of none of the *allowed* classes.

        Raises:
            MergerDefinitionError: with *mend*.
        """
        found = class_of(self.hint)
        if found is not None and not issubclass(found, allowed):
            raise self.error(f"its values are {found.__name__}; {mend}")

    def within(self, hint: Any, rule: Rule) -> Bound:
        """Return *rule* bound to the values inside this one, annotated *hint*.

        Raises:
            MergerDefinitionError: the rule reads another field of the state, which a value inside one has not.
        """
        if rule.beside is not None:
            raise self.error(
                f"{rule.name} reads the field {rule.beside.field!r} of the state, which values inside a field do not "
                f"have; {rule.beside.within}"
            )
        return attrs.evolve(self, hint=hint).bound(rule)

    def bound(self, rule: Rule) -> Bound:
        """Return *rule* bound to this place, where None says nothing; None where nobody says anything."""
        bound = rule.bind(self)
        if isinstance(bound, Bound):
            return Spoken(bound)
        if rule.beside is not None:
            return Folded(bound)  # it is given pairs, and looks for None by itself

        def said(values: Sequence[Any]) -> Any:
            present = [value for value in values if value is not None]
            return bound(present) if present else None

        return Folded(said)


@attrs.frozen
class Beside:
    """Another field of the same state, which a rule reads.

    Attributes:
        field: its name.
        merged_by: the rule that it must have, or grouping the siblings otherwise would change the result.
        within: what to do where there is no such field, in values inside a field.
    """

    field: str
    merged_by: Rule
    within: str


@attrs.frozen(repr=False)
class Rule:
    """How one field of a state is merged: attached to its annotation, or given to `fieldwise` by keyword.

    Attributes:
        name: as users write it, such as `by_key(highest)`.
        bind: makes what merges the values of one place: a fold, or where that is not enough a `Bound`; raises
            `MergerDefinitionError` where the rule does not fit there.
        beside: the other field that the rule reads; the fold is then given pairs (its value, the value to fold).
    """

    name: str
    bind: Callable[[Place], Fold | Bound]
    beside: Beside | None = None

    def __repr__(self) -> str:
        return self.name


def rule(fold: Callable[[Sequence[V]], V]) -> Rule:
    """Make a rule of a function over the values of one field; usable as a decorator.

    The function is given one or more values, never None, in the siblings' order. It must be pure, and order, grouping
    and repetition of the values must not change its result. A TypeError in it is reported as `UnmergeableError`.
    """
    name = _name_of(fold)
    return Rule(name, lambda place: comparing(name, fold))


def rule_with_ancestor(fold: AncestralFold[V]) -> Rule:
    """Make a rule of a function `fold(a, b, ancestor)` over the values of one field; usable as a decorator.

    The function returns *a* with what changed from *ancestor* to *b* made to it as well. It must be pure. It is called
    only where both sides have changed the value, and is never given None but as an ancestor: then nobody had said
    anything before. Which side is *a* is decided by their sort order, so the result is the same in every process. A
    TypeError in it is reported as `UnmergeableError`.
    """
    name = _name_of(fold)
    return Rule(name, lambda place: _Changed(name, fold))


@attrs.frozen
class _Changed(Bound):
    """The values of one field, merged by a user's function with their ancestor."""

    name: str
    fold_from: AncestralFold[Any]

    needs_ancestor = True

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        if changed == ancestor:
            return owned(onto)
        if onto == ancestor:
            return owned(changed)
        try:
            return owned(self.fold_from(onto, changed, ancestor))
        except TypeError as error:
            raise UnmergeableError((onto, changed), f"{self.name} cannot merge them: {error}") from error

    def order(self, a: Any, b: Any, ancestor: Any) -> int:
        if ancestor in (a, b):
            return 0
        return compared(a, b, a, b)


def compared(a: Any, b: Any, *said: Any) -> int:
    """Return -1 where *a* sorts before *b*, 1 where it sorts after it, 0 where they are equal.

    Raises:
        UnmergeableError: they have no order; *said* is what the siblings say.
    """
    try:
        left, right = rank(a), rank(b)
        return (right < left) - (left < right)
    except TypeError as error:
        raise UnmergeableError(
            said, f"which of them goes first cannot be told: {error}; keep plain values, or attrs objects"
        ) from error


def comparing(name: str, fold: Callable[[Sequence[V]], V]) -> Callable[[Sequence[V]], V]:
    """Return *fold* of the rule *name*, sharing nothing with its values and reporting those it cannot compare."""

    def folded(values: Sequence[V]) -> V:
        try:
            return owned(fold(values))
        except TypeError as error:
            raise UnmergeableError(tuple(values), f"{name} cannot compare them: {error}") from error

    return folded


def _name_of(fold: Callable[..., object]) -> str:
    return getattr(fold, "__name__", type(fold).__name__)
