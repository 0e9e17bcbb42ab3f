"""Rules that need the ancestor: what both sides changed is in the merged state, as if one had come after the other."""

from __future__ import annotations

import copy
import datetime
import inspect
import pickle
from decimal import Decimal
from typing import Annotated, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergers import (
    AncestralMerger,
    FieldwiseMerger,
    MergerDefinitionError,
    Rule,
    StateMerger,
    UnmergeableError,
    add_wins,
    additions,
    by_key,
    fieldwise,
    highest,
    latest,
    nested,
    remove_wins,
    rule_with_ancestor,
    union,
)
from sagabus.saga import Saga, starts
from tests.sagas_for_tests import Note


@rule_with_ancestor
def capped(a: int, b: int, ancestor: int | None) -> int:
    return min(a + b - (ancestor or 0), 10)


@attrs.define
class Purse:
    cents: Annotated[int, additions] = 0
    coins: Annotated[list[str], additions] = attrs.field(factory=list)
    bills: Annotated[list[str], additions] = attrs.field(factory=list)


@attrs.define
class Trip:
    """One field for each rule that needs the ancestor, beside rules that do not."""

    visits: Annotated[int | None, additions] = None
    spent: Annotated[dict[str, Decimal], by_key(additions)] = attrs.field(factory=dict)
    route: Annotated[list[str], additions] = attrs.field(factory=list)
    log: Annotated[tuple[str, ...], additions] = ()
    people: Annotated[set[str], add_wins] = attrs.field(factory=set)
    points: Annotated[int | None, capped] = None
    purse: Annotated[Purse | None, nested] = None
    purses: Annotated[dict[str, Purse], by_key(nested)] = attrs.field(factory=dict)
    best: Annotated[int | None, highest] = None
    said: Annotated[str | None, latest(by="said_at")] = None
    said_at: Annotated[int | None, highest] = None


merge_trips = fieldwise(Trip)

words = st.lists(st.sampled_from("abc"), max_size=3)
small = st.integers(0, 3)
purses = st.builds(Purse, small, words, words)
trips = st.builds(
    Trip,
    visits=st.none() | small,
    spent=st.dictionaries(st.sampled_from("xy"), st.sampled_from([Decimal("0.5"), Decimal("1.00"), Decimal(2)])),
    route=words,
    log=words.map(tuple),
    people=st.sets(st.sampled_from("abc")),
    points=st.none() | small,
    purse=st.none() | purses,
    purses=st.dictionaries(st.sampled_from("xy"), purses, max_size=2),
    best=st.none() | small,
    said=st.none() | st.sampled_from("ab"),
    said_at=st.none() | small,
)


def merging(wanted: Rule, hint: Any = Any) -> Any:
    """Return a function that merges two single values and their ancestor by *wanted*."""
    state = attrs.make_class("State", {"value": attrs.field(type=hint)})
    merge = fieldwise(state, value=wanted)
    assert isinstance(merge, AncestralMerger)
    return lambda a, b, ancestor: merge(state(a), state(b), state(ancestor)).value


@given(trips, trips, trips)
def test_ancestral_merger_is_symmetric_and_equal_to_a_serial_order(a: Trip, b: Trip, ancestor: Trip) -> None:
    """It makes no difference which side is named first, and the whole state is that of one order of both sides."""
    before = copy.deepcopy((a, b, ancestor))
    merged = merge_trips(a, b, ancestor)
    assert merged == merge_trips(b, a, ancestor)
    assert merged in (merge_trips.replayed(a, ancestor, onto=b), merge_trips.replayed(b, ancestor, onto=a))
    assert (a, b, ancestor) == before


@given(trips, trips)
def test_ancestral_merger_where_one_side_changed_nothing_keeps_the_other(changed: Trip, ancestor: Trip) -> None:
    """What messages can make of the ancestor stands as it is beside an unchanged sibling."""
    descendant = merge_trips.replayed(changed, ancestor, onto=ancestor)
    assert merge_trips(descendant, ancestor, ancestor) == merge_trips(ancestor, descendant, ancestor) == descendant
    for name in ("people", "points", "visits"):
        before, said = getattr(ancestor, name), getattr(changed, name)
        assert getattr(descendant, name) == (before if said is None else said)


@given(st.data())
def test_additions_of_lists_are_some_order_of_removals_and_appends(data: st.DataObject) -> None:
    """Each side removes some entries and appends a block: the blocks stay whole, what either removed is gone."""
    ancestor = data.draw(st.lists(st.integers(0, 5), unique=True))
    blocks = st.lists(st.integers(6, 8), max_size=3)
    gone_a, gone_b = data.draw(st.sets(st.sampled_from(range(6)))), data.draw(st.sets(st.sampled_from(range(6))))
    added_a, added_b = data.draw(blocks), data.draw(blocks)
    a = [entry for entry in ancestor if entry not in gone_a] + added_a
    b = [entry for entry in ancestor if entry not in gone_b] + added_b
    kept = [entry for entry in ancestor if entry not in gone_a | gone_b]
    first, second = sorted([added_a, added_b])
    if not first:
        first, second = second, first
    assert merging(additions)(a, b, ancestor) == kept + first + second


@pytest.mark.parametrize(
    ("wanted", "a", "b", "ancestor", "merged"),
    [
        (additions, 3, 5, 1, 7),
        (additions, -2, 4, 1, 1),
        (additions, 2**80, 5, 1, 2**80 + 4),
        (additions, 0.1, 0.2, 0.0, 0.1 + 0.2),
        (additions, 0.7, 0.1, 0.1, 0.7),
        (additions, 3, 0.5, 0, 3.5),
        (additions, Decimal("1.10"), Decimal("2.2"), Decimal(1), Decimal("2.30")),
        (additions, Decimal(0), Decimal("0.5"), Decimal("0.5"), Decimal(0)),
        (additions, datetime.timedelta(3), datetime.timedelta(5), datetime.timedelta(1), datetime.timedelta(7)),
        (additions, 3, 5, None, 8),
        (additions, None, 5, 1, 5),
        (additions, None, None, 1, None),
        (additions, ["x", "b"], ["x", "a"], ["x"], ["x", "a", "b"]),
        (additions, ["z", "a"], ["c", "b"], [], ["c", "b", "z", "a"]),
        (additions, ("a",), ("a",), (), ("a", "a")),
        (additions, ["y"], ["x", "y", "w"], ["x", "y"], ["y", "w"]),
        (additions, ["a"], ["b"], None, ["a", "b"]),
        (additions, ["x", "p"], ["p", "x"], ["p"], ["p", "x", "x"]),
        (additions, [{"n": [2]}], [{"n": [1]}], [], [{"n": [1]}, {"n": [2]}]),
        (add_wins, {"y", "a"}, {"x", "y", "b"}, {"x", "y"}, {"y", "a", "b"}),
        (add_wins, set(), {"x", "b"}, {"x"}, {"b"}),
        (add_wins, {"a"}, {"b"}, None, {"a", "b"}),
        (add_wins, frozenset("a"), None, frozenset("b"), frozenset("a")),
        (capped, 8, 7, 2, 10),
        (capped, 99, 7, 7, 99),
        (capped, 3, 4, None, 7),
        (by_key(additions), {"x": 3}, {"x": 5, "y": 1}, {"x": 1}, {"x": 7, "y": 1}),
        (by_key(additions), {"x": 2}, {"x": 3}, {}, {"x": 5}),
        (by_key(additions), {}, {"x": 3}, {"x": 1}, {"x": 3}),
        (by_key(additions), {}, {}, {"x": 1}, {}),
        (by_key(by_key(add_wins)), {"x": {1: {1}}}, {"x": {1: {2}}}, {"x": {1: set()}}, {"x": {1: {1, 2}}}),
        (by_key(additions), {"x": [2], "y": [1]}, {"x": [1], "y": [2]}, {}, {"x": [1, 2], "y": [2, 1]}),
    ],
)
def test_rule_with_an_ancestor_makes_both_changes(wanted: Rule, a: Any, b: Any, ancestor: Any, merged: Any) -> None:
    """Both ways to name the sides give the ancestor with what each side changed, to the last digit."""
    for found in (merging(wanted)(a, b, ancestor), merging(wanted)(b, a, ancestor)):
        assert found == merged
        assert repr(found) == repr(merged) or isinstance(merged, set | frozenset | dict)


def test_additions_to_a_list_that_was_merged_before_lose_no_removal() -> None:
    """Where an earlier merge put entries between those of the ancestor, a removal still finds its entry."""
    assert merging(additions)(["p", "x", "y", "z"], ["p"], ["p", "y"]) == ["p", "x", "z"]
    assert merging(additions)(["p", "x", "y", "z"], ["p", "y", "w"], ["p", "y"]) == ["p", "y", "w", "x", "z"]


def test_additions_to_several_lists_put_the_sides_into_one_order() -> None:
    """No order of two messages gives one list by the one order, and another by the other."""
    one, other = Purse(1, ["a"], ["z"]), Purse(2, ["b"], ["y"])
    assert fieldwise(Purse)(other, one, Purse()) == Purse(3, ["a", "b"], ["z", "y"])


def test_merged_state_shares_nothing_with_its_siblings() -> None:
    """What happens to the merged state later reaches no sibling."""
    state = attrs.make_class("State", {"rows": attrs.field(type=list), "marks": attrs.field(type=dict)})
    merge = fieldwise(state, rows=additions, marks=by_key(rule_with_ancestor(lambda a, b, ancestor: a)))
    a, b, ancestor = state([[1]], {"x": [1]}), state([[2]], {}), state([], {})
    merged = merge(a, b, ancestor)
    for entry in [*merged.rows, *merged.marks.values()]:
        entry.append(9)
    assert (a, b, ancestor) == (state([[1]], {"x": [1]}), state([[2]], {}), state([], {}))


def test_fieldwise_becomes_binary_as_soon_as_one_rule_needs_the_ancestor() -> None:
    """Also where that rule stands deep inside, or in a class that nests itself; the signature says which it is."""

    @attrs.define
    class Leaf:
        count: Annotated[int, additions] = 0

    @attrs.define
    class Branch:
        leaves: Annotated[dict[str, dict[str, Leaf]], by_key(by_key(nested))] = attrs.field(factory=dict)

    @attrs.define
    class Node:
        child: Annotated[Node | None, nested] = None
        count: Annotated[int, additions] = 0

    for state in (Leaf, Branch, Node):
        merger: StateMerger[Any] = fieldwise(state)
        assert isinstance(merger, AncestralMerger)
        assert list(inspect.signature(merger).parameters) == ["a", "b", "ancestor"]
        assert merger.state_type is state
    plain = fieldwise(Leaf, count=highest)
    assert isinstance(plain, FieldwiseMerger)
    assert list(inspect.signature(plain).parameters) == ["siblings"]
    deep = Node(Node(None, 5), 1), Node(Node(Node(), 2), 2), Node(Node(None, 1))
    assert fieldwise(Node)(*deep) == Node(Node(Node(), 6), 3)


def test_saga_takes_either_kind() -> None:
    """The runtime sees from the merger which kind it is."""

    class Walk(Saga[Purse], merger=fieldwise(Purse)):
        @starts
        def noted(self, m: Note) -> None:
            self.state.cents += 1

    class Race(Saga[Purse], merger=fieldwise(Purse, cents=highest, coins=highest, bills=highest)):
        @starts
        def noted(self, m: Note) -> None:
            self.state.cents += 1

    assert [saga.__saga__ and saga.__saga__.ancestral for saga in (Walk, Race)] == [True, False]


@pytest.mark.parametrize(
    ("wanted", "a", "b", "ancestor", "path", "reason"),
    [
        (additions, True, True, False, "value", "additions counts nothing in bool; use any_true or all_true"),
        (additions, True, None, None, "value", "additions counts nothing in bool"),
        (additions, 1, "a", 0, "value", "additions is for numbers, or lists, of one type"),
        (additions, [1], (2,), [], "value", "of one type"),
        (additions, Decimal(1), 0.5, 0, "value", "of one type"),
        (additions, float("nan"), 1.0, 1.0, "value", "nothing can be added to NaN or infinity; store None instead"),
        (additions, Decimal("Infinity"), Decimal(1), Decimal(1), "value", "nothing can be added to NaN"),
        (additions, 1.7e308, 1.7e308, 0.0, "value", "their sum is out of range"),
        (additions, Decimal("1e2000"), Decimal("1e-9"), Decimal(0), "value", "their sum is out of range"),
        (additions, [object()], [object()], [], "value", "which of them goes first cannot be told"),
        (add_wins, {1}, [1], set(), "value", "add_wins is for sets"),
        (capped, 1, "a", 2, "value", "capped cannot merge them"),
        (by_key(additions), {"a": 1}, [1], {}, "value", "by_key is for mappings"),
        (by_key(by_key(additions)), {"a": {1: 1}}, {"a": {1: "x"}}, {}, "value['a'][1]", "of one type"),
    ],
)
def test_rule_with_an_ancestor_that_cannot_merge_says_where_and_why(
    wanted: Rule, a: Any, b: Any, ancestor: Any, path: str, reason: str
) -> None:
    """The error carries the path to the values, and the next step."""
    for left, right in ((a, b), (b, a)):
        with pytest.raises(UnmergeableError, match="siblings say") as caught:
            merging(wanted)(left, right, ancestor)
        assert caught.value.field == path
        assert reason in caught.value.reason
    if "goes first" not in reason:
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_nested_additions_that_cannot_be_made_name_the_whole_path() -> None:
    """A contradiction deep inside is named from the state down."""
    wrong: Any = "three"
    with pytest.raises(UnmergeableError) as caught:
        merge_trips(Trip(purses={"x": Purse(wrong)}), Trip(purses={"x": Purse(2)}), Trip(purses={"x": Purse()}))
    assert caught.value.field == "purses['x'].cents"


def test_ancestral_merger_of_foreign_states_refuses_them() -> None:
    """Siblings or an ancestor of another class are errors."""
    for states in ((Purse(), Trip(), Trip()), (Trip(), Trip(), Purse())):
        with pytest.raises(TypeError, match="a merger of Trip was given Purse; make one"):
            merge_trips(*states)


@pytest.mark.parametrize(
    ("hint", "mend"),
    [
        (Annotated[bool, additions], "its values are bool; additions is for int, float, Decimal, timedelta, list and "),
        (Annotated[set[int] | None, additions], "its values are set; additions is for int"),
        (Annotated[str, additions], "its values are str; additions is for int"),
        (Annotated[tuple[int, int], additions], "its tuples have a fixed length"),
        (Annotated[dict[str, bool], by_key(additions)], "any_true is for bool"),
        (Annotated[list[int], add_wins], "its values are list; add_wins is for sets"),
        (Annotated[list[int], remove_wins(removed="gone")], "its values are list; remove_wins(removed='gone') is for"),
    ],
)
def test_rule_on_a_field_that_it_is_not_for_says_what_to_write(hint: Any, mend: str) -> None:
    """Each definition error names the class, the field and the mend."""
    state = attrs.make_class("State", {"value": attrs.field(type=hint), "gone": attrs.field(type=set)})
    with pytest.raises(MergerDefinitionError) as caught:
        fieldwise(state, gone=union)
    assert str(caught.value).startswith("State.value: ")
    assert mend in str(caught.value)


# -- remove_wins ---------------------------------------------------------------------------------------------------


@attrs.define
class Guests:
    names: Annotated[set[str] | None, remove_wins(removed="gone")] = attrs.field(factory=set)
    gone: Annotated[set[str] | None, union] = attrs.field(factory=set)


@pytest.mark.parametrize(
    ("siblings", "names"),
    [
        ([Guests({"a", "b"}), Guests({"a"}, {"b"})], {"a"}),
        ([Guests({"a"}), Guests({"b"}), Guests(set(), {"a"})], {"b"}),
        ([Guests({"a"}), Guests({"b"})], {"a", "b"}),
        ([Guests(None, {"a"}), Guests({"a", "b"}, None)], {"b"}),
        ([Guests(None), Guests(None, None)], None),
    ],
)
def test_remove_wins_keeps_nobody_that_a_sibling_removed(siblings: list[Guests], names: set[str] | None) -> None:
    """Removed once is removed for ever, whoever still has the member."""
    merge = fieldwise(Guests)
    assert merge(siblings).names == merge(siblings[::-1]).names == names


@pytest.mark.parametrize(
    ("keywords", "mend"),
    [
        ({"names": remove_wins(removed="left")}, "names no field of the class; it has only: names, gone"),
        ({"gone": add_wins}, "remove_wins(removed='gone') needs gone to be merged by union, not add_wins"),
        ({"names": by_key(remove_wins(removed="gone"))}, "put both sets into an attrs class of their own"),
    ],
)
def test_remove_wins_without_its_field_says_what_to_write(keywords: dict[str, Rule], mend: str) -> None:
    """The field beside must be there, and merged so that nothing of it is ever lost."""
    state = attrs.make_class("State", {name: attrs.field() for name in ("names", "gone")})
    with pytest.raises(MergerDefinitionError) as caught:
        fieldwise(state, **{"names": remove_wins(removed="gone"), "gone": union, **keywords})
    assert mend in str(caught.value)
