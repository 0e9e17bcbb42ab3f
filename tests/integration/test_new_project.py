"""A generated project is as good as one written by hand: it passes ruff, and its own tests."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.documents import run

LONGEST = "W" + "i" * 19


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh project with three sagas added to it, one of them with the longest names."""
    folder = tmp_path_factory.mktemp("projects")
    done = run(folder, "-m", "sagabus", "init", "shop")
    assert done.returncode == 0, done.stderr
    project = folder / "shop"
    for saga in (("RefundOrder", "--key", "order"), ("alpha",), (LONGEST, "--key", "k" * 20)):
        done = run(project / "shop", "-m", "sagabus", "new", "saga", *saga)
        assert done.returncode == 0, done.stderr
    return project


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_generated_code_passes_ruff(project: Path, command: tuple[str, ...]) -> None:
    """By the rules that the project itself brings: imports sorted, lines short, formatted."""
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
    done = subprocess.run(ruff, cwd=project, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_generated_tests_pass(project: Path) -> None:
    """Harness, exploration and merger laws hold for what `new saga` writes; docs/starting.md runs those of `init`."""
    done = run(project, "-m", "pytest", "-q", "tests/test_refund_order.py", f"tests/test_{LONGEST.lower()}.py")
    assert "\n6 passed" in done.stdout, done.stdout
    assert "\nsagabus: 2 explorations, " in done.stdout


_RUN = """
from shop.app import bus
from shop.shipping import ShipOrder

bus.send(ShipOrder("42"), to="shipping")
bus.worker().run_until_idle()
print(*bus.endpoints)
"""


def test_generated_app_runs_with_every_saga_on_it(project: Path) -> None:
    """An order goes out to three carriers and comes back to the desk; new sagas are on the bus."""
    done = run(project, "-c", _RUN, env={"SAGABUS_STORE": "memory:", "SAGABUS_TRANSPORT": "memory:"})
    first, endpoints = done.stdout.splitlines()
    assert first.startswith("order 42 goes with "), done.stderr
    assert {"shipping", "desk", "refund-order", "alpha"} <= set(endpoints.split())


def test_generated_files_say_what_they_need(project: Path) -> None:
    """The project depends on sagabus, names its app, and keeps the store's folder out of git."""
    said = tomllib.loads((project / "pyproject.toml").read_text())
    assert [name.partition(">")[0] for name in said["project"]["dependencies"]] == ["sagabus"]
    assert said["tool"]["sagabus"]["app"] == "shop.app:bus"
    assert ".sagabus/" in (project / ".gitignore").read_text().splitlines()
    for path in project.rglob("*"):
        assert not path.is_file() or "$package" not in path.read_text(errors="replace"), path
