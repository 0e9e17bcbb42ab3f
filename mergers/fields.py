"""The fields of one class, each bound to its rule: objects are merged field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import attrs

from mergers.binding import Rule
from mergers.bound import Bound
from mergers.errors import UnmergeableError

V = TypeVar("V")


@attrs.define(eq=False, slots=False)
class Fields(Bound):
    """Merges objects of one class.

    Attributes:
        state_type: the class.
        rules: the rule of each field, by name.
        bound: the same, bound; filled when this is known already, so that a class may nest itself.
        needs_ancestor: whether one of the rules does. Complete for the class that a merger was asked for, once all
            its fields are bound; classes that nest each other may not know it of each other.
    """

    state_type: type[Any]
    rules: Mapping[str, Rule]
    bound: dict[str, Bound] = attrs.field(factory=dict, init=False, repr=False)
    needs_ancestor: bool = attrs.field(default=False, init=False)

    def bind(self, name: str, bound: Bound) -> None:
        """Merge the field *name* by *bound*."""
        self.bound[name] = bound
        self.needs_ancestor |= bound.needs_ancestor

    def fold(self, values: Sequence[Any]) -> Any:
        merged = {}
        for field in self._fields:
            name, alias = field.name, field.alias
            if self.rules[name].beside is None:
                said = [getattr(value, name) for value in values]
            else:
                said = [self._said(value, name) for value in values]
            merged[str(alias)] = _under(name, self.bound[name].fold, said)
        return self.state_type(**merged)

    def replay(self, onto: Any, changed: Any, ancestor: Any) -> Any:
        merged = {}
        for field in self._fields:
            said = [self._said(value, field.name) for value in (onto, changed, ancestor)]
            merged[str(field.alias)] = _under(field.name, self.bound[field.name].replay, *said)
        return self.state_type(**merged)

    def order(self, a: Any, b: Any, ancestor: Any) -> int:
        """Return which side goes first: one order for all fields, or no order of messages would give the result."""
        for field in self._fields:
            said = [self._said(value, field.name) for value in (a, b, ancestor)]
            if found := _under(field.name, self.bound[field.name].order, *said):
                return found
        return 0

    @cached_property
    def _fields(self) -> Sequence[attrs.Attribute[Any]]:
        return attrs.fields(self.state_type)  # type: ignore[no-any-return]

    def _said(self, value: Any, name: str) -> Any:
        """Return what *value* (None where there is no ancestor) has in a field, with the field beside where one is."""
        beside = self.rules[name].beside
        said = getattr(value, name, None)
        return said if beside is None else (getattr(value, beside.field, None), said)


def _under(name: str, merge: Callable[..., V], *said: Any) -> V:
    try:
        return merge(*said)
    except UnmergeableError as error:
        raise error.under(name) from error.__cause__
