"""A merger that merges each field of a state by the rule that stands beside it."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeGuard, TypeVar

import attrs

from mergers.annotations import Unresolved, attached, field_hints, names_visible_in
from mergers.binding import Place, Rule
from mergers.bound import Bound
from mergers.errors import MergerDefinitionError
from mergers.fields import Fields

S = TypeVar("S")


@attrs.define(eq=False, slots=False)
class StateMerger(Generic[S]):
    """What `fieldwise` makes: merges the states of one saga, field by field.

    A `FieldwiseMerger`, called with the siblings; or, as soon as the rule of one field needs the ancestor, an
    `AncestralMerger`, called with two of them and the ancestor. Which it is depends on the rules, so no type checker
    can tell; a saga takes either, as its `merger=`.

    Attributes:
        state_type: the class that it merges.
        rules: the rule of each field, by name.
    """

    _fields: Fields = attrs.field(repr=False)

    @property
    def state_type(self) -> type[S]:
        return self._fields.state_type

    @property
    def rules(self) -> Mapping[str, Rule]:
        return self._fields.rules

    def __call__(self, *args: Any, **kwargs: Any) -> S:
        """Return the merged state; the two classes below say of what."""
        raise NotImplementedError

    def _require_own(self, *states: object) -> None:
        own = self.state_type
        for state in states:
            if type(state) is not own:
                wanted, given = self.state_type.__qualname__, type(state).__qualname__
                raise TypeError(f"a merger of {wanted} was given {given}; make one with fieldwise({given})")


@attrs.define(eq=False, slots=False)
class FieldwiseMerger(StateMerger[S]):
    """Folds the siblings of one saga into one state, field by field.

    Order, grouping and repetition of siblings never change the result, as far as that holds for each rule.
    """

    def __call__(self, siblings: Sequence[S], /) -> S:
        """Return a new state; change none of *siblings* (two or more, in dot order), share nothing mutable with them.

        Raises:
            UnmergeableError: no value of a field can stand for what the siblings say; `field` says which.
            TypeError: a sibling is of another class.
            ValueError: there are no siblings.
        """
        if not siblings:
            raise ValueError(f"no siblings of {self.state_type.__qualname__} to merge; give two or more")
        self._require_own(*siblings)
        merged: S = self._fields.fold(siblings)
        return merged


@attrs.define(eq=False, slots=False)
class AncestralMerger(StateMerger[S]):
    """Merges two siblings with the state that they come from, field by field.

    The result is that of handling the messages of one side after those of the other; which goes first is the same for
    all fields, and for both ways to name the sides. Rules that need no ancestor are given the two values alone.
    """

    def __call__(self, a: S, b: S, ancestor: S, /) -> S:
        """Return a new state; change none of the three, share nothing mutable with them.

        Raises:
            UnmergeableError: no value of a field can stand for what the siblings say; `field` says which.
            TypeError: one of them is of another class.
        """
        self._require_own(a, b, ancestor)
        first, second = (a, b) if self._fields.order(a, b, ancestor) <= 0 else (b, a)
        merged: S = self._fields.replay(first, second, ancestor)
        return merged

    def replayed(self, changed: S, ancestor: S, onto: S) -> S:
        """Return *onto* with what changed from *ancestor* to *changed* made to it as well.

        So `sagabus.testing.check_merger` can tell what messages make of a state: a rule such as `highest` says that no
        message ever lowers a value.

        Raises:
            UnmergeableError, TypeError: as where it is called.
        """
        self._require_own(changed, ancestor, onto)
        replayed: S = self._fields.replay(onto, changed, ancestor)
        return replayed


def fieldwise(state_type: type[S], /, **rules: Rule) -> StateMerger[S]:
    """Make the merger of *state_type* from one rule a field.

    The rule stands in the field's annotation, `scores: Annotated[dict[str, int], by_key(highest)]`, or comes by
    keyword, `scores=by_key(highest)`, which goes before the annotation. None in any field means that nothing was said
    yet: the values of the other siblings decide. Annotations may name classes that are local to the calling function.

    What it makes is called as `merge(siblings)`; where a rule needs the ancestor, also one deep inside a field, it is
    called as `merge(a, b, ancestor)`. The runtime tells them apart.

    Args:
        state_type: an attrs class, all of whose fields `__init__` takes.
        rules: rules by field name.

    Raises:
        MergerDefinitionError: a field has no rule, two, or one that does not fit its type; a keyword names no field;
            the class is no attrs class. It says which field, and what to write instead.
    """
    names = names_visible_in(sys._getframe(1))
    known: dict[type, Fields] = {}

    def merger_of(nested_type: type[Any]) -> Bound:
        return known[nested_type] if nested_type in known else make(nested_type, {})

    def make(made_type: type[Any], given: Mapping[str, Rule]) -> Fields:
        _check_class(made_type, given)
        hints = field_hints(made_type, names)
        found = {name: _rule_of(made_type, name, hint, given) for name, hint in hints.items()}
        # Known before its fields are bound, so that a class may nest itself.
        fields = known[made_type] = Fields(made_type, found)
        for name, rule in found.items():
            _check_beside(made_type, name, found)
            fields.bind(name, Place(made_type, name, hints[name], merger_of).bound(rule))
        return fields

    fields = make(state_type, rules)
    return AncestralMerger(fields) if fields.needs_ancestor else FieldwiseMerger(fields)


def _check_class(state_type: object, given: Mapping[str, Rule]) -> None:
    if not isinstance(state_type, type) or not attrs.has(state_type):
        raise MergerDefinitionError(
            state_type if isinstance(state_type, type) else type(state_type),
            "",
            "fieldwise merges attrs classes; decorate it with @attrs.define",
        )
    fields = {field.name: field for field in attrs.fields(state_type)}
    for name in given:
        if name not in fields:
            raise MergerDefinitionError(
                state_type, name, f"a rule was given for it, but the class has only: {', '.join(fields) or 'no fields'}"
            )
    for name, field in fields.items():
        if not field.init:
            raise MergerDefinitionError(
                state_type, name, "a merger cannot set a field that __init__ does not take; drop init=False"
            )


def _rule_of(state_type: type, name: str, hint: Any, given: Mapping[str, object]) -> Rule:
    metadata = list(attached(hint))
    found = [item for item in metadata if isinstance(item, Rule)]
    if name in given:
        keyword = given[name]
        if isinstance(keyword, Rule):
            return keyword
        mend = f"{keyword!r} is no rule; name one of mergers, or wrap a function of the values: mergers.rule(function)"
    elif len(found) == 1:
        return found[0]
    elif found:
        mend = f"it has {len(found)} rules, {' and '.join(rule.name for rule in found)}; keep one"
    elif isinstance(hint, Unresolved):
        mend = (
            f"its annotation names {hint.name!r}, which cannot be found when the merger is made; "
            f"import it outside TYPE_CHECKING, or give the rule by keyword"
        )
    elif uncalled := [item.__name__ for item in metadata if _makes_rules(item)]:
        mend = f"{uncalled[0]} stands there without its arguments; write {uncalled[0]}(…)"
    else:
        mend = (
            "it has no rule; annotate it, as in Annotated[int, highest], or give one by keyword, "
            f"fieldwise({state_type.__name__}, {name}=highest); all_equal says that siblings may not differ"
        )
    raise MergerDefinitionError(state_type, name, mend)


def _makes_rules(item: object) -> TypeGuard[types.FunctionType]:
    return inspect.isfunction(item) and item.__module__.partition(".")[0] == __name__.partition(".")[0]


def _check_beside(state_type: type, name: str, rules: Mapping[str, Rule]) -> None:
    beside = rules[name].beside
    if beside is None:
        return
    if beside.field not in rules:
        mend = f"{rules[name].name} names no field of the class; it has only: {', '.join(rules)}"
        raise MergerDefinitionError(state_type, name, mend)
    if rules[beside.field] is not beside.merged_by:
        found = rules[beside.field].name
        mend = f"{rules[name].name} needs {beside.field} to be merged by {beside.merged_by.name}, not {found}"
        raise MergerDefinitionError(state_type, name, mend)
