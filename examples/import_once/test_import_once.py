"""A file is imported once: with killed workers at full size, and an hour later on a clock turned by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.import_once import service
from examples.import_once.app import FilePublished, open_imports
from examples.import_once.run import Audit
from examples.import_once.service import Call, ImportService
from sagabus import Bus
from sagabus.store.memory import MemoryStore
from transports.memory import MemoryTransport

ROOT = Path(__file__).parents[2]
LAST_LINE = re.compile(
    r"keys=100 notifications=2000 imports=100 calls=(\d+) repeats=(\d+) kills=(\d+) again=0 seconds=\d+\.\d"
)


@pytest.mark.chaos
def test_hundred_files_announced_twenty_times_are_imported_once_each_while_workers_are_killed(tmp_path: Path) -> None:
    """Four processes, one killed a second: a hundred imports as the service counts, none by the republication."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SAGABUS_", "IMPORT_ONCE_"))}
    run = subprocess.run(
        [sys.executable, "-m", "examples.import_once"],
        cwd=tmp_path,
        env=inherited | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    found = LAST_LINE.fullmatch(run.stdout.splitlines()[-1] if run.stdout else "")
    assert found, f"{run.stdout}\n{run.stderr}"
    calls, repeats, kills = map(int, found.groups())
    assert run.returncode == 0, run.stderr
    assert kills > 0, "nobody was killed: the run shows nothing"
    assert calls == 100 + repeats


def test_file_published_again_an_hour_later_is_not_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is done for good, and a year is no different from an hour."""
    monkeypatch.setattr(service, "WORK_S", 0.0)
    now_s = 1_700_000_000.0
    importer = ImportService.create(tmp_path / "imports.sqlite3")
    with Bus(MemoryStore(now_ms=lambda: round(now_s * 1000)), MemoryTransport(clock=lambda: now_s)) as bus:
        import_file = open_imports(bus, importer)
        for pause_s in (0, 3600, 365 * 86_400):
            now_s += pause_s
            for _ in range(20):
                bus.publish(FilePublished("inbox/a.csv"))
            bus.worker().run_until_idle()
            assert [call.path for call in importer.calls()] == ["inbox/a.csv"]
            assert not any(queue.depth for queue in bus.transport.queues())
        state = import_file.state(bus.documents, "inbox/a.csv")
        assert state is not None
        assert state.status == "done"


def test_service_counts_by_idempotency_key_and_logs_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat under the same key is a call and no import; under another it would be a second import."""
    monkeypatch.setattr(service, "WORK_S", 0.0)
    importer = ImportService.create(tmp_path / "imports.sqlite3")
    for key in ("1", "1", "2"):
        importer.import_("a.csv", idempotency_key=key)
    assert importer.imports() == ["a.csv", "a.csv"]
    assert [(call.idempotency_key, call.pid, call.ended) for call in importer.calls()] == [
        (key, os.getpid(), True) for key in ("1", "1", "2")
    ]


@pytest.mark.parametrize(
    ("imports", "calls", "done", "trouble"),
    [
        (["a"], [("a", "1", 10)], 1, None),
        (["a"], [("a", "1", 66), ("a", "1", 10)], 1, None),
        ([], [("a", "1", 66)], 0, "0 imports for 1 files"),
        (["a"], [("a", "1", 10)], 0, "0 of 1 files are recorded as done"),
        (["a", "a"], [("a", "1", 66), ("a", "2", 10)], 1, "a was asked for under several idempotency keys"),
        (["a"], [("a", "1", 10), ("a", "1", 11)], 1, "a was asked for again, though nobody was killed over it"),
    ],
)
def test_audit_names_what_is_not_as_promised(
    imports: list[str], calls: list[tuple[str, str, int]], done: int, trouble: str | None
) -> None:
    """The run fails where a file is lost, imported twice, or asked for again without need; 66 was killed."""
    audit = Audit(imports, [Call(*call, ended=True) for call in calls], done)
    assert trouble in audit.troubles(["a"], [66]) if trouble else audit.troubles(["a"], [66]) == []
