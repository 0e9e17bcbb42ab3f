"""docs/sagas/transfer.md names every reason and every step."""

from __future__ import annotations

from typing import Final

from sagas.transfer import Reason, Stage, leg_key
from sagas.transfer.bank import TRIES
from sagas.transfer.saga import Phase
from tests.documents import ROOT

PATH: Final = ROOT / "docs" / "sagas" / "transfer.md"
TEXT: Final = PATH.read_text(encoding="utf-8")


def test_page_names_every_reason_and_every_step() -> None:
    """What a user may meet in an event, a leg or a saga is on the page, under its own name."""
    assert [reason for reason in Reason if f"`{reason}`" not in TEXT] == []
    assert [stage for stage in Stage if f"`{stage}`" not in TEXT and f"leg: {stage}" not in TEXT] == [Stage.MOVED]
    for phase in (Phase.RESERVING, Phase.DEPOSITING, Phase.CONFIRMING, Phase.RELEASING):
        assert f"\n    {phase.name} " in TEXT
    assert f"`{leg_key('ID', 'zurich').name}`" in TEXT
    assert TRIES == 8
    assert "up to eight times on the spot" in TEXT
