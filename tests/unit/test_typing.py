"""User code as in the documentation passes a strict type checker, and runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests import servers
from tests.typing.messages_and_sagas import make_bus, run

ROOT = Path(__file__).resolve().parents[2]


def test_user_code_passes_mypy_strict(tmp_path: Path) -> None:
    """Messages are dataclasses to a checker, states keep their type, and decorators return what they were given."""
    if shutil.which("mypy", path=str(Path(sys.executable).parent)) is None:
        servers.missing("there is no mypy beside this Python")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache"), "tests/typing"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stdout


def test_user_code_runs() -> None:
    """What type-checks works as well."""
    bus = make_bus()
    assert run(bus) == 2
    bus.worker().run_until_idle()
    assert [(row.key.id, row.lifecycle.value) for row in bus.store.sagas()] == [("43", "completed")]
