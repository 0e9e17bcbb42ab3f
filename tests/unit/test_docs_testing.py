"""docs/testing.md and mergers.md: what is promised beside what their blocks print."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

import mergers
from mergers import AncestralMerger, Rule, fieldwise
from tests.documents import ROOT, Execution, blocks, run

DOCS: Final = ROOT / "docs"
TEXT: Final = (DOCS / "testing.md").read_text(encoding="utf-8")
MERGERS: Final = (DOCS / "mergers.md").read_text(encoding="utf-8")


def test_tutorial_reports_a_test_that_fails_until_the_mend(tmp_path: Path) -> None:
    """The test at the end of the report, pasted, is a counter-example before the mend and passes after it."""
    execution = Execution(tmp_path)
    before, mended, after = TEXT.partition(next(f"```diff\n{body}```" for body in blocks(TEXT, "diff")))
    saga = blocks(before, "python")[0]
    report = blocks(before, "text")[-1]
    execution.rewritten(f"```python\n{saga}```\n")
    (tmp_path / "test_pasted.py").write_text(textwrap.dedent(report.partition("as a test:\n")[2]), encoding="utf-8")
    assert after
    pasted = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pasted.py")
    assert "1 failed" in run(tmp_path, *pasted).stdout
    execution.rewritten(mended)
    assert "1 passed" in run(tmp_path, *pasted).stdout


def test_tutorial_forks_a_saga_in_ten_lines() -> None:
    """The whole file that forks a saga on purpose, imports included, has ten lines at most."""
    (race,) = (body for body in blocks(TEXT, "python") if body.startswith("# test_race.py\n"))
    assert ".together(" in race
    assert len(race.splitlines()) - 1 <= 10


_ROW: Final = r"^\| .*? \| `([^`]+)`.* \| (yes|no|as that rule) \| `([^`]+)`, `([^`]+)` of `([^`]+)`: `([^`]+)`"
ROWS: Final = re.findall(_ROW, MERGERS, re.MULTILINE)


@pytest.mark.parametrize(("rule", "needs_ancestor", "a", "b", "ancestor", "merged"), ROWS)
def test_table_of_rules_gives_what_the_rules_give(
    rule: str, needs_ancestor: str, a: str, b: str, ancestor: str, merged: str
) -> None:
    """Each row with values is merged as it says, and says rightly whether the rule needs the ancestor."""
    state = attrs.make_class("State", ["value"])
    merge: Any = fieldwise(state, value=eval(rule, vars(mergers).copy()))
    first, second, origin = (state(ast.literal_eval(each)) for each in (a, b, ancestor))
    if isinstance(merge, AncestralMerger):
        assert needs_ancestor == "yes"
        found = merge(first, second, origin)
    else:
        assert needs_ancestor != "yes"
        found = merge([first, second])
    assert found.value == ast.literal_eval(merged)


def test_table_of_rules_names_each_of_them() -> None:
    """Whoever looks for a rule finds it in the table, mostly with values that are tried above."""
    table = "".join(line for line in MERGERS.splitlines() if line.startswith("| "))
    public = {name: getattr(mergers, name) for name in mergers.__all__}
    rules = {name for name, value in public.items() if isinstance(value, Rule) or inspect.isfunction(value)}
    assert {name for name in rules - {"fieldwise"} if f"`{name}" not in table} == set()
    assert len(ROWS) == 13
