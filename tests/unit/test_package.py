"""`import sagabus` costs next to nothing, and gives every name that it promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sagabus

_FOREIGN = "attr", "attrs", "kombu", "msgspec", "redis", "rich", "structlog"


def test_package_imported_brings_nothing_along() -> None:
    """Whoever loads one module of it (a pytest plugin, a keeper of a server) does not pay for the others."""
    program = f"import sagabus, sys; print([m for m in sys.modules if m.startswith('sagabus.') or m in {_FOREIGN}])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sagabus.__all__)
def test_package_gives_every_name_that_it_promises(name: str) -> None:
    """A name is imported when it is first asked for, and is the same thing ever after."""
    assert getattr(sagabus, name) is getattr(sagabus, name)
    assert getattr(sagabus, name).__module__.startswith("sagabus.")
    assert name in dir(sagabus)


def test_package_asked_for_another_name_says_so() -> None:
    """What is not there is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="module 'sagabus' has no attribute 'Bos'"):
        _ = sagabus.Bos
