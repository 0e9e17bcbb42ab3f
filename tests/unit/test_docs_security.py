"""docs/security.md keeps its word: its Python runs, and its key can be used."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from sagabus import Keyring
from tests.documents import ROOT

TEXT = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def test_python_of_the_page_runs_with_a_key_as_the_page_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block after the other; `openssl rand -base64 32` prints 32 bytes in base64, and so does this."""
    assert 'SAGABUS_KEYS="2026-11:$(openssl rand -base64 32)"' in TEXT
    monkeypatch.setenv("SAGABUS_KEYS", f"2026-11:{base64.b64encode(bytes(32)).decode()}")
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for block in blocks:
        exec(compile(block, "page", "exec", dont_inherit=True), names)
    with names["bus"] as bus:
        assert bus.signing.keyring == Keyring({"2026-11": bytes(32)})
        assert bus.signing.demand
    assert len(blocks) >= 2
