"""The commit rules with one of them dropped, bent, or swapped with its neighbour."""

from __future__ import annotations

import inspect
from typing import Final

from attrs import frozen

from sagabus.store import memory
from sagabus.testing.simulator.sagas import Rules
from tests.simulation.rules_cases import Case

_PARTS: Final = (
    memory.apply_commit,
    memory._refusal,
    memory._copy,
    memory._write,
    memory._set_timers,
    memory._post_merge,
    memory._consume,
    memory._remember,
)
SOURCE: Final = "from __future__ import annotations\n\n" + "\n\n".join(inspect.getsource(part) for part in _PARTS)
"""The rules as they stand in the memory store."""


@frozen
class Mutant:
    """Rules that are wrong in one place, and how that shows.

    Attributes:
        rule: the number of the rule that is broken.
        name: what is wrong.
        changes: each text of the rules' source, and what stands there instead.
        case: the configuration that shows it.
        kind: what it shows as: a kind of failure, or `law NAME`.
    """

    rule: int
    name: str
    changes: tuple[tuple[str, str], ...]
    case: Case
    kind: str

    def rules(self) -> Rules:
        """Return the broken rules."""
        return rules_of(mutated(self.changes))


def mutated(changes: tuple[tuple[str, str], ...]) -> str:
    """Return the rules' source with *changes*, each of which must fit in one place, and change it."""
    source = SOURCE
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the rules"
        assert old != new
        source = source.replace(old, new)
    return source


def rules_of(source: str) -> Rules:
    """Return the rules that *source* defines. They see what the memory store's module sees, and not each other's."""
    namespace = dict(vars(memory))
    exec(compile(source, "<commit rules>", "exec", dont_inherit=True), namespace)
    rules: Rules = namespace["apply_commit"]
    assert rules is not memory.apply_commit
    return rules
