"""The README keeps its word: its saga runs, and the tests that it names exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
    (code, *_) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "readme_app.py").write_text(code, encoding="utf-8")
    env = {**os.environ, "SAGABUS_STORE": "memory:", "SAGABUS_TRANSPORT": "memory:", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _PROOF], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "CreditDecided(customer='42', accepted=True)\n", done.stderr


@pytest.mark.parametrize(("test", "path"), re.findall(r"\[(test_\w+)\]\(([\w/.]+)\)", README))
def test_readme_names_a_test_that_exists(test: str, path: str) -> None:
    """Each row of the guarantees names the test that proves it."""
    assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_readme_links_to_files_that_exist(path: str) -> None:
    """No link leads nowhere."""
    assert (ROOT / path).exists()
