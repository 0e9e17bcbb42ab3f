"""Ready-made mergers: pure functions over the standard library and attrs."""

from mergers.binding import Rule, rule
from mergers.containers import by_key, nested, union
from mergers.errors import MergerDefinitionError, UnmergeableError
from mergers.fieldwise import FieldwiseMerger, fieldwise
from mergers.rules import all_equal, all_true, any_true, either, first_of, highest, latest, lowest

__all__ = [
    "FieldwiseMerger",
    "MergerDefinitionError",
    "Rule",
    "UnmergeableError",
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
    "rule",
    "union",
]
