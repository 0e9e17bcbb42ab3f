"""The README's saga decides, written by hand and as a quorum."""

from __future__ import annotations

from pathlib import Path

from tests.documents import ROOT, blocks, run

README = (ROOT / "README.md").read_text(encoding="utf-8")


_PROOF = """
from readme_app import CheckCredit, CreditDecided, bus

ledger = bus.endpoint("ledger")

@ledger.consumer
def entered(decision: CreditDecided) -> None:
    print(decision)

bus.send(CheckCredit(customer="42"), to="credit")
bus.worker().run_until_idle()
"""


def test_readme_saga_runs_and_decides(tmp_path: Path) -> None:
    """The first code block is a whole program: copied as it stands, it decides a credit check once."""
    code, *_ = blocks(README, "python")
    (tmp_path / "readme_app.py").write_text(code, encoding="utf-8")
    done = run(tmp_path, "-c", _PROOF, env={"SAGABUS_STORE": "memory:", "SAGABUS_TRANSPORT": "memory:"})
    assert done.stdout == "CreditDecided(customer='42', accepted=True)\n", done.stderr


_VERDICT = """
from sagabus.testing import SagaHarness
from quorum_app import CreditQuorum
from yourapp import CheckCredit, ScoreReported

check = SagaHarness(CreditQuorum)
check.give(CheckCredit("42"))
check.together(ScoreReported("equifax", 710), ScoreReported("experian", 705))
print(check.decisions)
"""


def test_readme_quorum_decides_alike(tmp_path: Path) -> None:
    """The third code block is the first saga once more, and forks and decides as that does."""
    app, _, quorum = blocks(README, "python")
    (tmp_path / "yourapp.py").write_text(app, encoding="utf-8")
    (tmp_path / "quorum_app.py").write_text(quorum, encoding="utf-8")
    done = run(tmp_path, "-c", _VERDICT)
    assert done.stdout == "[CreditDecided(customer='42', accepted=True)]\n", done.stderr


def test_readme_leads_to_every_page() -> None:
    """No page is known to those alone who built the site."""
    own = {"index.md", "readme.md", "changelog.md", "contributing.md"}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - own
    assert {name for name in pages if f"(docs/{name}" not in README} == set()
