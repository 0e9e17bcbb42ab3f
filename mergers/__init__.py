"""Ready-made mergers: pure functions over the standard library and attrs."""

from mergers.additions import additions
from mergers.binding import Rule, rule, rule_with_ancestor
from mergers.containers import by_key, nested
from mergers.errors import MergerDefinitionError, UnmergeableError
from mergers.fieldwise import AncestralMerger, FieldwiseMerger, StateMerger, fieldwise
from mergers.rules import all_equal, all_true, any_true, either, first_of, highest, latest, lowest
from mergers.sets import add_wins, remove_wins, union

__all__ = [
    "AncestralMerger",
    "FieldwiseMerger",
    "MergerDefinitionError",
    "Rule",
    "StateMerger",
    "UnmergeableError",
    "add_wins",
    "additions",
    "all_equal",
    "all_true",
    "any_true",
    "by_key",
    "either",
    "fieldwise",
    "first_of",
    "highest",
    "latest",
    "lowest",
    "nested",
    "remove_wins",
    "rule",
    "rule_with_ancestor",
    "union",
]
