"""docs/sagas/quorum.md and approval.md have tables of every option and every hook."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import pytest

from sagabus import Saga
from sagas import Approval, Level, Quorum
from tests.documents import ROOT

FOLDER: Final = ROOT / "docs" / "sagas"
PAGES: Final = ("quorum.md", "approval.md")


def text_of(page: str) -> str:
    """Return what a page says."""
    return (FOLDER / page).read_text(encoding="utf-8")


def first_column(text: str, heading: str) -> set[str]:
    """Return the names before any bracket in the first column of the table that begins with *heading*."""
    table = text.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return set(re.findall(r"`(\w+)", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))


@pytest.mark.parametrize(("page", "saga"), [("quorum.md", Quorum), ("approval.md", Approval)])
def test_page_names_every_option_and_every_hook(page: str, saga: type[Saga[Any]]) -> None:
    """The tables are whole, and name nothing that is not there."""
    text = text_of(page)
    options = inspect.signature(saga.__init_subclass__).parameters
    assert first_column(text, "argument") == set(options) - {"options"}
    hooks = {name for name in vars(saga) if not name.startswith("_") and inspect.isfunction(getattr(saga, name))}
    assert first_column(text, "method") == hooks - {"decide", "on_late"}


def test_page_names_every_option_of_a_level() -> None:
    """With its default."""
    parameters = inspect.signature(Level).parameters
    named = first_column(text_of("approval.md"), "`Level(*approvers)`")
    assert named == set(parameters) - {"approvers"}
    for name in named:
        assert f"| `{name}` | `{parameters[name].default}` |" in text_of("approval.md")
