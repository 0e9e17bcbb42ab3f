"""docs/sagas/once.md names what there is, with its defaults."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from attrs import fields

from sagas import Once, OnceRecord, OnceStatus
from sagas.once import TAKEOVER_AFTER
from tests.documents import ROOT

PATH: Final = ROOT / "docs" / "sagas" / "once.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


def test_page_names_what_there_is() -> None:
    """Every status, what operators call, and the default of the time-out."""
    for status in OnceStatus:
        assert f"`{status}`" in TEXT
    for name in ("state", "forget"):
        assert f"import_file.{name}(bus.documents" in TEXT
        assert callable(getattr(Once, name))
    assert "(an hour by default)" in TEXT
    assert timedelta(hours=1) == TAKEOVER_AFTER
    assert {"status", "idempotency_key", "begun_at", "attempts"} <= {a.name for a in fields(OnceRecord)}
