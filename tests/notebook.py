"""One namespace for the Python of one page, in a process of its own.

Run as a program it reads requests, one JSON array a line: the name of a block, its code, and what is new in the
environment; and answers each with a line: an empty string, or the traceback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field


@define
class Notebook:
    """Blocks that run one after the other, each with what those before it have defined."""

    folder: Path
    env: Mapping[str, str]
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def run(self, name: str, code: str, env: Mapping[str, str]) -> None:
        """Run *code*, called *name* in tracebacks.

        Raises:
            AssertionError: it raised; the text is the traceback.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.notebook"],
                cwd=self.folder,
                env=self.env,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, code, dict(env)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{name}: the process ended"
        assert not json.loads(answer), json.loads(answer)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate(timeout=30)


def main() -> None:
    """Answer requests until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.path.insert(0, os.getcwd())
    page = sys.modules["page"] = types.ModuleType("page")
    for line in sys.stdin:
        name, code, env = json.loads(line)
        os.environ.update(env)
        problem = ""
        try:
            exec(compile(code, name, "exec", dont_inherit=True), vars(page))
        except Exception:
            problem = traceback.format_exc()
        answers.write(json.dumps(problem) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
