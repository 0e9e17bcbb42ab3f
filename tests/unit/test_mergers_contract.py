"""Every public rule of `mergers` stands `check_merger`; what messages make one after the other is said here anew."""

from __future__ import annotations

import datetime
import decimal
import inspect
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import attrs
import pytest
from hypothesis import strategies as st

import mergers
from mergers import (
    AncestralMerger,
    Rule,
    add_wins,
    additions,
    all_equal,
    all_true,
    any_true,
    by_key,
    either,
    fieldwise,
    first_of,
    highest,
    latest,
    lowest,
    nested,
    remove_wins,
    rule,
    rule_with_ancestor,
    union,
)
from sagabus.testing import MergerError, check_merger
from sagabus.testing.laws.merger_laws import ANCESTRAL_LAWS, NARY_LAWS
from sagabus.testing.laws.refutation import Law
from tests.mergers_for_tests import Address, Quote


def plus(zero: Any) -> Callable[[Any, Any, Any], Any]:
    """Return what adding one change of a number after another gives."""

    def added(changed: Any, ancestor: Any, onto: Any) -> Any:
        if changed is None:
            return onto
        before = zero if ancestor is None else ancestor
        return (before if onto is None else onto) + (changed - before)

    return added


def entries(changed: list[str], ancestor: list[str], onto: list[str]) -> list[str]:
    """Remove and append, of lists in which every entry is another."""
    after = [entry for entry in onto if entry in changed or entry not in ancestor]
    for entry in changed:
        if entry not in ancestor:
            after.append(entry)
    return after


def members(changed: set[str], ancestor: set[str], onto: set[str]) -> set[str]:
    """Add and discard, member by member."""
    after = set(onto)
    for member in changed | ancestor:
        if member not in ancestor:
            after.add(member)
        elif member not in changed:
            after.discard(member)
    return after


def counters(changed: dict[str, int], ancestor: dict[str, int], onto: dict[str, int]) -> dict[str, int]:
    """Add under each key; what is not named has had nothing added to it."""
    after = dict(onto)
    for key, value in changed.items():
        before = ancestor.get(key, 0)
        after[key] = after.get(key, before) + value - before
    return after


def texts(changed: str, ancestor: str, onto: str) -> str:
    return onto + changed.removeprefix(ancestor)


@rule
def longest(values: Any) -> Any:
    return max(values, key=lambda value: (len(value), value))


@rule_with_ancestor
def typed(a: str, b: str, ancestor: str | None) -> str:
    return a + b.removeprefix(ancestor or "")


@attrs.define
class Account:
    """What is nested: rules with an ancestor and without."""

    owner: Annotated[str | None, first_of] = None
    cents: Annotated[int, additions] = 0
    moves: Annotated[list[str], additions] = attrs.field(factory=list)
    notes: Annotated[list[str], additions] = attrs.field(factory=list)


@attrs.define
class Bank:
    main: Annotated[Account, nested] = attrs.field(factory=Account)
    others: Annotated[dict[str, Account], by_key(nested)] = attrs.field(factory=dict)


@attrs.frozen
class Case:
    """A rule where it stands.

    Attributes:
        rule: of the field `value`.
        hint: the annotation of that field.
        serial: for a rule that needs the ancestor: a value after one change and then another.
        values: what is drawn; by default anything that the annotation allows.
        beside: name -> (annotation, rule), of the fields that the rule reads.
    """

    rule: Rule
    hint: Any
    serial: Callable[[Any, Any, Any], Any] | None = None
    values: Any = None
    beside: dict[str, tuple[Any, Rule]] = attrs.field(factory=dict)

    def state(self) -> type[Any]:
        """Return a state class that has the field."""
        hints = {"value": self.hint, **{name: hint for name, (hint, _) in self.beside.items()}}
        return attrs.make_class("State", {name: attrs.field(type=hint) for name, hint in hints.items()})

    def merger(self, state: type[Any]) -> Any:
        """Return the merger of that class."""
        return fieldwise(state, value=self.rule, **{name: beside for name, (_, beside) in self.beside.items()})


unique = st.lists(st.sampled_from("abcd"), unique=True, max_size=4)

RULES: dict[str, list[Case]] = {
    "highest": [Case(highest, int | None), Case(highest, datetime.date)],
    "lowest": [Case(lowest, str | None)],
    "union": [Case(union, set[str] | None), Case(union, frozenset[int])],
    "by_key": [
        Case(by_key(highest), dict[str, int | None]),
        Case(by_key(nested), dict[str, Address]),
        Case(by_key(additions), dict[str, int], counters),
    ],
    "nested": [Case(nested, Address | None)],
    "first_of": [Case(first_of, list[int] | None)],
    "all_equal": [Case(all_equal, bool | None)],
    "any_true": [Case(any_true, bool | None)],
    "all_true": [Case(all_true, bool | None)],
    "latest": [
        Case(latest(by=lambda quote: quote.at), Quote | None),
        Case(latest(by="at"), str | None, beside={"at": (int | None, highest)}),
    ],
    "either": [Case(either(priority=[2, -1, 0, 1, 3]), int)],
    "rule": [Case(longest, str | None)],
    "remove_wins": [Case(remove_wins(removed="gone"), set[str] | None, beside={"gone": (set[str] | None, union)})],
    "additions": [
        Case(additions, int, plus(0)),
        Case(additions, int | None, plus(0)),
        Case(additions, Decimal, plus(Decimal(0))),
        Case(additions, datetime.timedelta, plus(datetime.timedelta())),
        Case(additions, float, plus(0.0)),
        Case(additions, list[str], entries, unique),
        Case(additions, list[int] | None),
        Case(additions, tuple[str, ...]),
    ],
    "add_wins": [Case(add_wins, set[str], members), Case(add_wins, frozenset[int] | None)],
    "rule_with_ancestor": [Case(typed, str, texts), Case(typed, str | None)],
}
CASES = [pytest.param(case, id=f"{name} {case.hint}") for name, cases in RULES.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
def test_rule_stands_every_law_of_its_kind(case: Case) -> None:
    """Rules without ancestor are joins of a semilattice; those with one are symmetric, and equal to a serial order."""
    state = case.state()
    merger, said = case.merger(state), case.serial

    def serial(changed: Any, ancestor: Any, onto: Any) -> Any:
        assert said is not None
        return state(said(changed.value, ancestor.value, onto.value))

    states = state if case.values is None else st.builds(state, case.values)
    binary = isinstance(merger, AncestralMerger)
    # Two changed sides and what they come from are rarely of use together, so more of them are drawn.
    check = check_merger(merger, states, serial=serial if said else None, max_examples=150 if binary else 60)
    wanted = (*ANCESTRAL_LAWS, Law.SERIAL) if binary else NARY_LAWS
    assert check.laws == wanted
    assert check.refused == 0 or case.rule is all_equal, "a law holds of what is refused; that shows nothing"
    assert binary or said is None


def test_contract_names_every_public_rule() -> None:
    """A rule that is added to the package must be added to the list above, or this fails."""
    public = {name: getattr(mergers, name) for name in mergers.__all__}
    assert set(RULES) == {
        name
        for name, value in public.items()
        if isinstance(value, Rule)
        or (inspect.isfunction(value) and inspect.signature(value).return_annotation == "Rule")
    }


def test_nested_rules_with_an_ancestor_keep_one_order() -> None:
    """Fields with and without need of the ancestor, in one object and under keys, come to one order of both sides."""
    check = check_merger(fieldwise(Bank), Bank, max_examples=150)
    assert check.laws == (*ANCESTRAL_LAWS, Law.SERIAL)


# -- what the check itself sees ----------------------------------------------------------------------------------------


@attrs.define
class Log:
    entries: list[str] = attrs.field(factory=list)


def by_the_end(a: Log, b: Log, ancestor: Log) -> Log:
    """Sort what both added, entry by entry: symmetric, and loses nothing, but tears blocks apart."""
    added = sorted(a.entries[len(ancestor.entries) :] + b.entries[len(ancestor.entries) :])
    if a == ancestor or b == ancestor:
        return Log(list(b.entries if a == ancestor else a.entries))
    return Log(ancestor.entries + added)


def appended(changed: Log, ancestor: Log, onto: Log) -> Log:
    return Log(onto.entries + changed.entries[len(ancestor.entries) :])


def test_check_with_a_serial_order_refutes_a_merger_that_tears_blocks_apart() -> None:
    """Without it the merger stands; with it the law names both results."""
    logs = st.builds(Log, st.lists(st.sampled_from("abc"), max_size=3))
    assert Law.SERIAL not in check_merger(by_the_end, logs, ancestors=[Log()]).laws
    with pytest.raises(MergerError, match="gives what handling the messages in no order gives") as caught:
        check_merger(by_the_end, logs, ancestors=[Log()], serial=appended)
    assert caught.value.law == "serial"
    assert [result.call for result in caught.value.results] == ["merge(a, a, ancestor)", "a after a"]
    assert caught.value.states == (Log(["a", "b"]), Log())


def test_check_of_a_serial_order_for_siblings_alone_is_refused() -> None:
    """Siblings that are merged without ancestor have no changes to put into an order."""
    with pytest.raises(Exception, match="takes siblings and no ancestor; leave serial= out"):
        check_merger(fieldwise(Quote, amount=highest, at=highest), serial=appended)


def test_decimal_context_of_a_thread_changes_no_sum() -> None:
    """Two workers whose decimal contexts differ merge alike."""
    State = attrs.make_class("State", {"value": attrs.field(type=Decimal)})  # noqa: N806
    merge = fieldwise(State, value=additions)
    with decimal.localcontext() as context:
        context.prec = 2
        assert merge(State(Decimal("100.01")), State(Decimal("100.10")), State(Decimal(100))).value == Decimal("100.11")
