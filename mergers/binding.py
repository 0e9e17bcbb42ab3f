"""A rule, and what it becomes where it stands: a fold of values of one known type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from mergers.annotations import class_of
from mergers.errors import MergerDefinitionError, UnmergeableError
from mergers.order import owned

V = TypeVar("V")

Fold: TypeAlias = Callable[[Sequence[Any]], Any]
"""Folds one or more values, none of them None, into one; order, grouping and repetition never change the result."""


@attrs.frozen
class Place:
    """Where a rule stands: the field of a class, or the values within that field.

    Attributes:
        state_type: the class that has the field.
        field: its name.
        hint: the annotation of the values to fold; `Any` where it is unknown.
        merger_of: makes the field by field merger of a nested class.
    """

    state_type: type
    field: str
    hint: Any
    merger_of: Callable[[type[Any]], Fold]

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

    def within(self, hint: Any, rule: Rule) -> Fold:
        """Return *rule* as a fold of the values inside this one, annotated *hint*.

        Raises:
            MergerDefinitionError: the rule reads another field of the state, which a value inside one has not.
        """
        if rule.beside is not None:
            raise self.error(
                f"{rule.name} reads the field {rule.beside!r} of the state, which values inside a field do not have; "
                "give a function of the value, as in latest(by=lambda value: value.at)"
            )
        return attrs.evolve(self, hint=hint).fold(rule)

    def fold(self, rule: Rule) -> Fold:
        """Return *rule* as a fold that skips None, which says nothing; None where nobody says anything."""
        fold = rule.bind(self)
        if rule.beside is not None:
            return fold  # it is given pairs, and looks for None by itself

        def said(values: Sequence[Any]) -> Any:
            present = [value for value in values if value is not None]
            return fold(present) if present else None

        return said


@attrs.frozen(repr=False)
class Rule:
    """How one field of a state is merged: attached to its annotation, or given to `fieldwise` by keyword.

    Attributes:
        name: as users write it, such as `by_key(highest)`.
        bind: makes the fold for one place; raises `MergerDefinitionError` where the rule does not fit there.
        beside: the other field that the rule reads; the fold is then given pairs (its value, the value to fold).
    """

    name: str
    bind: Callable[[Place], Fold]
    beside: str | None = None

    def __repr__(self) -> str:
        return self.name


def rule(fold: Callable[[Sequence[V]], V]) -> Rule:
    """Make a rule of a function over the values of one field; usable as a decorator.

    The function is given one or more values, never None, in the siblings' order. It must be pure, and order, grouping
    and repetition of the values must not change its result. A TypeError in it is reported as `UnmergeableError`.
    """
    name = getattr(fold, "__name__", type(fold).__name__)
    return Rule(name, lambda place: comparing(name, fold))


def comparing(name: str, fold: Callable[[Sequence[V]], V]) -> Callable[[Sequence[V]], V]:
    """Return *fold* of the rule *name*, sharing nothing with its values and reporting those it cannot compare."""

    def folded(values: Sequence[V]) -> V:
        try:
            return owned(fold(values))
        except TypeError as error:
            raise UnmergeableError(tuple(values), f"{name} cannot compare them: {error}") from error

    return folded
