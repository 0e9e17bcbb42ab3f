"""Shells complete commands, options and apps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sagabus.cli.app_name import apps
from sagabus.cli.group import main

_ASK = """
eval "$(sagabus completion bash)"
for words in "sagabus wor" "sagabus worker sh" "sagabus send shop.app : bus shop.order --t" "sagabus dead ret"; do
    COMP_WORDS=($words)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _sagabus_completion sagabus
    echo "${COMPREPLY[@]}"
done
"""


def test_bash_completes_commands_apps_and_options(tmp_path: Path) -> None:
    """In a real bash, as after the tab key; also behind an app with a colon, which bash takes for three words."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "app.py").write_text("bus = Bus()\n")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-c", _ASK], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["worker", "shop.app", "--to", "retry"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_of_that_shell(shell: str) -> None:
    """What is printed defines how `sagabus` is completed there, and asks sagabus for it."""
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_SAGABUS_COMPLETE={shell}_complete" in done.stdout


def test_completion_of_another_shell_exits_2() -> None:
    """What there is no script for is a usage error."""
    assert CliRunner().invoke(main, ["completion", "csh"]).exit_code == 2


def test_apps_are_those_a_project_names_and_those_that_make_a_bus(tmp_path: Path) -> None:
    """Nothing is imported; a bus of another name is told with it; folders that cannot be packages are passed over."""
    (tmp_path / "pyproject.toml").write_text('[tool.sagabus]\napp = "shop.main:bus"\n')
    for path in ("shop/main.py", "shop/other.py", "shop/__init__.py", ".venv/a.py", "a/b/c/d.py", "no-module.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("raise SystemExit\nbus = Bus()\n")
    (tmp_path / "shop" / "other.py").write_text("first: Bus = sagabus.Bus('memory:')\nif 1:\n    second = Bus()\n")
    assert apps(tmp_path) == ["shop.main", "shop", "shop.other:first"]
