"""The reference is whole: each public name has a place in it, and it names nothing else."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.pages import ROOT, text_of

PAGES = {"sagabus": "sagabus.md", "sagabus.testing": "testing.md", "mergers": "mergers.md", "sagas": "sagas.md"}
_DOCUMENTED = re.compile(r"^\.\. auto(?:class|function|data|exception):: ([\w.]+)$", re.MULTILINE)


@pytest.mark.parametrize("package", PAGES)
def test_reference_has_every_public_name(package: str) -> None:
    """What can be imported can be looked up; errors are on the page of errors."""
    module = importlib.import_module(package)
    documented = set(_DOCUMENTED.findall(text_of(f"docs/reference/{PAGES[package]}")))
    errors = {name for name in module.__all__ if getattr(module, name).__module__ == "sagabus.errors"}
    assert {f"{package}.{name}" for name in set(module.__all__) - errors} <= documented


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs" / "reference").glob("*.md")))
def test_reference_names_only_what_there_is(page: str) -> None:
    """Sphinx would warn; this says it sooner."""
    for name in _DOCUMENTED.findall(text_of(f"docs/reference/{page}")):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
